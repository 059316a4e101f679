"""Scheduling of a process: policies, priorities, CPUs, memory nodes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from process_fixtures import inside

__all__ = ["inside"]


# man 2 ioprio_set, as `ionice` of busybox prints it.
IO_CLASSES = {
    "IOPRIO_CLASS_BE": "best-effort",
    "IOPRIO_CLASS_IDLE": "idle",
    "IOPRIO_CLASS_RT": "realtime",
}


@pytest.mark.parametrize(
    ("scheduler", "policy"),
    [
        ({"policy": "SCHED_OTHER", "nice": 5}, "0"),
        ({"policy": "SCHED_BATCH", "nice": 3}, "3"),
        ({"policy": "SCHED_IDLE"}, "5"),
        ({"policy": "SCHED_BATCH", "flags": ["SCHED_FLAG_RESET_ON_FORK"]}, "3"),
    ],
)
def test_scheduler(inside, scheduler, policy):
    done = inside(["cat", "/proc/self/stat"], {"scheduler": scheduler})
    fields = done.stdout.rpartition(")")[2].split()
    # proc_pid_stat(5): policy is field 41, nice 19; the state is the third.
    assert fields[38] == policy, done
    # What has no nice value of its own keeps the one of the tests.
    inherited = os.nice(0) if scheduler["policy"] == "SCHED_IDLE" else 0
    assert fields[16] == str(scheduler.get("nice", inherited))


#: Where real-time processes are accounted for, a cgroup has no time for them unless given some.
REAL_TIME_GROUPS = Path("/sys/fs/cgroup/cpu/cpu.rt_runtime_us").exists()


@pytest.mark.parametrize(("policy", "number"), [("SCHED_FIFO", "1"), ("SCHED_RR", "2")])
def test_real_time_scheduler(inside, policy, number):
    linux = {}
    if REAL_TIME_GROUPS:
        cpu = {"realtimeRuntime": 10000, "realtimePeriod": 1000000}
        linux = {"resources": {"cpu": cpu}}
    scheduler = {"policy": policy, "priority": 7, "flags": ["SCHED_FLAG_RESET_ON_FORK"]}
    done = inside(["cat", "/proc/self/stat"], {"scheduler": scheduler}, linux)
    fields = done.stdout.rpartition(")")[2].split()
    # proc_pid_stat(5): rt_priority is field 40, policy 41; the state is the third.
    assert fields[37:39] == ["7", number], done


@pytest.mark.skipif(not shutil.which("chrt"), reason="needs chrt (util-linux)")
@pytest.mark.skipif(not REAL_TIME_GROUPS, reason="needs cgroup v1 with CONFIG_RT_GROUP_SCHED")
@pytest.mark.parametrize("action", ["create", "exec"])
def test_a_caller_with_a_real_time_policy_is_told_what_it_takes(make_bundle, pyrunc, action):
    bundle = make_bundle(args=["sleep", "1000"])
    bundle.save()
    words = ["create", "--bundle", bundle.path, pyrunc.new_id()]
    if action == "exec":
        words = ["exec", pyrunc.start(bundle).id, "true"]
    command = ["chrt", "--rr", "1", *pyrunc.command, *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "join cgroup /sys/fs/cgroup/cpu" in done.stderr
    assert "invalid argument; with a real-time policy (chrt(1)) it takes linux" in done.stderr


@pytest.mark.skipif(not shutil.which("chrt"), reason="needs chrt (util-linux)")
def test_deadline_scheduler(make_bundle, pyrunc):
    """With all three times and the flags, as sched_getattr(2) tells from outside."""
    bundle = make_bundle(args=["sleep", "1000"])
    bundle.process["scheduler"] = {
        "policy": "SCHED_DEADLINE",
        "runtime": 1000000,
        "deadline": 20000000,
        "period": 30000000,
        "flags": ["SCHED_FLAG_RESET_ON_FORK", "SCHED_FLAG_RECLAIM", "SCHED_FLAG_DL_OVERRUN"],
    }
    pid = pyrunc.state(pyrunc.start(bundle))["pid"]
    shown = subprocess.run(["chrt", "-p", str(pid)], capture_output=True, text=True, check=True)
    assert "SCHED_DEADLINE|SCHED_RESET_ON_FORK" in shown.stdout
    assert "1000000/20000000/30000000" in shown.stdout


@pytest.mark.parametrize(
    ("scheduler", "words"),
    [
        # In sched(7)'s list, and in no kernel.
        ({"policy": "SCHED_ISO"}, "SCHED_ISO: invalid argument"),
        ({"policy": "SCHED_DEADLINE", "runtime": 5, "deadline": 1}, "SCHED_DEADLINE: invalid"),
    ],
)
def test_scheduler_that_the_kernel_refuses(make_bundle, pyrunc, scheduler, words):
    done = pyrunc.create(make_bundle(process={"scheduler": scheduler}))
    assert done.code == 1
    assert f"set scheduler {words}" in done.stderr


def test_deadline_scheduler_in_a_cpuset_says_what_it_needs(make_bundle, pyrunc):
    """The kernel refuses it with EPERM to whoever may not use every CPU (sched_setattr(2))."""
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("needs two CPUs")
    bundle = make_bundle()
    bundle.linux["resources"]["cpu"] = {"cpus": "0"}
    bundle.process["scheduler"] = {"policy": "SCHED_DEADLINE", "runtime": 1000000,
                                   "deadline": 20000000, "period": 30000000}  # fmt: skip
    done = pyrunc.create(bundle)
    assert done.code == 1
    assert "set scheduler SCHED_DEADLINE: operation not permitted; it takes CAP_" in done.stderr
    assert "no linux.resources.cpu.cpus" in done.stderr


@pytest.mark.skipif(not shutil.which("chrt"), reason="needs chrt (util-linux)")
def test_deadline_scheduler_of_exec(make_bundle, pyrunc, tmp_path):
    """Such a process has no children, so it must be one already in the pid namespace."""
    container = pyrunc.start(make_bundle(args=["sleep", "1000"]))
    scheduler = {"policy": "SCHED_DEADLINE", "runtime": 1000000, "deadline": 20000000,
                 "period": 30000000}  # fmt: skip
    process = {"args": ["sleep", "1000"], "cwd": "/", "env": ["PATH=/bin"], "scheduler": scheduler}
    path = tmp_path / "process.json"
    path.write_text(json.dumps(process))
    pid_file = tmp_path / "pid"
    done = pyrunc("exec", "-d", "--pid-file", pid_file, "--process", path, container.id)
    assert done.code == 0, done
    shown = subprocess.run(
        ["chrt", "-p", pid_file.read_text()], capture_output=True, text=True, check=True
    )
    assert "1000000/20000000/30000000" in shown.stdout
    scheduler["runtime"] = 5
    path.write_text(json.dumps(process))
    done = pyrunc("exec", "--process", path, container.id)
    assert done.code == 255
    assert "set scheduler SCHED_DEADLINE: invalid argument" in done.stderr


def test_utilization_clamps(make_bundle, pyrunc):
    """The kernel is asked in its own terms: where it cannot clamp, it says just that."""
    flags = ["SCHED_FLAG_UTIL_CLAMP_MIN", "SCHED_FLAG_UTIL_CLAMP_MAX"]
    done = pyrunc.run(make_bundle(process={"scheduler": {"policy": "SCHED_OTHER", "flags": flags}}))
    assert done.code == 0 or "set scheduler SCHED_OTHER: operation not supported" in done.stderr


@pytest.mark.parametrize(
    "scheduler",
    [
        {"policy": "SCHED_WRONG"},
        {"policy": "SCHED_OTHER", "nice": 20},
        {"policy": "SCHED_OTHER", "priority": 3},
        {"policy": "SCHED_FIFO", "priority": 100},
        {"policy": "SCHED_BATCH", "runtime": 100},
        {"policy": "SCHED_BATCH", "flags": ["SCHED_FLAG_WRONG"]},
        {},
    ],
)
def test_wrong_scheduler(inside, scheduler):
    done = inside(["true"], {"scheduler": scheduler})
    assert done.code != 0
    assert "scheduler" in done.stderr


@pytest.mark.parametrize("kind", IO_CLASSES)
def test_io_priority(inside, kind):
    done = inside(["ionice"], {"ioPriority": {"class": kind, "priority": 6}})
    assert done.stdout.startswith(IO_CLASSES[kind]), done
    if kind != "IOPRIO_CLASS_IDLE":
        assert done.stdout.split()[-1] == "6"


def test_the_idle_class_needs_no_priority(inside):
    done = inside(["ionice"], {"ioPriority": {"class": "IOPRIO_CLASS_IDLE"}})
    assert done.stdout.startswith("idle"), done


@pytest.mark.parametrize(
    "priority",
    [
        {"class": "IOPRIO_CLASS_WRONG", "priority": 1},
        {"class": "IOPRIO_CLASS_BE", "priority": 8},
        {},
    ],
)
def test_wrong_io_priority(inside, priority):
    done = inside(["true"], {"ioPriority": priority})
    assert done.code != 0
    assert "ioPriority" in done.stderr


@pytest.mark.skipif(not Path("/proc/self/numa_maps").exists(), reason="a kernel without NUMA")
def test_memory_policy(make_bundle, pyrunc):
    policy = {"mode": "MPOL_BIND", "nodes": "0"}
    bundle = make_bundle(args=["head", "-n", "1", "/proc/self/numa_maps"])
    bundle.linux["memoryPolicy"] = policy
    assert "bind:0" in pyrunc.run(bundle).stdout
    bundle.process["args"] = ["sleep", "1000"]
    container = pyrunc.start(bundle)
    assert "bind:0" in pyrunc.exec(container, "head", "-n", "1", "/proc/self/numa_maps").stdout


@pytest.mark.skipif(not Path("/proc/self/numa_maps").exists(), reason="a kernel without NUMA")
@pytest.mark.parametrize(
    ("policy", "shown"),
    [
        ({"mode": "MPOL_DEFAULT"}, "default"),
        ({"mode": "MPOL_LOCAL"}, "local"),
        ({"mode": "MPOL_PREFERRED"}, "local"),
        ({"mode": "MPOL_PREFERRED", "nodes": "0"}, "prefer:0"),
        ({"mode": "MPOL_PREFERRED_MANY", "nodes": "0"}, "prefer (many):0"),
        ({"mode": "MPOL_BIND", "nodes": "0"}, "bind:0"),
        ({"mode": "MPOL_BIND", "nodes": " 0 ,"}, "bind:0"),
        ({"mode": "MPOL_INTERLEAVE", "nodes": "0"}, "interleave:0"),
        ({"mode": "MPOL_WEIGHTED_INTERLEAVE", "nodes": "0"}, "weighted interleave:0"),
        ({"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]}, "bind=static:0"),
        (
            {"mode": "MPOL_INTERLEAVE", "nodes": "0-1", "flags": ["MPOL_F_RELATIVE_NODES"]},
            "interleave=relative:0",
        ),
        (
            {"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_NUMA_BALANCING"]},
            "bind=balancing:0",
        ),
    ],
    ids=str,
)
def test_memory_policy_of_each_mode_and_flag(make_bundle, pyrunc, policy, shown):
    bundle = make_bundle(args=["head", "-n", "1", "/proc/self/numa_maps"])
    bundle.linux["memoryPolicy"] = policy
    result = pyrunc.run(bundle)
    if "set memory policy" in result.stderr and "invalid argument" in result.stderr:
        pytest.skip("the kernel is older than this mode or flag, or has no NUMA balancing")
    # An address, the policy, what is mapped there. show_numa_map puts names before colons.
    words = result.stdout.split(" ", 1)[1]
    assert words.startswith(shown), result


@pytest.mark.parametrize(
    "policy",
    [
        {"mode": "MPOL_WRONG", "nodes": "0"},
        {"mode": "MPOL_BIND", "nodes": "x"},
        {"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_WRONG"]},
    ],
)
def test_wrong_memory_policy(make_bundle, pyrunc, policy):
    done = pyrunc.create(make_bundle(linux={"memoryPolicy": policy}))
    assert done.code == 1
    assert "memoryPolicy" in done.stderr


@pytest.mark.skipif(not Path("/proc/self/numa_maps").exists(), reason="a kernel without NUMA")
@pytest.mark.parametrize("mode", ["DEFAULT", "LOCAL", "PREFERRED", "BIND", "INTERLEAVE"])
def test_empty_memory_nodes_are_none(make_bundle, pyrunc, mode):
    """Also for modes that want some, which are refused in the same words."""
    bundle = make_bundle(args=["head", "-n", "1", "/proc/self/numa_maps"])
    outcomes = set()
    for nodes in ({}, {"nodes": ""}, {"nodes": " "}, {"nodes": None}):
        bundle.linux["memoryPolicy"] = {"mode": f"MPOL_{mode}", **nodes}
        done = pyrunc.run(bundle)
        outcomes.add((done.code, "at least one node" in done.stderr))
    assert outcomes == {(1, True) if mode in ("BIND", "INTERLEAVE") else (0, False)}


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two CPUs")
def test_exec_cpu_affinity(make_bundle, pyrunc):
    look = ["grep", "Cpus_allowed_list", "/proc/self/status"]
    first, second = sorted(os.sched_getaffinity(0))[:2]
    bundle = make_bundle(args=["sleep", "1000"])
    bundle.process["execCPUAffinity"] = {"initial": str(second), "final": str(first)}
    container = pyrunc.start(bundle)
    done = pyrunc.exec(container, *look)
    assert done.stdout.split()[1:] == [str(first)], done
    path = bundle.path / "process.json"
    for affinity, seen in (
        ({"initial": str(second)}, str(second)),
        ({"final": f"{first},{second}"}, f"{first}-{second}"),
        ({"initial": str(first), "final": str(second)}, str(second)),
    ):
        process = {"args": look, "cwd": "/", "env": ["PATH=/bin"], "execCPUAffinity": affinity}
        path.write_text(json.dumps(process))
        done = pyrunc("exec", "--process", path, container.id)
        assert done.stdout.split()[1:] == [seen], (affinity, done)
    # It is about exec: the container's first process goes where it likes.
    pid = pyrunc.state(container)["pid"]
    assert os.sched_getaffinity(pid) >= {first, second}


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one CPU")
def test_the_callers_cpu_affinity_does_not_stay(make_bundle, pyrunc):
    """Without the reset the kernel keeps it across the move into a cpuset (since Linux 6.2)."""
    every = sorted(os.sched_getaffinity(0))
    look = ["grep", "Cpus_allowed:", "/proc/self/status"]
    bundle = make_bundle(args=look)
    usual = pyrunc.run(bundle).stdout

    def pin() -> None:
        os.sched_setaffinity(0, every[:1])

    pinned = {"preexec_fn": pin}
    assert pyrunc.run(bundle, **pinned).stdout == usual
    bundle.process["args"] = ["sleep", "1000"]
    container = pyrunc.start(bundle, **pinned)
    assert os.sched_getaffinity(pyrunc.state(container)["pid"]) == set(every)
    assert pyrunc("exec", container.id, *look, **pinned).stdout == usual


@pytest.mark.parametrize("affinity", [{"initial": "x"}, {"final": "3-1"}, {"final": "999999"}])
def test_wrong_exec_cpu_affinity(inside, affinity):
    done = inside(["true"], {"execCPUAffinity": affinity})
    assert done.code != 0
    assert "execCPUAffinity" in done.stderr


def test_cpus_that_are_not_there(make_bundle, pyrunc):
    bundle = make_bundle(args=["sleep", "1000"])
    bundle.process["execCPUAffinity"] = {"final": "8000"}
    done = pyrunc.exec(pyrunc.start(bundle), "true")
    assert done.code == 255
    assert "set CPU affinity to 8000: invalid argument" in done.stderr


@pytest.mark.parametrize("score", [0, 500, 1000])
def test_oom_score(inside, score):
    done = inside(["cat", "/proc/self/oom_score_adj"], {"oomScoreAdj": score})
    assert done.stdout == f"{score}\n", done


@pytest.mark.parametrize("score", [1001, -1001, "5", 1.5])
def test_wrong_oom_score(inside, score):
    done = inside(["true"], {"oomScoreAdj": score})
    assert done.code != 0
    assert "oomScoreAdj" in done.stderr


def test_oom_score_stays_the_caller_s_when_it_is_not_given(make_bundle, pyrunc):
    def of_the_caller():
        Path("/proc/self/oom_score_adj").write_text("321")

    bundle = make_bundle(args=["cat", "/proc/self/oom_score_adj"])
    assert pyrunc.run(bundle, preexec_fn=of_the_caller).stdout == "321\n"
