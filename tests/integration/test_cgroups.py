"""Cgroups under pressure: pauses under load, fork bombs, commands that are killed half-way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from cgroup_tree import cgroups_named
from pyrunc.cgroups.host import detect
from pyrunc.cgroups.v2 import DriverV2

MOUNTS = Path("/sys/fs/cgroup")

#: Four shells that start processes for ever; each of those is gone at once.
FORKING = "fork() { while :; do true & true | true; wait; done; }; fork & fork & fork & fork"


def cgroups_of(pid):
    """The cgroups of a process by controller; on v2 the one is all of them."""
    found = {}
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        for name in controllers.split(","):
            found[name.removeprefix("name=")] = MOUNTS / name.removeprefix("name=") / path[1:]
    return found


def value(cgroups, controller, name):
    return (cgroups.get(controller, cgroups[""]) / name).read_text().strip()


def time_used(cgroups):
    """Processor time of all that is in the container, in units that do not matter."""
    if "cpuacct" in cgroups:
        return int(value(cgroups, "cpuacct", "cpuacct.usage"))
    return int(value(cgroups, "", "cpu.stat").split()[1])


@pytest.fixture
def forking(make_bundle, pyrunc):
    """A container that is busy forking."""
    bundle = make_bundle(args=["sh", "-c", FORKING])
    container = pyrunc.start(bundle)
    return container, cgroups_of(pyrunc.state(container)["pid"])


def test_a_hundred_pauses_under_load(forking, pyrunc):
    container, cgroups = forking
    for cycle in range(100):
        paused = pyrunc("pause", container.id)
        assert (paused.code, paused.stderr) == (0, ""), cycle
        if cycle % 10 == 0:
            before = time_used(cgroups)
            assert pyrunc.state(container)["status"] == "paused"
            time.sleep(0.02)
            assert time_used(cgroups) == before, "something runs while paused"
        resumed = pyrunc("resume", container.id)
        assert (resumed.code, resumed.stderr) == (0, ""), cycle
    before = time_used(cgroups)
    time.sleep(0.1)
    assert time_used(cgroups) > before
    assert pyrunc.state(container)["status"] == "running"


def test_a_paused_container_that_forks_is_killed_and_removed(forking, pyrunc):
    container, _ = forking
    assert pyrunc("pause", container.id).code == 0
    assert pyrunc("kill", container.id, "KILL").code == 0
    pyrunc.wait(container)
    deleted = pyrunc("delete", container.id)
    assert (deleted.code, deleted.stderr) == (0, "")
    assert cgroups_named(container.id) == []


def test_a_forking_container_without_a_pid_namespace_is_killed_whole(make_bundle, pyrunc):
    bundle = make_bundle(args=["sh", "-c", FORKING])
    bundle.without_namespace("pid")
    container = pyrunc.start(bundle)
    cgroups = cgroups_of(pyrunc.state(container)["pid"])
    killed = pyrunc("kill", "--all", container.id, "KILL")
    assert (killed.code, killed.stderr) == (0, "")
    end = time.monotonic() + 5
    while value(cgroups, "pids", "cgroup.procs") and time.monotonic() < end:
        time.sleep(0.01)
    assert value(cgroups, "pids", "cgroup.procs") == ""
    assert pyrunc("delete", container.id).code == 0
    assert cgroups_named(container.id) == []


def test_a_fork_bomb_as_the_program_is_held(make_bundle, pyrunc):
    bundle = make_bundle(args=["sh", "-c", "bomb() { bomb | bomb & }; bomb; sleep 1000"])
    bundle.linux["resources"]["pids"] = {"limit": 30}
    container = pyrunc.start(bundle)
    cgroups = cgroups_of(pyrunc.state(container)["pid"])
    most = 0
    end = time.monotonic() + 1
    while time.monotonic() < end:
        most = max(most, int(value(cgroups, "pids", "pids.current")))
    refused = int(value(cgroups, "pids", "pids.events").split()[1])
    # The kernel lets a process over the limit by moving it in (exec, at most), never by forking.
    assert most <= 30
    assert refused > 0, "the bomb was never stopped, so it was none"
    deleted = pyrunc("delete", "--force", container.id)
    assert (deleted.code, deleted.stderr) == (0, "")
    assert cgroups_named(container.id) == []


def run_and_kill(pyrunc, words, delay):
    """Start a command of the runtime and kill it with all that it started after ``delay``."""
    process = subprocess.Popen(
        [*pyrunc.command, *words],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    return process.wait()


def duration_of(pyrunc, words):
    begin = time.monotonic()
    assert pyrunc(*words).code == 0
    return time.monotonic() - begin


@pytest.mark.parametrize("what", ["create", "start", "pause", "delete", "delete --force"])
def test_what_a_killed_command_leaves_can_be_removed(make_bundle, pyrunc, what):
    """At ten moments from the first to the last of its work; some find it done."""
    bundle = make_bundle(args=["sleep", "1000"])
    bundle.linux["resources"]["pids"] = {"limit": 40}
    bundle.save()
    command = what.split()

    def prepared():
        name = pyrunc.new_id()
        if what == "create":
            return name, ["create", "--bundle", str(bundle.path), name]
        assert pyrunc("create", "--bundle", bundle.path, name).code == 0
        if what in ("pause", "delete --force"):
            assert pyrunc("start", name).code == 0
        if what == "delete":
            assert pyrunc("kill", name, "KILL").code == 0
            while json.loads(pyrunc("state", name).stdout)["status"] != "stopped":
                time.sleep(0.005)
        return name, [*command, name]

    durations = []
    for _ in range(3):
        # The first command of all may have made the snapshot that others start from.
        name, words = prepared()
        durations.append(duration_of(pyrunc, words))
        pyrunc("delete", "--force", name)
    whole = min(durations)
    ended = []
    for step in range(10):
        name, words = prepared()
        ended.append(run_and_kill(pyrunc, words, whole * (step + 1) / 10))
        deleted = pyrunc("delete", "--force", name)
        assert (deleted.code, deleted.stderr) == (0, ""), (step, ended)
        assert cgroups_named(name) == [], (step, ended)
    assert -signal.SIGKILL in ended, "none was killed while it worked"


def without_resctrl():
    if " - resctrl " in Path("/proc/self/mountinfo").read_text():
        pytest.skip("resctrl is mounted here")


def test_intel_rdt_without_resctrl_is_an_error(make_bundle, pyrunc):
    without_resctrl()
    result = pyrunc.create(make_bundle(linux={"intelRdt": {"closID": "gold"}}))
    assert result.code == 1
    assert "linux.intelRdt needs the resctrl file system, which is not mounted" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert pyrunc("state", result.id).code == 1


def test_schemas_cannot_be_updated_without_resctrl(make_bundle, pyrunc):
    without_resctrl()
    container = pyrunc.start(make_bundle(args=["sleep", "100"]))
    result = pyrunc("update", "--l3-cache-schema", "L3:0=f", "--memory", "64m", container.id)
    assert result.code == 1
    assert "resctrl" in result.stderr


def test_a_cgroup_in_use_is_refused_and_its_processes_live_on(make_bundle, pyrunc):
    """Undoing the failed create must not kill what is in a cgroup that was never its own."""
    bundle = make_bundle(args=["sleep", "1000"])
    bundle.linux["cgroupsPath"] = f"/pyrunc-taken-{os.getpid()}"
    first = pyrunc.start(bundle)
    refused = pyrunc.create(bundle)
    assert refused.code == 1
    assert "container's cgroup is not empty" in refused.stderr
    assert pyrunc.state(first)["status"] == "running"
    assert pyrunc("exec", first.id, "true").code == 0
    assert pyrunc("state", refused.id).code == 1


def test_a_frozen_cgroup_is_refused_and_stays_frozen(make_bundle, pyrunc):
    bundle = make_bundle(args=["sleep", "1000"])
    name = f"pyrunc-frozen-{os.getpid()}"
    bundle.linux["cgroupsPath"] = f"/{name}"
    v1 = (MOUNTS / "freezer").exists()
    cgroup = MOUNTS / "freezer" / name if v1 else MOUNTS / name
    file = cgroup / ("freezer.state" if v1 else "cgroup.freeze")
    cgroup.mkdir()
    try:
        file.write_text("FROZEN" if v1 else "1")
        refused = pyrunc.create(bundle)
        assert refused.code == 1
        assert "container's cgroup is frozen" in refused.stderr
        assert file.read_text().strip() == ("FROZEN" if v1 else "1")
        assert cgroups_named(name) == [str(cgroup)]
    finally:
        cgroup.rmdir()


@pytest.fixture
def unified():
    """The top of whatever v2 hierarchy there is, also beside v1's: there it has no controllers."""
    top = detect().unified
    if not top:
        pytest.skip("no cgroup v2 hierarchy is mounted")
    return top


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_v2_signals_nobody_when_the_cgroup_is_gone(unified, number):
    """As systemd removes that of a scope when it is empty: `kill --all` of what has stopped."""
    DriverV2({"": f"{unified}/pyrunc-gone-{os.getpid()}"}, mount=unified).signal_all(number)


def test_v2_hears_of_no_oom_without_the_memory_controller(unified):
    """`events` failed for want of memory.events."""
    cgroup = Path(unified, f"pyrunc-oom-{os.getpid()}")
    cgroup.mkdir()
    try:
        watch = DriverV2({"": str(cgroup)}, mount=unified).watch_oom()
        assert (watch.descriptor >= 0) == (cgroup / "memory.events").exists()
        if watch.descriptor >= 0:
            assert not watch.take()
        watch.close()
    finally:
        cgroup.rmdir()
