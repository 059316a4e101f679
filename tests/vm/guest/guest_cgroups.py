"""Runs inside the virtual machine: cgroup v2 with cgroupfs and with systemd, as root or not."""

import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

ROOT = os.geteuid() == 0
FILES = ("memory.max", "memory.swap.max", "memory.low", "cpu.max", "cpu.weight", "pids.max",
         "cpuset.cpus")  # fmt: skip
BOOTSTRAP = (
    "import sys; sys.path.append('/src/src'); sys.argv[0] = 'pyrunc'\n"
    "from pyrunc.cli.main import main; main()"
)
#: What root's containers may map beside root itself.
SUBORDINATE = {"hostID": 100000, "size": 65536}
SYSTEMCTL = ["systemctl"] if ROOT else ["systemctl", "--user"]


def run(*words, check=True):
    done = subprocess.run(
        words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=120
    )
    assert not check or done.returncode == 0, (words, done.stdout, done.stderr)
    return done


@pytest.fixture(scope="session")
def pyrunc(tmp_path_factory):
    """The command, as one executable file."""
    path = tmp_path_factory.mktemp("bin") / "pyrunc"
    path.write_text(f'#!/bin/sh\nexec python3 -I -S -X utf8 -c "{BOOTSTRAP}" "$@"\n')
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def bundle(tmp_path, pyrunc):
    binaries = tmp_path / "rootfs" / "bin"
    binaries.mkdir(parents=True)
    shutil.copy(shutil.which("busybox"), binaries / "busybox")
    for name in ("sh", "sleep", "cat", "true", "dd", "mknod"):
        (binaries / name).symlink_to("busybox")
    (tmp_path / "rootfs" / "tmp").mkdir()
    run(pyrunc, "spec", "--bundle", str(tmp_path), *([] if ROOT else ["--rootless"]))
    config = json.loads((tmp_path / "config.json").read_text())
    config["ociVersion"] = "1.0.2"
    config["process"] |= {"terminal": False, "args": ["sleep", "1000"]}
    config["linux"].setdefault("resources", {}).update(
        memory={"limit": 64 << 20, "swap": 128 << 20, "reservation": 32 << 20},
        cpu={"shares": 1024, "quota": 50000, "cpus": "0"},
        pids={"limit": 20},
    )
    return tmp_path, config


def start(bundle, name, *command):
    path, config = bundle
    (path / "config.json").write_text(json.dumps(config))
    # Not through pipes: the container keeps them open, and nobody would see their end.
    with open(path / "stderr", "w+") as log:
        subprocess.run(
            [*command, "run", "--detach", "--bundle", str(path), name],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            check=False,
        )
    assert (path / "stderr").read_text() == ""


def cgroup_of(pid):
    return Path("/sys/fs/cgroup") / Path(f"/proc/{pid}/cgroup").read_text().strip()[4:]


def values(program, name):
    pid = json.loads(run(program, "state", name).stdout)["pid"]
    return {f: (cgroup_of(pid) / f).read_text().strip() for f in FILES}


def old_weight(shares):
    """The ``cpu.weight`` that runc before 1.3.2 makes of ``cpu.shares``: a straight line."""
    return 1 + (shares - 2) * 9999 // 262142


def with_newer_weight(found, shares):
    """What an older runc has set, with the weight that a newer one makes of these shares."""
    new = {512: "59", 1024: "100"}[shares]
    return found | ({"cpu.weight": new} if found["cpu.weight"] == str(old_weight(shares)) else {})


def managers():
    return ["cgroupfs", "systemd"] if ROOT else ["systemd"]


@pytest.mark.parametrize("manager", managers())
def test_limits_and_their_update_equal_runcs(bundle, pyrunc, manager):
    flags = ["--systemd-cgroup"] if manager == "systemd" else []
    seen = {}
    for program in ("runc", pyrunc):
        name = f"limits-{Path(program).name}-{manager}"
        start(bundle, name, program, *flags)
        try:
            before = values(program, name)
            run(program, *flags, "update", "--memory", "50331648", "--memory-swap", "50331648",
                "--cpu-share", "512", "--pids-limit", "30", name)  # fmt: skip
            seen[program] = before, values(program, name)
        finally:
            run(program, *flags, "delete", "--force", name)
    before, after = seen["runc"]
    runcs = with_newer_weight(before, 1024), with_newer_weight(after, 512)
    assert runcs == seen[pyrunc]


def writable_cgroups(bundle):
    """Let the container manage the cgroups below its own."""
    for mount in bundle[1]["mounts"]:
        if mount["destination"] == "/sys/fs/cgroup":
            mount["options"] = [option for option in mount["options"] if option != "ro"]
    for name in ("mkdir", "true"):
        if not (bundle[0] / "rootfs/bin" / name).exists():
            (bundle[0] / "rootfs/bin" / name).symlink_to("busybox")
    bundle[1]["process"]["env"] = ["PATH=/bin"]


@pytest.mark.skipif(not ROOT, reason="the container has its cgroup to write only as root")
@pytest.mark.parametrize("manager", managers())
def test_exec_follows_init_into_a_cgroup_below(bundle, pyrunc, manager):
    """As soon as there are controllers below, no process may be put into the container's own."""
    flags = ["--systemd-cgroup"] if manager == "systemd" else []
    writable_cgroups(bundle)
    name = f"inner-{manager}"
    start(bundle, name, pyrunc, *flags)
    try:
        move = (
            "cd /sys/fs/cgroup && mkdir inner && "
            "for p in $(cat cgroup.procs); do echo $p > inner/cgroup.procs 2>/dev/null; done; "
            "echo +pids > cgroup.subtree_control"
        )
        run(pyrunc, "exec", name, "sh", "-c", move)
        assert run(pyrunc, "exec", name, "cat", "/proc/self/cgroup").stdout == "0::/inner\n"
        refused = run(pyrunc, "exec", "--cgroup", "/", name, "true", check=False)
        assert refused.returncode != 0
    finally:
        run(pyrunc, *flags, "delete", "--force", name)


@pytest.mark.parametrize("manager", managers())
def test_exec_into_a_chosen_cgroup(bundle, pyrunc, manager):
    if not ROOT:
        pytest.skip("the container has its cgroup to write only as root")
    flags = ["--systemd-cgroup"] if manager == "systemd" else []
    name = f"chosen-{manager}"
    start(bundle, name, pyrunc, *flags)
    try:
        pid = json.loads(run(pyrunc, "state", name).stdout)["pid"]
        (cgroup_of(pid) / "sub").mkdir()
        shown = run(pyrunc, "exec", "--cgroup", "sub", name, "cat", "/proc/self/cgroup").stdout
        assert shown.rstrip().endswith("/sub")
    finally:
        run(pyrunc, *flags, "delete", "--force", name)


@pytest.mark.parametrize("manager", managers())
def test_the_cgroup_is_owned_by_whom_runc_gives_it_to(bundle, pyrunc, manager):
    """With a user namespace and a writable hierarchy (config-linux.md, "Cgroup ownership").

    Without root the container's root has it already.
    """
    user = 1 if ROOT else 0
    flags = ["--systemd-cgroup"] if manager == "systemd" else []
    writable_cgroups(bundle)
    config = bundle[1]
    if ROOT:
        # Ids of the host that can get at a bundle below root's temporary directory, too.
        mapping = [{"containerID": 0, "hostID": 0, "size": 1}, {**SUBORDINATE, "containerID": 1}]
        config["linux"]["namespaces"] += [{"type": "user"}]
        config["linux"] |= {"uidMappings": mapping, "gidMappings": mapping}
    config["process"]["user"] = {"uid": user, "gid": 0}
    seen = {}
    for program in ("runc", pyrunc):
        name = f"owner-{Path(program).name}-{manager}"
        start(bundle, name, program, *flags)
        try:
            cgroup = cgroup_of(json.loads(run(program, "state", name).stdout)["pid"])
            files = [cgroup, *cgroup.iterdir()]
            seen[program] = {f.name if f != cgroup else ".": f.stat().st_uid for f in files}
        finally:
            run(program, *flags, "delete", "--force", name)
    owner = SUBORDINATE["hostID"] if user else os.geteuid()
    assert seen[pyrunc]["."] == owner
    if manager == "systemd":
        assert seen["runc"] == seen[pyrunc]
    else:
        # With this manager runc leaves the cgroup to root (docs/differences-from-runc.md).
        listed = set(Path("/sys/kernel/cgroup/delegate").read_text().split()) & set(seen[pyrunc])
        assert {name for name, uid in seen[pyrunc].items() if uid == owner} == {".", *listed}


def test_a_cgroup_mount_shows_the_container_s_own_read_only(bundle, pyrunc):
    """The type `cgroup` of a config that was written for v1, with and without root."""
    _, config = bundle
    mounts = [m for m in config["mounts"] if m["destination"] != "/sys/fs/cgroup"]
    options = ["nosuid", "noexec", "nodev", "relatime", "ro"]
    mount = {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup"}
    config["mounts"] = [*mounts, mount | {"options": options}]
    if {"type": "cgroup"} not in config["linux"]["namespaces"]:
        config["linux"]["namespaces"].append({"type": "cgroup"})
    flags = [] if ROOT else ["--systemd-cgroup"]
    start(bundle, "seen", pyrunc, *flags)
    try:
        shown = run(pyrunc, "exec", "seen", "cat", "/proc/self/mountinfo").stdout
        # Without root, /sys is the host's, with another beneath.
        line = [line for line in shown.splitlines() if " /sys/fs/cgroup " in line][-1]
        assert " - cgroup2 " in line
        assert line.split()[3] == "/"
        assert {"ro", "nosuid", "nodev", "noexec"} <= set(line.split()[5].split(","))
        limit = run(pyrunc, "exec", "seen", "cat", "/sys/fs/cgroup/pids.max").stdout
        assert limit == "20\n"
        write = "echo 30 >/sys/fs/cgroup/pids.max"
        refused = run(pyrunc, "exec", "seen", "sh", "-c", write, check=False)
        assert "Read-only file system" in refused.stderr
    finally:
        run(pyrunc, *flags, "delete", "--force", "seen")


@pytest.mark.skipif(not ROOT, reason="tracing the runtime is done as root")
def test_processes_are_born_in_the_cgroup(bundle, pyrunc):
    """Nobody is moved there: neither `run` nor `exec` opens cgroup.procs to write to it."""
    path, config = bundle
    trace = ["strace", "-f", "-qq", "-o", str(path / "trace"), "-e", "trace=openat,clone3"]
    start(bundle, "born", pyrunc)
    try:
        # The tracer ends with the last of the traced processes.
        config["process"]["args"] = ["true"]
        (path / "config.json").write_text(json.dumps(config))
        run(*trace, pyrunc, "run", "--bundle", str(path), "traced")
        calls = (path / "trace").read_text()
        done = run(*trace, pyrunc, "exec", "born", "cat", "/proc/self/cgroup")
        assert done.stdout == "0::/\n"
        calls += (path / "trace").read_text()
    finally:
        run(pyrunc, "delete", "--force", "born")
    assert calls.count("CLONE_INTO_CGROUP") == 2, calls
    assert not re.search(r'cgroup\.procs", O_WRONLY', calls)


def test_without_a_pid_namespace_kill_reaches_all(bundle, pyrunc):
    _, config = bundle
    config["linux"]["namespaces"] = [n for n in config["linux"]["namespaces"] if n["type"] != "pid"]
    config["process"]["args"] = ["sh", "-c", "sleep 1000 & sleep 1000 & sleep 1000"]
    flags = [] if ROOT else ["--systemd-cgroup"]
    start(bundle, "all", pyrunc, *flags)
    cgroup = cgroup_of(json.loads(run(pyrunc, "state", "all").stdout)["pid"])
    try:
        wait_until(lambda: len((cgroup / "cgroup.procs").read_text().split()) == 3)
        run(pyrunc, "kill", "all", "KILL")
        wait_until(lambda: is_empty(cgroup))
    finally:
        run(pyrunc, "delete", "--force", "all")


def is_empty(cgroup):
    """An empty scope may be gone already: systemd removes it."""
    try:
        return "populated 0" in (cgroup / "cgroup.events").read_text()
    except FileNotFoundError:
        return True


def wait_until(true, seconds=20):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_container_over_its_limit_has_an_oom_event(bundle, pyrunc):
    """The events end with the container; before, there are statistics with PSI."""
    path, config = bundle
    config["process"]["args"] = [
        "sh",
        "-c",
        "while ! [ -e /tmp/go ]; do sleep 0.1; done; tail /dev/zero",
    ]
    (path / "rootfs/bin/tail").symlink_to("busybox")
    config["root"]["readonly"] = True
    config["linux"]["resources"]["memory"] = {"limit": 8 << 20, "swap": 8 << 20}
    flags = [] if ROOT else ["--systemd-cgroup"]
    start(bundle, "oom", pyrunc, *flags)
    try:
        with subprocess.Popen(
            [pyrunc, "events", "--interval", "1s", "oom"], stdout=subprocess.PIPE, text=True
        ) as watching:
            first = json.loads(watching.stdout.readline())
            (path / "rootfs/tmp/go").touch()
            kinds = [json.loads(line)["type"] for line in watching.stdout]
            assert watching.wait(timeout=60) == 0
        assert first["type"] == "stats"
        assert "psi" in first["data"]["memory"]
        assert "oom" in kinds
        assert json.loads(run(pyrunc, "state", "oom").stdout)["status"] == "stopped"
    finally:
        run(pyrunc, "delete", "--force", "oom")


@pytest.mark.parametrize("manager", managers())
def test_pause_kill_and_delete_leave_nothing(bundle, pyrunc, manager):
    flags = ["--systemd-cgroup"] if manager == "systemd" else []
    start(bundle, "life", pyrunc, *flags)
    pid = json.loads(run(pyrunc, "state", "life").stdout)["pid"]
    cgroup = cgroup_of(pid)
    run(pyrunc, "pause", "life")
    assert json.loads(run(pyrunc, "state", "life").stdout)["status"] == "paused"
    assert run(pyrunc, "exec", "life", "true", check=False).returncode == 255
    run(pyrunc, "resume", "life")
    assert run(pyrunc, "exec", "life", "true").returncode == 0
    run(pyrunc, "pause", "life")
    run(pyrunc, "kill", "life", "KILL")
    wait_until(lambda: json.loads(run(pyrunc, "state", "life").stdout)["status"] == "stopped")
    # systemd may have removed the scope's cgroup by now.
    run(pyrunc, "kill", "--all", "life", "TERM")
    run(pyrunc, "delete", "life")
    assert not cgroup.exists()


@pytest.mark.parametrize("manager", managers())
def test_delete_by_force_of_a_paused_container(bundle, pyrunc, manager):
    flags = ["--systemd-cgroup"] if manager == "systemd" else []
    start(bundle, "paused", pyrunc, *flags)
    cgroup = cgroup_of(json.loads(run(pyrunc, "state", "paused").stdout)["pid"])
    run(pyrunc, "pause", "paused")
    run(pyrunc, "delete", "--force", "paused")
    assert not cgroup.exists()
    if manager == "systemd":
        shown = run(*SYSTEMCTL, "show", cgroup.name, "-P", "LoadState").stdout
        assert shown == "not-found\n"


@pytest.mark.skipif(not ROOT, reason="attaching a device filter needs root")
def test_the_device_filter_is_in_force(bundle, pyrunc):
    _, config = bundle
    config["process"]["capabilities"] = {
        k: ["CAP_MKNOD"] for k in ("bounding", "effective", "permitted")
    }
    config["root"]["readonly"] = False
    start(bundle, "devices", pyrunc)
    try:
        script = "mknod /dev/m c 1 1; mknod /dev/n c 1 3; cat /dev/n; cat /dev/m"
        done = run(pyrunc, "exec", "devices", "sh", "-c", script, check=False)
        assert done.returncode == 1
        assert "/dev/m': Operation not permitted" in done.stderr
        assert "/dev/n'" not in done.stderr
    finally:
        run(pyrunc, "delete", "--force", "devices")


def test_statistics_have_what_runcs_have(bundle, pyrunc):
    flags = ["--systemd-cgroup"]
    shapes = {}
    for program in ("runc", pyrunc):
        start(bundle, "stats", program, *flags)
        try:
            event = json.loads(run(program, *flags, "events", "--stats", "stats").stdout)
        finally:
            run(program, *flags, "delete", "--force", "stats")
        data = event["data"]
        shapes[program] = {k: type(v).__name__ for k, v in data.items()}
        shapes[program]["memory"] = sorted(data["memory"]["usage"].keys() - {"max"})
    assert shapes["runc"].items() <= shapes[pyrunc].items()


@pytest.mark.skipif(not ROOT, reason="loading a profile needs root")
def test_an_apparmor_profile_is_applied(bundle, pyrunc, tmp_path):
    if not Path("/sys/kernel/security/apparmor/profiles").exists():
        pytest.skip("AppArmor is not active")
    profile = tmp_path / "profile"
    profile.write_text("profile pyrunc-test flags=(attach_disconnected) { file, signal, }\n")
    run("apparmor_parser", "--replace", str(profile))
    _, config = bundle
    config["process"]["apparmorProfile"] = "pyrunc-test"
    start(bundle, "apparmor", pyrunc)
    try:
        seen = run(pyrunc, "exec", "apparmor", "cat", "/proc/1/attr/current",
                   "/proc/self/attr/current").stdout  # fmt: skip
        assert seen.count("pyrunc-test (enforce)") == 2, seen
    finally:
        run(pyrunc, "delete", "--force", "apparmor")
