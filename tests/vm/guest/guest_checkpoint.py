"""Runs inside the virtual machine, as root: checkpoints with cgroup v2, systemd and AppArmor."""

# ruff: noqa: F811 (fixtures of another file)

import ctypes
import json
import os
import shutil
import struct
import subprocess
import time
from pathlib import Path

import pytest
from guest_cgroups import (  # noqa: F401
    ROOT,
    SYSTEMCTL,
    bundle,
    cgroup_of,
    managers,
    pyrunc,
    run,
    start,
    wait_until,
)

pytestmark = [
    pytest.mark.skipif(not ROOT, reason="CRIU needs root"),
    pytest.mark.skipif(not shutil.which("criu"), reason="needs CRIU"),
]
PERF_EVENT_OPEN = 298
COUNT = "i=0; while :; do i=$((i+1)); echo $i > /tmp/count; sleep 0.1; done"


@pytest.fixture(scope="module", autouse=True)
def perf_event():
    """Count context switches, for as long as CRIU is at work.

    CRIU sets hardware breakpoints. With the first perf event of a machine the kernel rewrites code
    of its scheduler, and with the last one again. A dump once ended with an oops at the second byte
    of what is rewritten there; perhaps the emulated processors (QEMU 7.2) trip over that. While
    there is an event of ours, none is the first or the last.
    """
    attributes = bytearray(128)
    software, context_switches = 1, 3
    struct.pack_into("IIQ", attributes, 0, software, len(attributes), context_switches)
    buffer = (ctypes.c_char * len(attributes)).from_buffer(attributes)
    libc = ctypes.CDLL(None, use_errno=True)
    event = libc.syscall(PERF_EVENT_OPEN, buffer, 0, -1, -1, 0)
    assert event >= 0, os.strerror(ctypes.get_errno())
    yield
    os.close(event)


def state(program, name):
    return json.loads(run(program, "state", name).stdout)


def number_in(path):
    try:
        return int(path.read_text() or 0)
    except (FileNotFoundError, ValueError):
        return 0


def goes_on(path, least):
    """It counts, and not from its beginning."""
    count = path / "rootfs/tmp/count"
    count.unlink(missing_ok=True)
    end = time.monotonic() + 60
    while not number_in(count):
        assert time.monotonic() < end, "it does not count"
        time.sleep(0.05)
    return number_in(count) >= least


@pytest.fixture
def counting(bundle, pyrunc, request):
    """A function that starts a counting container; all of the test's are removed."""
    path, config = bundle
    config["process"]["args"] = ["sh", "-c", COUNT]
    config["root"]["readonly"] = False
    names = []

    def begin(name, *flags):
        names.append(name)
        start(bundle, name, pyrunc, *flags)
        assert goes_on(path, 1)
        return name

    def save(name, *flags):
        words = ["checkpoint", "--image-path", str(path / "images"), *flags, name]
        done = run(pyrunc, *words, check=False)
        assert done.returncode == 0, (done, (path / "images/dump.log").read_text()[-3000:])

    def restore(name, *flags, globals=(), images="images"):
        names.append(name)
        (path / "config.json").write_text(json.dumps(config))
        words = ["restore", "-d", "--bundle", str(path), "--image-path", str(path / images)]
        with open(path / "restore.err", "w+") as log:
            code = subprocess.run(
                [pyrunc, *globals, *words, *flags, name],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log, check=False,
                timeout=120,
            ).returncode  # fmt: skip
        log = path / images / "restore.log"
        told = log.read_text()[-3000:] if log.exists() else ""
        assert code == 0, ((path / "restore.err").read_text(), told)
        return name

    begin.save, begin.restore = save, restore
    yield begin
    for name in names:
        run(pyrunc, "delete", "--force", name)


@pytest.mark.parametrize("manager", managers())
def test_limits_hold_after_a_restore(bundle, pyrunc, counting, manager):
    path, config = bundle
    flags = ["--systemd-cgroup"] if manager == "systemd" else []
    config["linux"]["cgroupsPath"] = "system.slice:pyrunc:first" if flags else "/first"
    counting("first", *flags)
    counting.save("first")
    before = number_in(path / "rootfs/tmp/count")
    config["linux"]["cgroupsPath"] = "system.slice:pyrunc:second" if flags else "/second"
    counting.restore("second", globals=flags)
    assert goes_on(path, before)
    cgroup = cgroup_of(state(pyrunc, "second")["pid"])
    assert "second" in cgroup.name
    assert (cgroup / "memory.max").read_text() == f"{64 << 20}\n"
    assert (cgroup / "pids.max").read_text() == "20\n"
    if flags:
        shown = run(*SYSTEMCTL, "is-active", "pyrunc-second.scope").stdout
        assert shown == "active\n"
    run(pyrunc, "delete", "--force", "second")
    assert not cgroup.exists()


def test_it_is_paused_while_it_is_saved_and_not_afterwards(bundle, pyrunc, counting):
    path, _ = bundle
    counting("paused")
    counting.save("paused", "--leave-running")
    assert state(pyrunc, "paused")["status"] == "running"
    assert goes_on(path, 1)


def options_of_the_hierarchy():
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        if before.split()[4] == "/sys/fs/cgroup":
            return set(after.split()[2].split(","))
    raise AssertionError("no cgroups")


@pytest.mark.parametrize("namespaced", [True, False])
def test_the_hierarchy_keeps_its_options(bundle, pyrunc, counting, namespaced):
    """Seen: the whole machine lost `nsdelegate` and `memory_recursiveprot` with any checkpoint,
    and with any restore, as CRIU mounts the hierarchy anew; and as a container without a cgroup
    namespace was made."""
    if not namespaced:
        spaces = bundle[1]["linux"]["namespaces"]
        spaces[:] = [space for space in spaces if space["type"] != "cgroup"]
    wanted = {"rw", "nsdelegate", "memory_recursiveprot"}
    run("mount", "-o", f"remount,{','.join(sorted(wanted))}", "/sys/fs/cgroup")
    counting("kept")
    assert options_of_the_hierarchy() == wanted
    counting.save("kept", "--pre-dump")
    assert options_of_the_hierarchy() == wanted
    shutil.rmtree(bundle[0] / "images")
    counting.save("kept")
    assert options_of_the_hierarchy() == wanted
    counting.restore("kept")
    assert options_of_the_hierarchy() == wanted


def test_a_seccomp_filter_is_there_again(bundle, pyrunc, counting):
    path, config = bundle
    config["linux"]["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdirat", "mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 77}],
    }
    config["process"]["args"] = [
        "sh", "-c", f"({COUNT}) & while :; do mkdir /tmp/made; sleep 1; done 2>/dev/null",
    ]  # fmt: skip
    (path / "rootfs/bin/mkdir").symlink_to("busybox")
    counting("first")
    counting.save("first")
    counting.restore("second")
    assert goes_on(path, 1)
    status = Path(f"/proc/{state(pyrunc, 'second')['pid']}/status").read_text()
    assert "Seccomp:\t2" in status
    assert not (path / "rootfs/tmp/made").exists()


#: Some 10 MiB of numbers, a few of which it sets again in each round; it looks at all when told to.
MEMORY = """
BEGIN {
    for (i = 0; i < 100000; i++) a[i] = "number " i
    for (round = 1; ; round++) {
        for (i = 0; i < 10; i++) a[i] = "number " i
        if ((getline word < "/tmp/look") > 0) {
            for (i = 0; i < 100000; i++) if (a[i] != "number " i) exit 1
            print "all there" > "/tmp/seen"
            close("/tmp/seen")
        }
        print round > "/tmp/count"
        close("/tmp/count")
        system("sleep 0.2")
    }
}
"""


@pytest.mark.parametrize("manager", managers())
def test_three_pre_dumps_and_a_dump(bundle, pyrunc, counting, manager):
    """A chain of images, each with what has changed since the one before."""
    path, config = bundle
    flags = ["--systemd-cgroup"] if manager == "systemd" else []
    config["linux"]["cgroupsPath"] = "system.slice:pyrunc:chain" if flags else "/chain"
    config["process"]["args"] = ["awk", MEMORY]
    (path / "rootfs/bin/awk").symlink_to("busybox")
    counting("chain", *flags)
    (path / "images").mkdir()
    parent = []
    for step in ("one", "two", "three", "last"):
        how = ["--stats"] if step == "last" else ["--pre-dump"]
        where = str(path / "images" / step)
        done = run(pyrunc, "checkpoint", *how, "--image-path", where, *parent, "chain", check=False)
        assert done.returncode == 0, done
        parent = ["--parent-path", f"../{step}"]
    assert json.loads(done.stdout)["pagesOfParent"] > 1000
    sizes = [
        sum(pages.stat().st_size for pages in (path / "images" / step).glob("pages-*.img"))
        for step in ("one", "two", "three", "last")
    ]
    assert max(sizes[1:]) < sizes[0] / 2, sizes
    shutil.copytree(path / "images", path / "cut", symlinks=True)
    os.truncate(path / "cut/one/pages-1.img", 4096)
    words = ["restore", "-d", "--bundle", str(path), "--image-path", str(path / "cut/last")]
    refused = run(pyrunc, *flags, *words, "cut", check=False)
    assert refused.returncode == 1
    assert "parent/parent/parent/pages-1.img has 4096 bytes of " in refused.stderr
    before = number_in(path / "rootfs/tmp/count")
    counting.restore("chain", globals=flags, images="images/last")
    assert goes_on(path, before)
    (path / "rootfs/tmp/look").write_text("now\n")
    wait_until((path / "rootfs/tmp/seen").exists, 60)


def profile(tmp_path, name):
    text = tmp_path / name
    text.write_text(f"profile {name} flags=(attach_disconnected) {{ file, signal, unix, }}\n")
    run("apparmor_parser", "--replace", str(text))


def test_an_apparmor_profile_is_there_again(bundle, pyrunc, counting, tmp_path):
    if not Path("/sys/kernel/security/apparmor/profiles").exists():
        pytest.skip("AppArmor is not active")
    path, config = bundle
    profile(tmp_path, "pyrunc-saved")
    profile(tmp_path, "pyrunc-other")
    config["process"]["apparmorProfile"] = "pyrunc-saved"
    counting("first")
    counting.save("first")

    def shown(name):
        pid = state(pyrunc, name)["pid"]
        return Path(f"/proc/{pid}/attr/current").read_text()

    counting.restore("second")
    assert goes_on(path, 1)
    assert shown("second") == "pyrunc-saved (enforce)\n"
    run(pyrunc, "delete", "--force", "second")
    counting.restore("third", "--lsm-profile", "apparmor:pyrunc-other")
    assert goes_on(path, 1)
    assert shown("third") == "pyrunc-other (enforce)\n"


def test_a_profile_for_what_was_saved_without_one_is_refused(bundle, pyrunc, counting, tmp_path):
    """Seen: it ran on unconfined, since CRIU leaves out what had no profile, and says nothing."""
    if not Path("/sys/kernel/security/apparmor/profiles").exists():
        pytest.skip("AppArmor is not active")
    path, _ = bundle
    profile(tmp_path, "pyrunc-other")
    counting("first")
    counting.save("first")
    (path / "rootfs/tmp/count").unlink()
    words = ["restore", "-d", "--bundle", str(path), "--image-path", str(path / "images")]
    refused = run(pyrunc, *words, "--lsm-profile", "apparmor:pyrunc-other", "second", check=False)
    assert refused.returncode == 1
    assert "--lsm-profile apparmor:pyrunc-other has no effect on process" in refused.stderr
    assert "which is 'unconfined'" in refused.stderr
    assert run(pyrunc, "state", "second", check=False).returncode == 1
    assert not (path / "rootfs/tmp/count").exists()
