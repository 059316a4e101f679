"""Runs inside the virtual machine: what is between a container and its systemd unit."""

import json
import shutil

import pytest
from guest_cgroups import ROOT, SYSTEMCTL, bundle, pyrunc, run, start, wait_until  # noqa: F401


@pytest.mark.skipif(not ROOT, reason="the unit in the way is one of the system manager")
def test_a_unit_of_another_is_left_alone(bundle, pyrunc):  # noqa: F811
    """A unit of the name that runs is refused, and runs on."""
    _, config = bundle
    config["linux"]["cgroupsPath"] = ":taken:scope"
    run("systemd-run", "--unit", "taken-scope.scope", "--scope", "--slice", "other.slice",
        "sh", "-c", "sleep 1000 </dev/null >/dev/null 2>&1 &")  # fmt: skip
    try:
        (bundle[0] / "config.json").write_text(json.dumps(config))
        refused = run(pyrunc, "--systemd-cgroup", "create", "--bundle", str(bundle[0]), "taken",
                      check=False)  # fmt: skip
        assert refused.returncode == 1
        assert "taken-scope.scope" in refused.stderr
        assert len(refused.stderr.splitlines()) == 1, refused.stderr
        assert run("systemctl", "is-active", "taken-scope.scope").stdout == "active\n"
        assert run(pyrunc, "state", "taken", check=False).returncode == 1
    finally:
        run("systemctl", "stop", "taken-scope.scope")


@pytest.mark.skipif(not ROOT, reason="the unit in the way is one of the system manager")
def test_a_failed_unit_of_the_name_is_reset(bundle, pyrunc):  # noqa: F811
    """systemd keeps it, and the name, until somebody has taken note."""
    _, config = bundle
    config["linux"]["cgroupsPath"] = ":failed:scope"
    run("systemd-run", "--unit", "failed-scope.scope", "--scope", "-p", "RuntimeMaxSec=1",
        "sh", "-c", "sleep 1000 </dev/null >/dev/null 2>&1 &")  # fmt: skip
    state = ("systemctl", "is-failed", "failed-scope.scope")
    wait_until(lambda: run(*state, check=False).stdout == "failed\n")
    start(bundle, "failed", pyrunc, "--systemd-cgroup")
    try:
        assert run("systemctl", "is-active", "failed-scope.scope").stdout == "active\n"
    finally:
        run(pyrunc, "delete", "--force", "failed")
    assert run(*state, check=False).stdout == "inactive\n"


def test_a_scope_has_the_properties_and_goes(bundle, pyrunc):  # noqa: F811
    _, config = bundle
    config["linux"]["cgroupsPath"] = ":test:scope"
    config["annotations"] = {"org.systemd.property.TimeoutStopSec": "uint64 5"}
    start(bundle, "scope", pyrunc, "--systemd-cgroup")
    properties = "MemoryMax,TasksMax,CPUWeight,Delegate,TimeoutStopUSec,ActiveState"
    try:
        shown = run(*SYSTEMCTL, "show", "test-scope.scope", "-p", properties).stdout.split()
        assert sorted(shown) == [
            "ActiveState=active", "CPUWeight=100", "Delegate=yes", "MemoryMax=67108864",
            "TasksMax=20", "TimeoutStopUSec=5s",
        ]  # fmt: skip
    finally:
        run(pyrunc, "delete", "--force", "scope")
    shown = run(*SYSTEMCTL, "show", "test-scope.scope", "-P", "LoadState").stdout.strip()
    assert shown == "not-found"


@pytest.mark.skipif(not ROOT or not shutil.which("podman"), reason="podman as root")
def test_podman_with_the_systemd_manager(bundle, pyrunc):  # noqa: F811
    path, _ = bundle
    words = ["podman", "--runtime", pyrunc, "run", "--rm", "--network", "none", "--memory", "32m"]
    done = run(*words, "--rootfs", str(path / "rootfs"), "cat", "/sys/fs/cgroup/memory.max")
    assert done.stdout.strip() == str(32 << 20)
