"""Limits at work: memory that runs out, events that tell of it, updates, sub-cgroups, pauses."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from pathlib import Path

import pytest

MIB = 1 << 20
CGROUPS = Path("/sys/fs/cgroup")
#: Members of the statistics that both runtimes leave out while there is nothing to count (v2).
LEFT_OUT_WHEN_ZERO = {
    "/data/memory/cache",
    "/data/blkio/ioServiceBytesRecursive",
    "/data/blkio/ioServicedRecursive",
}


def cgroup_with(pid, controller):
    """The directory of a process's cgroup that has the controller; on v2 there is one for all."""
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, names, path = line.split(":", 2)
        if controller in names.split(","):
            return CGROUPS / controller / path[1:]
    return CGROUPS / path[1:]


def limit_of(cgroup):
    """The memory limit, and what is to be unchanged beside it."""
    v1 = (cgroup / "memory.limit_in_bytes").exists()
    names = ("limit_in_bytes", "soft_limit_in_bytes") if v1 else ("max", "low")
    return tuple(int((cgroup / f"memory.{name}").read_text()) for name in names)


def test_a_memory_limit_of_512_kib_runs_true(make_bundle, pyrunc):
    bundle = make_bundle(args=["true"])
    bundle.linux["resources"]["memory"] = {"limit": 512 << 10, "swap": 512 << 10}
    done = pyrunc.run(bundle)
    assert (done.code, done.stderr) == (0, "")


def test_a_run_that_ends_for_want_of_memory_says_so(make_bundle, pyrunc):
    """137 alone is what a SIGKILL of anybody's would give."""
    bundle = make_bundle(args=["sh", "-c", "exec tail /dev/zero"])
    bundle.linux["resources"]["memory"] = {"limit": 8 * MIB, "swap": 8 * MIB}
    done = pyrunc.run(bundle)
    assert done.code == 137
    assert done.stderr.count("level=") == 1
    assert "level=warning" in done.stderr
    assert "has killed a process of it for want of memory, of which it may have" in done.stderr
    assert str(8 * MIB) in done.stderr


def test_a_run_that_is_killed_otherwise_says_nothing(make_bundle, pyrunc):
    # In a pid namespace of its own, the first process takes no SIGKILL from within.
    bundle = make_bundle(args=["sh", "-c", "kill -9 $$"])
    bundle.without_namespace("pid")
    bundle.linux["resources"]["memory"] = {"limit": 64 * MIB, "swap": 64 * MIB}
    done = pyrunc.run(bundle)
    assert (done.code, done.stderr) == (137, "")


def test_a_container_over_its_memory_limit_has_an_oom_event_and_is_stopped(make_bundle, pyrunc):
    bundle = make_bundle(
        args=["sh", "-c", "while ! [ -e /go ]; do sleep 0.05; done; tail /dev/zero"]
    )
    bundle.linux["resources"]["memory"] = {"limit": 8 * MIB, "swap": 8 * MIB}
    container = pyrunc.start(bundle)
    words = [*pyrunc.command, "events", "--interval", "100ms", container.id]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as events:
        assert json.loads(events.stdout.readline())["type"] == "stats"
        (bundle.rootfs / "go").touch()
        lines = [json.loads(line) for line in events.stdout]
        assert events.wait(timeout=10) == 0
    assert {"type": "oom", "id": container.id} in lines
    assert pyrunc.state(container)["status"] == "stopped"


def test_a_pids_limit_of_zero_is_none_for_callers_of_old(make_bundle, pyrunc):
    """Podman before 5.4 writes it for --pids-limit -1; and an update with it changes nothing."""
    bundle = make_bundle(args=["sh", "-c", "true & wait; cat; echo forked"])
    bundle.linux["resources"]["pids"] = {"limit": 0}
    assert pyrunc.run(bundle).stdout == "forked\n"
    bundle.config["ociVersion"] = "1.3.0"
    assert pyrunc.run(bundle).code != 0
    bundle.linux["resources"]["pids"] = {"limit": 20}
    bundle.process["args"] = ["sleep", "100"]
    container = pyrunc.start(bundle)
    assert pyrunc("update", "--pids-limit", "0", container.id).code == 0
    cgroup = cgroup_with(pyrunc.state(container)["pid"], "pids")
    assert (cgroup / "pids.max").read_text() == "20\n"


def test_events_come_at_the_interval_and_end_with_the_container(make_bundle, pyrunc):
    container = pyrunc.start(make_bundle(args=["sleep", "1000"]))
    words = [*pyrunc.command, "events", "--interval", "50ms", container.id]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as events:
        for _ in range(5):
            event = json.loads(events.stdout.readline())
            assert (event["type"], event["id"]) == ("stats", container.id)
        assert pyrunc("kill", container.id, "KILL").code == 0
        events.communicate(timeout=30)
        assert events.returncode == 0


def missing(theirs, ours, where=""):
    """Where a JSON value lacks a member of another, or has one of another type."""
    if isinstance(theirs, dict) and isinstance(ours, dict):
        return [x for k, v in theirs.items() for x in missing(v, ours.get(k), f"{where}/{k}")]
    return [] if type(theirs) is type(ours) else [where]


def test_statistics_have_what_runcs_have(make_bundle, pyrunc, runc):
    seen = {}
    for runtime in (pyrunc, runc):
        container = runtime.start(make_bundle(args=["sleep", "1000"]))
        event = json.loads(runtime("events", "--stats", container.id).stdout)
        # Which counters there are is the kernel's choice, or the network's.
        data = event["data"]
        data["memory"]["raw"] = sorted(data["memory"]["raw"])
        data.pop("network_interfaces", None)
        seen[runtime.name] = event
        runtime("delete", "--force", container.id)
    assert set(missing(seen["runc"], seen["pyrunc"])) <= LEFT_OUT_WHEN_ZERO


def test_a_memory_limit_below_what_is_in_use_names_both(make_bundle, pyrunc):
    """On v1, which refuses it; v2 takes what it can get, and kills for the rest."""
    if not (CGROUPS / "memory").is_dir():
        pytest.skip("needs the memory controller of cgroup v1")
    fill = "head -c 45000000 /dev/zero >/dev/shm/full; exec sleep 100"
    bundle = make_bundle(args=["sh", "-c", fill])
    bundle.config["mounts"].append(
        {"destination": "/dev/shm", "type": "tmpfs", "source": "shm", "options": ["size=64m"]}
    )
    bundle.linux["resources"]["memory"] = {"limit": 100 * MIB}
    container = pyrunc.start(bundle)
    usage = cgroup_with(pyrunc.state(container)["pid"], "memory") / "memory.usage_in_bytes"
    deadline = time.monotonic() + 10
    while int(usage.read_text()) < 40 * MIB:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    refused = pyrunc("update", "--memory", "5M", container.id)
    assert refused.code == 1
    found = re.search(r"to '5242880': device or resource busy; it uses (\d+) bytes", refused.stderr)
    assert found, refused
    assert int(found[1]) > 40 * 10**6


def test_cpus_that_the_parent_lacks_are_told_with_those_it_has(make_bundle, pyrunc):
    if not (CGROUPS / "cpuset").is_dir():
        pytest.skip("needs the cpuset controller of cgroup v1")
    has = (CGROUPS / "cpuset/cpuset.cpus").read_text().strip()
    bundle = make_bundle()
    bundle.linux["resources"]["cpu"] = {"cpus": "4000"}
    refused = pyrunc.create(bundle)
    assert refused.code == 1
    assert re.search(f"the CPUs {has}|no such CPU|no CPU of such a number", refused.stderr)


def test_update_takes_limits_from_its_standard_input_and_remembers_them(make_bundle, pyrunc):
    """What is not named stays, in the cgroup and on record, also after a refusal."""
    bundle = make_bundle(args=["sleep", "1000"])
    bundle.linux["resources"]["memory"] = {"limit": 64 * MIB, "reservation": 32 * MIB}
    container = pyrunc.start(bundle)
    cgroup = cgroup_with(pyrunc.state(container)["pid"], "memory")
    record = pyrunc.directory / "pyrunc-state" / container.id / "config.json"

    def remembered():
        return json.loads(record.read_text())["linux"]["resources"]["memory"]

    with subprocess.Popen(
        [*pyrunc.command, "update", "--resources", "-", container.id], stdin=subprocess.PIPE
    ) as update:
        update.communicate(json.dumps({"memory": {"limit": 48 * MIB}}).encode(), timeout=30)
        assert update.returncode == 0
    assert limit_of(cgroup) == (48 * MIB, 32 * MIB)
    assert remembered() == {"limit": 48 * MIB, "reservation": 32 * MIB}

    refused = pyrunc("update", "--memory", "40m", "--cpuset-cpus", "4000", container.id)
    assert refused.code == 1
    assert "cpuset.cpus" in refused.stderr
    assert "4000" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    assert limit_of(cgroup) == (48 * MIB, 32 * MIB)
    assert remembered() == {"limit": 48 * MIB, "reservation": 32 * MIB}


def test_a_limit_below_the_usage_is_refused_when_it_is_to_be_checked(make_bundle, pyrunc):
    bundle = make_bundle(args=["sleep", "1000"])
    bundle.linux["resources"]["memory"] = {"limit": 64 * MIB}
    container = pyrunc.start(bundle)
    cgroup = cgroup_with(pyrunc.state(container)["pid"], "memory")
    before = limit_of(cgroup)
    file = bundle.path / "resources.json"
    file.write_text('{"memory": {"limit": 4096, "checkBeforeUpdate": true}}')
    refused = pyrunc("update", "--resources", file, container.id)
    assert refused.code == 1
    assert "(checkBeforeUpdate)" in refused.stderr
    assert limit_of(cgroup) == before
    assert pyrunc.state(container)["status"] == "running"


def test_ps_shows_the_processes_of_sub_cgroups(make_bundle, pyrunc):
    container = pyrunc.start(make_bundle(args=["sleep", "1000"]))
    init = pyrunc.state(container)["pid"]
    # ps looks into one hierarchy of v1's, whichever: the process must be below in all.
    below = []
    for line in Path(f"/proc/{init}/cgroup").read_text().splitlines():
        _, names, path = line.split(":", 2)
        top = CGROUPS / (names.removeprefix("name=") or "unified")
        directory = (top if top.exists() else CGROUPS) / path[1:] / "below"
        if directory.parent.name != container.id or not directory.parent.exists():
            continue  # not mounted here, so the container has none of its own
        directory.mkdir()
        for name in ("cpuset.cpus", "cpuset.mems"):
            if names == "cpuset":
                (directory / name).write_text((directory.parent / name).read_text())
        below.append(directory)
    assert pyrunc("exec", "--detach", container.id, "sleep", "999").code == 0
    pids = set(json.loads(pyrunc("ps", "--format", "json", container.id).stdout))
    (other,) = pids - {init}
    for directory in below:
        (directory / "cgroup.procs").write_text(str(other))
    assert set(json.loads(pyrunc("ps", "--format", "json", container.id).stdout)) == pids
    assert str(other) in pyrunc("ps", container.id).stdout
    assert pyrunc("delete", "--force", container.id).code == 0
    assert not any(directory.exists() for directory in below)


@pytest.mark.parametrize("command", [["kill", "KILL"], ["delete", "--force"]])
def test_a_paused_container_can_be_ended(make_bundle, pyrunc, command):
    container = pyrunc.start(make_bundle(args=["sleep", "1000"]))
    assert pyrunc("pause", container.id).code == 0
    word, argument = command
    words = [word, container.id, argument] if word == "kill" else [word, argument, container.id]
    done = pyrunc(*words)
    assert (done.code, done.stderr) == (0, "")
    if word == "kill":
        pyrunc.wait(container)
    else:
        assert pyrunc("state", container.id).code == 1


def test_exec_into_a_paused_container_waits_until_it_goes_on(make_bundle, pyrunc):
    container = pyrunc.start(make_bundle(args=["sleep", "1000"]))
    assert pyrunc("pause", container.id).code == 0
    refused = pyrunc("exec", container.id, "true")
    assert "cannot exec in a paused container" in refused.stderr
    words = [*pyrunc.command, "exec", "--ignore-paused", container.id, "true"]
    with subprocess.Popen(words, stdin=subprocess.DEVNULL) as waiting:
        time.sleep(0.3)
        assert waiting.poll() is None
        assert pyrunc("resume", container.id).code == 0
        assert waiting.wait(timeout=10) == 0
    assert os.path.exists(f"/proc/{pyrunc.state(container)['pid']}")
