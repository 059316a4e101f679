"""Properties of ``process`` as the kernel and the program itself see them; bad values refused."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from pyrunc.linux.processes import prctl

# man 2 ioprio_set, as `ionice` of busybox prints it.
IO_CLASSES = {
    "IOPRIO_CLASS_BE": "best-effort",
    "IOPRIO_CLASS_IDLE": "idle",
    "IOPRIO_CLASS_RT": "realtime",
}


@pytest.fixture(params=["run", "exec", "process file"])
def inside(request, make_bundle, pyrunc):
    """Run a command in a container whose process (or exec'd process) has these properties."""

    def carry_out(command, process, linux=None):
        bundle = make_bundle(linux=linux or {})
        wanted = {**bundle.process, "args": command, **process}
        if request.param == "run":
            bundle.config["process"] = wanted
            return pyrunc.run(bundle)
        if request.param == "exec":
            bundle.config["process"] = {**wanted, "args": ["sleep", "1000"]}
        else:
            bundle.process["args"] = ["sleep", "1000"]
        container = pyrunc.create(bundle)
        if container.code:
            return container
        assert pyrunc("start", container.id).code == 0
        if request.param == "exec":
            return pyrunc.exec(container, *command)
        path = bundle.path / "process.json"
        path.write_text(json.dumps(wanted))
        return pyrunc("exec", "--process", path, container.id)

    carry_out.how = request.param
    return carry_out


@pytest.mark.parametrize(
    ("kind", "label", "soft", "hard"),
    [
        ("RLIMIT_AS", "Max address space", 1 << 40, (1 << 40) + 5),
        ("RLIMIT_CORE", "Max core file size", 0, 12345),
        ("RLIMIT_CPU", "Max cpu time", 1000, 2000),
        ("RLIMIT_DATA", "Max data size", 1 << 39, 1 << 39),
        ("RLIMIT_FSIZE", "Max file size", 1 << 20, 1 << 21),
        ("RLIMIT_LOCKS", "Max file locks", 3, 4),
        ("RLIMIT_MEMLOCK", "Max locked memory", 4096, 8192),
        ("RLIMIT_MSGQUEUE", "Max msgqueue size", 10, 20),
        ("RLIMIT_NICE", "Max nice priority", 0, 0),
        ("RLIMIT_NOFILE", "Max open files", 9, 99),
        ("RLIMIT_NPROC", "Max processes", 500, 600),
        ("RLIMIT_RSS", "Max resident set", 1 << 30, 1 << 31),
        ("RLIMIT_RTPRIO", "Max realtime priority", 0, 0),
        ("RLIMIT_RTTIME", "Max realtime timeout", 7, 8),
        ("RLIMIT_SIGPENDING", "Max pending signals", 5, 6),
        ("RLIMIT_STACK", "Max stack size", 1 << 22, 1 << 23),
    ],
)
def test_each_limit(make_bundle, pyrunc, kind, label, soft, hard):
    bundle = make_bundle(args=["cat", "/proc/self/limits"])
    bundle.process["rlimits"] = [{"type": kind, "soft": soft, "hard": hard}]
    done = pyrunc.run(bundle)
    (line,) = [line for line in done.stdout.splitlines() if line.startswith(label)]
    assert line[len(label) :].split()[:2] == [str(soft), str(hard)]


def test_no_limit_at_all(inside):
    unlimited = {"type": "RLIMIT_CPU", "soft": 2**64 - 1, "hard": 2**64 - 1}
    done = inside(["grep", "cpu", "/proc/self/limits"], {"rlimits": [unlimited]})
    assert done.stdout.split()[3:5] == ["unlimited", "unlimited"], done


@pytest.mark.parametrize(
    "limit",
    [
        {"type": "RLIMIT_WRONG", "soft": 1, "hard": 1},
        {"type": "RLIMIT_CPU", "soft": 2, "hard": 1},
        {"type": "RLIMIT_CPU", "soft": -1, "hard": 1},
        {"type": "RLIMIT_CPU", "hard": 1},
    ],
)
def test_wrong_limits(inside, limit):
    done = inside(["true"], {"rlimits": [limit]})
    assert done.code != 0
    assert "rlimits[0]" in done.stderr


def test_a_limit_given_twice(inside):
    limit = {"type": "RLIMIT_CPU", "soft": 5, "hard": 5}
    done = inside(["true"], {"rlimits": [limit, limit]})
    assert done.code != 0
    assert "rlimits[1].type: expected each only once" in done.stderr


def test_a_limit_above_what_the_kernel_takes_is_named(make_bundle, pyrunc):
    limit = {"type": "RLIMIT_NOFILE", "soft": 1 << 40, "hard": 1 << 40}
    done = pyrunc.create(make_bundle(process={"rlimits": [limit]}))
    assert done.code == 1
    assert f"set RLIMIT_NOFILE to {1 << 40}:{1 << 40}: operation not permitted" in done.stderr


@pytest.mark.parametrize(
    ("umask", "mode"), [(0, "666"), (0o77, "600"), (0o27, "640"), (None, "644")]
)
def test_umask(inside, umask, mode):
    user = {"uid": 0, "gid": 0} | ({} if umask is None else {"umask": umask})
    done = inside(["sh", "-c", "umask; echo >/tmp/f; stat -c %a /tmp/f"], {"user": user})
    assert done.stdout.split() == [f"{0o22 if umask is None else umask:04o}", mode], done


def test_umask_that_is_none(inside):
    done = inside(["true"], {"user": {"uid": 0, "gid": 0, "umask": "077"}})
    assert done.code != 0
    assert "umask" in done.stderr


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


def test_an_ambient_capability_that_cannot_be_raised_is_warned_about(make_bundle, pyrunc):
    bundle = make_bundle(args=["grep", "CapAmb", "/proc/self/status"])
    bundle.process["capabilities"]["ambient"] = ["CAP_KILL"]
    done = pyrunc.run(bundle)
    assert done.stdout.split() == ["CapAmb:", "0" * 16]
    assert "level=warning" in done.stderr
    assert "have no effect: [CAP_KILL]" in done.stderr


def test_what_spec_writes_runs_without_a_warning(make_bundle, pyrunc, tmp_path):
    assert pyrunc("spec", "--bundle", tmp_path).code == 0
    written = json.loads((tmp_path / "config.json").read_text())
    assert "ambient" not in written["process"]["capabilities"]
    done = pyrunc.run(make_bundle(process={"capabilities": written["process"]["capabilities"]}))
    assert (done.code, done.stderr) == (0, "")


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


def test_personality(make_bundle, pyrunc):
    bundle = make_bundle(args=["uname", "-m"], linux={"personality": {"domain": "LINUX32"}})
    shown = pyrunc.run(bundle).stdout.strip()
    assert shown in ("i686", "armv8l")
    bundle.process["args"] = ["sleep", "1000"]
    assert pyrunc.exec(pyrunc.start(bundle), "uname", "-m").stdout.strip() == shown


@pytest.mark.parametrize("personality", [{"domain": "LINUX64"}, {}, {"domain": 8}])
def test_wrong_personality(make_bundle, pyrunc, personality):
    done = pyrunc.create(make_bundle(linux={"personality": personality}))
    assert done.code == 1
    assert "personality" in done.stderr


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
    assert pyrunc.exec(container, *look).stdout.split()[1] == str(first)
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


def test_missing_cwd_is_made(make_bundle, pyrunc):
    bundle = make_bundle(args=["pwd"])
    bundle.process["cwd"] = "/new/deep/directory"
    assert pyrunc.run(bundle).stdout == "/new/deep/directory\n"


def test_missing_cwd_of_exec_is_an_error(make_bundle, pyrunc):
    container = pyrunc.start(make_bundle(args=["sleep", "1000"]))
    done = pyrunc("exec", "--cwd", "/nothing", container.id, "true")
    assert done.code == 255
    assert "chdir to cwd ('/nothing') set in config.json: no such file" in done.stderr.replace(
        "\\", ""
    )


@pytest.mark.parametrize("cwd", ["", "relative", "./x"])
def test_wrong_cwd(make_bundle, pyrunc, cwd):
    bundle = make_bundle()
    bundle.process["cwd"] = cwd
    done = pyrunc.run(bundle)
    assert done.code == 1
    assert "cwd" in done.stderr


def test_cwd_that_only_the_user_may_enter(make_bundle, pyrunc):
    bundle = make_bundle(args=["pwd"])
    (bundle.rootfs / "own").mkdir(mode=0o700)
    os.chown(bundle.rootfs / "own", 44, 44)
    bundle.process["cwd"] = "/own"
    bundle.process["user"] = {"uid": 44, "gid": 44}
    assert pyrunc.run(bundle).stdout == "/own\n"


def test_cwd_that_the_user_may_not_enter(make_bundle, pyrunc):
    """Root has entered it; the user may be there, but not come back."""
    bundle = make_bundle(args=["sh", "-c", "pwd; ls"])
    (bundle.rootfs / "closed").mkdir(mode=0o700)
    bundle.process["cwd"] = "/closed"
    bundle.process["user"] = {"uid": 45, "gid": 45}
    done = pyrunc.run(bundle)
    assert done.stdout == "/closed\n", done
    assert "Permission denied" in done.stderr
    bundle.process["args"] = ["sleep", "1000"]
    bundle.process["cwd"] = "/"
    done = pyrunc("exec", "--cwd", "/closed", pyrunc.start(bundle).id, "sh", "-c", "pwd; ls")
    assert done.stdout == "/closed\n", done


def test_groups(inside):
    user = {"uid": 5, "gid": 6, "additionalGids": [7, 8, 4294967294]}
    done = inside(["grep", "-E", "^(Uid|Gid|Groups)", "/proc/self/status"], {"user": user})
    uid, gid, groups = (line.split()[1:] for line in done.stdout.splitlines())
    assert uid == ["5"] * 4
    assert gid == ["6"] * 4
    assert sorted(groups) == ["4294967294", "7", "8"]


def test_no_group_of_the_caller_stays(inside):
    done = inside(["grep", "Groups", "/proc/self/status"], {"user": {"uid": 0, "gid": 0}})
    assert done.stdout.split() == ["Groups:"]


@pytest.mark.parametrize(
    "user", [{"uid": -1}, {"gid": 4294967295}, {"additionalGids": [-1]}, {"uid": "0"}]
)
def test_wrong_users(inside, user):
    done = inside(["true"], {"user": {"uid": 0, "gid": 0, **user}})
    assert done.code != 0
    assert "user" in done.stderr


@pytest.mark.parametrize("value", [True, False])
def test_no_new_privileges(inside, value):
    done = inside(["grep", "NoNewPrivs", "/proc/self/status"], {"noNewPrivileges": value})
    assert done.stdout.split() == ["NoNewPrivs:", str(int(value))]


def test_capability_sets_are_exactly_those_asked_for(inside):
    sets = {
        "bounding": ["CAP_KILL", "CAP_CHOWN", "CAP_NET_RAW"],
        "permitted": ["CAP_KILL", "CAP_CHOWN"],
        "effective": ["CAP_KILL"],
        "inheritable": ["CAP_CHOWN"],
        "ambient": ["CAP_CHOWN"],
    }
    user = {"uid": 9, "gid": 9}
    done = inside(
        ["grep", "Cap", "/proc/self/status"],
        {"capabilities": sets, "user": user, "noNewPrivileges": False},
    )
    seen = dict(line.split() for line in done.stdout.splitlines())
    # capabilities(7): execve by another than root keeps the ambient ones.
    assert int(seen["CapBnd:"], 16) == 1 << 5 | 1 << 0 | 1 << 13
    assert int(seen["CapAmb:"], 16) == int(seen["CapInh:"], 16) == 1 << 0
    assert int(seen["CapEff:"], 16) == int(seen["CapPrm:"], 16) == 1 << 0


def test_no_capabilities(inside):
    done = inside(["grep", "Cap", "/proc/self/status"], {"capabilities": {}})
    if inside.how == "process file":
        return  # what the file leaves out is the container's
    assert {line.split()[1] for line in done.stdout.splitlines()} == {"0" * 16}, done


def test_capabilities_that_cannot_be_granted_are_warned_about(make_bundle, pyrunc):
    """Unknown ones, and one that the runtime itself is without."""

    def without_chown():
        prctl(24, 0)  # PR_CAPBSET_DROP, CAP_CHOWN

    bundle = make_bundle(args=["grep", "CapBnd", "/proc/self/status"])
    for names in bundle.process["capabilities"].values():
        names[:] = ["CAP_KILL", "CAP_CHOWN", "CAP_NO_SUCH", "kill"]
    done = pyrunc.run(bundle, preexec_fn=without_chown)
    assert done.stdout.split() == ["CapBnd:", f"{1 << 5:016x}"], done
    assert done.stderr.count("level=warning") == 1
    words = "ignoring unknown or unavailable capabilities: [CAP_CHOWN CAP_NO_SUCH kill]"
    assert words in done.stderr


@pytest.mark.parametrize("annotation", ["1", "0", None])
def test_groups_of_the_caller_stay_when_an_annotation_asks_for_them(
    make_bundle, pyrunc, annotation
):
    bundle = make_bundle(args=["grep", "Groups", "/proc/self/status"])
    if annotation:
        bundle.config["annotations"] = {"run.oci.keep_original_groups": annotation}
    done = pyrunc.run(bundle, extra_groups=[4321, 1234])
    groups = ["1234", "4321"] if annotation == "1" else []
    assert done.stdout.split() == ["Groups:", *groups]


def test_console_size_is_ignored_without_a_terminal(make_bundle, pyrunc):
    size = {"height": 1 << 40, "width": 1 << 40}
    assert pyrunc.run(make_bundle(process={"consoleSize": size})).code == 0


def test_environment(inside):
    env = ["PATH=/bin", "A=1", "EMPTY=", "EQUALS=a=b", "A=2", "UNI=gr\u00fc\u00df", "SPACE=a b\nc"]
    done = inside(["sh", "-c", 'echo "$A|$EMPTY|$EQUALS|$UNI|$SPACE"'], {"env": env})
    assert done.stdout == "2||a=b|gr\u00fc\u00df|a b\nc\n"


def test_nothing_of_the_caller_s_environment(make_bundle, pyrunc, monkeypatch):
    monkeypatch.setenv("OF_THE_CALLER", "1")
    bundle = make_bundle(args=["env"])
    lines = pyrunc.run(bundle).stdout.split()
    assert sorted(lines) == ["HOME=/root", "PATH=/bin", "TERM=xterm"]


def test_session_keyring(make_bundle, pyrunc):
    """A new one for the container, shared by what is executed in it; the caller's if so asked."""
    look = ["sh", "-c", "cat /proc/keys"]
    bundle = make_bundle(args=["sleep", "1000"])
    bundle.linux["maskedPaths"] = []
    if not Path("/proc/keys").exists():
        pytest.skip("a kernel without keys")
    container = pyrunc.start(bundle)
    assert f"_ses.{container.id}" in pyrunc.exec(container, *look).stdout
    container = pyrunc.create(bundle, "--no-new-keyring")
    assert pyrunc("start", container.id).code == 0
    assert f"_ses.{container.id}" not in pyrunc.exec(container, *look).stdout


def test_it_leads_a_session_of_its_own(inside):
    done = inside(["sh", "-c", "cat /proc/$$/stat; echo $$"], {})
    fields = done.stdout.partition(")")[2].split()
    # Process group and session are its own number, and there is no terminal.
    assert fields[2] == fields[3] == done.stdout.split()[-1]
    assert fields[4] == "0"
