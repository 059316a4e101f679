"""Properties of ``process`` that are one system call each, compiled to launch program entries.

Scheduling, limits, priorities, personality, memory policy: numbers of config.json in, the
calls of the man pages out.
"""

from __future__ import annotations

from _struct import pack
from errno import EACCES

from pyrunc.errors import Error, reason
from pyrunc.linux.libc import syscall
from pyrunc.linux.numbers import SYS
from pyrunc.process.failure import meaning

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyrunc.process.launch import LaunchProgram
    from pyrunc.spec.types import IOPriority, MemoryPolicy, Personality, Rlimit, Scheduler

#: getrlimit(2), asm-generic/resource.h.
RLIMITS = {
    "RLIMIT_CPU": 0,
    "RLIMIT_FSIZE": 1,
    "RLIMIT_DATA": 2,
    "RLIMIT_STACK": 3,
    "RLIMIT_CORE": 4,
    "RLIMIT_RSS": 5,
    "RLIMIT_NPROC": 6,
    "RLIMIT_NOFILE": 7,
    "RLIMIT_MEMLOCK": 8,
    "RLIMIT_AS": 9,
    "RLIMIT_LOCKS": 10,
    "RLIMIT_SIGPENDING": 11,
    "RLIMIT_MSGQUEUE": 12,
    "RLIMIT_NICE": 13,
    "RLIMIT_RTPRIO": 14,
    "RLIMIT_RTTIME": 15,
}
#: sched(7).
POLICIES = {
    "SCHED_OTHER": 0,
    "SCHED_FIFO": 1,
    "SCHED_RR": 2,
    "SCHED_BATCH": 3,
    "SCHED_ISO": 4,
    "SCHED_IDLE": 5,
    "SCHED_DEADLINE": 6,
}
SCHEDULER_FLAGS = {
    "SCHED_FLAG_RESET_ON_FORK": 0x01,
    "SCHED_FLAG_RECLAIM": 0x02,
    "SCHED_FLAG_DL_OVERRUN": 0x04,
    "SCHED_FLAG_KEEP_POLICY": 0x08,
    "SCHED_FLAG_KEEP_PARAMS": 0x10,
    "SCHED_FLAG_UTIL_CLAMP_MIN": 0x20,
    "SCHED_FLAG_UTIL_CLAMP_MAX": 0x40,
}
IO_CLASSES = {"IOPRIO_CLASS_RT": 1, "IOPRIO_CLASS_BE": 2, "IOPRIO_CLASS_IDLE": 3}
#: set_mempolicy(2), linux/mempolicy.h.
MEMORY_MODES = {
    "MPOL_DEFAULT": 0,
    "MPOL_PREFERRED": 1,
    "MPOL_BIND": 2,
    "MPOL_INTERLEAVE": 3,
    "MPOL_LOCAL": 4,
    "MPOL_PREFERRED_MANY": 5,
    "MPOL_WEIGHTED_INTERLEAVE": 6,
}
MEMORY_FLAGS = {
    "MPOL_F_NUMA_BALANCING": 1 << 13,
    "MPOL_F_RELATIVE_NODES": 1 << 14,
    "MPOL_F_STATIC_NODES": 1 << 15,
}
#: A bit for each of the 8192 CPUs that a kernel can be built for (CONFIG_NR_CPUS).
_EVERY_CPU = b"\xff" * 1024
_PERSONALITIES = {"LINUX": 0x0000, "LINUX32": 0x0008}


def why_no_score(error: OSError) -> str:
    """Say why an oom_score_adj was refused (proc_pid_oom_score_adj(5))."""
    if error.errno != EACCES:
        return reason(error)
    return f"{reason(error)}; who lacks CAP_SYS_RESOURCE cannot set it lower than it is"


def set_rlimits(pid: int, rlimits: Sequence[Rlimit]) -> None:
    """prlimit64(2) from outside, for a process that may not raise a hard limit itself.

    :raises Error: naming the limit, when the caller may not either.
    """
    for limit in rlimits:
        value = pack("=QQ", limit["soft"], limit["hard"])
        try:
            syscall(SYS["prlimit64"], pid, RLIMITS[limit["type"]], value, 0)
        except OSError as error:
            label = f"set {limit['type']} to {limit['soft']}:{limit['hard']}"
            why = f"{reason(error)}{meaning(label, error.errno or 0)}"
            raise Error(f"cannot {label}: {why}") from None


def add_rlimits(program: LaunchProgram, rlimits: Sequence[Rlimit]) -> None:
    """prlimit64(2) for each of ``process.rlimits``."""
    for limit in rlimits:
        program.call(
            f"set {limit['type']} to {limit['soft']}:{limit['hard']}",
            "prlimit64",
            0,
            RLIMITS[limit["type"]],
            pack("=QQ", limit["soft"], limit["hard"]),
            0,
        )


def lost_by_fork(scheduler: Scheduler) -> bool:
    """Tell whether a child does not inherit it, or a process that has it has no children."""
    flags = scheduler.get("flags") or ()
    return scheduler["policy"] == "SCHED_DEADLINE" or "SCHED_FLAG_RESET_ON_FORK" in flags


def add_scheduler(program: LaunchProgram, scheduler: Scheduler) -> None:
    """sched_setattr(2) for ``process.scheduler``."""
    label = f"set scheduler {scheduler['policy']}"
    program.call(label, "sched_setattr", 0, _sched_attr(scheduler), 0)


def set_scheduler(pid: int, scheduler: Scheduler) -> None:
    """sched_setattr(2) from outside.

    :raises Error: naming the policy.
    """
    try:
        syscall(SYS["sched_setattr"], pid, _sched_attr(scheduler), 0)
    except OSError as error:
        label = f"set scheduler {scheduler['policy']}"
        raise Error(f"{label}: {reason(error)}{meaning(label, error.errno or 0)}") from None


def _sched_attr(scheduler: Scheduler) -> bytes:
    flags = 0
    for name in scheduler.get("flags") or ():
        flags |= SCHEDULER_FLAGS[name]
    return pack(
        # The last two are the utilization clamps' (linux/sched/types.h), for which config.json
        # has the flags, but no values.
        "=IIQiIQQQII",
        56,
        POLICIES[scheduler["policy"]],
        flags,
        scheduler.get("nice", 0),
        scheduler.get("priority", 0),
        scheduler.get("runtime", 0),
        scheduler.get("deadline", 0),
        scheduler.get("period", 0),
        0,
        0,
    )


def add_io_priority(program: LaunchProgram, priority: IOPriority) -> None:
    """ioprio_set(2) for ``process.ioPriority``, with IOPRIO_WHO_PROCESS."""
    value = IO_CLASSES[priority["class"]] << 13 | priority.get("priority", 0)
    program.call(f"set I/O priority {priority['class']}", "ioprio_set", 1, 0, value)


def add_personality(program: LaunchProgram, personality: Personality) -> None:
    """personality(2) for ``linux.personality``."""
    domain = personality["domain"]
    program.call(f"set personality {domain}", "personality", _PERSONALITIES[domain])


def add_memory_policy(program: LaunchProgram, policy: MemoryPolicy) -> None:
    """set_mempolicy(2) for ``linux.memoryPolicy``."""
    mode = MEMORY_MODES[policy["mode"]]
    for name in policy.get("flags") or ():
        mode |= MEMORY_FLAGS[name]
    from pyrunc.linux.number_lists import mask_of

    mask = mask_of(policy.get("nodes", ""))
    words = (mask.bit_length() + 63) // 64
    # The kernel reads one bit less than it is told of (set_mempolicy(2), BUGS).
    nodes = mask.to_bytes(8 * words, "little") if words else 0
    program.call(
        f"set memory policy {policy['mode']}",
        "set_mempolicy",
        mode,
        nodes,
        64 * words + 1 if words else 0,
    )


def add_cpu_affinity(program: LaunchProgram, cpus: str) -> None:
    """sched_setaffinity(2) to a list such as ``0-3,7``, or to every CPU there may be.

    The latter undoes the mask of who called the runtime: since Linux 6.2 a process keeps it when
    it joins a cpuset, of which it could then not use the rest (cpuset(7); kernel/sched/core.c,
    user_cpus_ptr). The kernel itself takes away what the cpuset does not give.
    """
    if not cpus:
        label = "undo the caller's CPU affinity"
        every = _EVERY_CPU
        # A sandbox around us may forbid it; the container then has what the runtime has.
        program.call(label, "sched_setaffinity", 0, len(every), every, ignore=True)
        return
    from pyrunc.linux.number_lists import mask_of

    mask = mask_of(cpus)
    size = (mask.bit_length() + 63) // 64 * 8
    program.call(
        f"set CPU affinity to {cpus}",
        "sched_setaffinity",
        0,
        size,
        mask.to_bytes(size, "little"),
    )


def without_repetitions(env: Sequence[str]) -> list[str]:
    """Return ``env`` with each name once; its last value counts.

    Which of several a program would see is its C library's choice.
    """
    last = {entry.partition("=")[0]: entry for entry in env}
    return list(last.values())
