"""Runs inside the virtual machine, as root: checkpoints with cgroup v2, systemd and AppArmor."""

import json
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from guest_cgroups import ROOT, SYSTEMCTL, bundle, cgroup_of, managers, pyrunc, run, start  # noqa: F401

pytestmark = [
    pytest.mark.skipif(not ROOT, reason="CRIU needs root"),
    pytest.mark.skipif(not shutil.which("criu"), reason="needs CRIU"),
]
COUNT = "i=0; while :; do i=$((i+1)); echo $i > /tmp/count; sleep 0.1; done"


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
def counting(bundle, pyrunc, request):  # noqa: F811
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

    def restore(name, *flags, globals=()):
        names.append(name)
        (path / "config.json").write_text(json.dumps(config))
        words = ["restore", "-d", "--bundle", str(path), "--image-path", str(path / "images")]
        with open(path / "restore.err", "w+") as log:
            code = subprocess.run(
                [pyrunc, *globals, *words, *flags, name],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=log, check=False,
                timeout=120,
            ).returncode  # fmt: skip
        log = path / "images/restore.log"
        told = log.read_text()[-3000:] if log.exists() else ""
        assert code == 0, ((path / "restore.err").read_text(), told)
        return name

    begin.save, begin.restore = save, restore
    yield begin
    for name in names:
        run(pyrunc, "delete", "--force", name)


@pytest.mark.parametrize("manager", managers())
def test_limits_hold_after_a_restore(bundle, pyrunc, counting, manager):  # noqa: F811
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


def test_it_is_paused_while_it_is_saved_and_not_afterwards(bundle, pyrunc, counting):  # noqa: F811
    path, _ = bundle
    counting("paused")
    counting.save("paused", "--leave-running")
    assert state(pyrunc, "paused")["status"] == "running"
    assert goes_on(path, 1)


def profile(tmp_path, name):
    text = tmp_path / name
    text.write_text(f"profile {name} flags=(attach_disconnected) {{ file, signal, }}\n")
    run("apparmor_parser", "--replace", str(text))


def test_an_apparmor_profile_is_there_again(bundle, pyrunc, counting, tmp_path):  # noqa: F811
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
