"""What ``process`` may hold: the tables and rules of config.md#process.

Unknown capability names are no mistake (the runtime warns about them), nor is
a member of ``env`` without "=", which the kernel and runc take as it is.
"""

from __future__ import annotations

from pyrunc.spec.kinds import (
    FINE,
    MISSING,
    absolute_path,
    array,
    boolean,
    id_number,
    int32,
    integer,
    members,
    number_list,
    one_of,
    show,
    text,
    texts,
    uint32,
    uint64,
    wrong,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyrunc.spec.kinds import Mistake, Mistakes

RLIMITS = (
    "RLIMIT_AS",
    "RLIMIT_CORE",
    "RLIMIT_CPU",
    "RLIMIT_DATA",
    "RLIMIT_FSIZE",
    "RLIMIT_LOCKS",
    "RLIMIT_MEMLOCK",
    "RLIMIT_MSGQUEUE",
    "RLIMIT_NICE",
    "RLIMIT_NOFILE",
    "RLIMIT_NPROC",
    "RLIMIT_RSS",
    "RLIMIT_RTPRIO",
    "RLIMIT_RTTIME",
    "RLIMIT_SIGPENDING",
    "RLIMIT_STACK",
)
SCHEDULER_POLICIES = (
    "SCHED_OTHER",
    "SCHED_FIFO",
    "SCHED_RR",
    "SCHED_BATCH",
    "SCHED_ISO",
    "SCHED_IDLE",
    "SCHED_DEADLINE",
)
SCHEDULER_FLAGS = (
    "SCHED_FLAG_RESET_ON_FORK",
    "SCHED_FLAG_RECLAIM",
    "SCHED_FLAG_DL_OVERRUN",
    "SCHED_FLAG_KEEP_POLICY",
    "SCHED_FLAG_KEEP_PARAMS",
    "SCHED_FLAG_UTIL_CLAMP_MIN",
    "SCHED_FLAG_UTIL_CLAMP_MAX",
)
IO_PRIORITY_CLASSES = ("IOPRIO_CLASS_RT", "IOPRIO_CLASS_BE", "IOPRIO_CLASS_IDLE")

#: The kernel's CPU masks have at most 8192 bits (CONFIG_NR_CPUS).
_cpus = number_list(8191, "CPUs")


def repeated(entries: list[Any], member: str) -> list[Mistake]:
    """Return a mistake for each entry whose ``member`` an entry before it has too."""
    seen = set()
    mistakes = []
    for index, entry in enumerate(entries):
        if entry[member] in seen:
            found = f"{show(entry[member])} a second time"
            mistakes.append((f"[{index}].{member}", "each only once", found))
        seen.add(entry[member])
    return mistakes


def _args(value: object) -> Mistakes:
    if value is MISSING or value == []:
        return wrong("at least one element (args must not be empty)", value)
    return texts(value)


def _soft_within_hard(rlimit: dict[str, Any]) -> Mistakes:
    if rlimit["soft"] <= rlimit["hard"]:
        return FINE
    return wrong(f"no more than the hard limit, {rlimit['hard']}", rlimit["soft"], "soft")


_rlimit_list = array(
    members(
        {"type": one_of(*RLIMITS), "soft": uint64, "hard": uint64},
        required=("type", "soft", "hard"),
        rules=((("soft", "hard"), _soft_within_hard),),
    )
)


def _rlimits(value: object) -> Mistakes:
    return _rlimit_list(value) or repeated(value, "type")  # type: ignore[arg-type]


def _scheduler_fits_policy(scheduler: dict[str, Any]) -> Mistakes:
    """Return the settings that sched_setattr(2) refuses, or ignores, for the policy."""
    policy = scheduler["policy"]
    mistakes: list[Mistake] = []
    nice = scheduler.get("nice", 0)
    if policy in ("SCHED_OTHER", "SCHED_BATCH") and not -20 <= nice <= 19:
        mistakes += wrong("an integer from -20 to 19", nice, "nice")
    priority = scheduler.get("priority", 0)
    if policy in ("SCHED_FIFO", "SCHED_RR"):
        if not 0 <= priority <= 99:
            mistakes += wrong("an integer from 0 to 99", priority, "priority")
    elif priority:
        mistakes += wrong(f"nothing, as {policy} has no priorities", priority, "priority")
    if policy != "SCHED_DEADLINE":
        for name in ("runtime", "deadline", "period"):
            if scheduler.get(name):
                only = "nothing, as only SCHED_DEADLINE takes it"
                mistakes += wrong(only, scheduler[name], name)
    return mistakes


def _priority_of_class(io_priority: dict[str, Any]) -> Mistakes:
    """The idle class has no priorities (ioprio_set(2)), so it needs none."""
    if io_priority["class"] == "IOPRIO_CLASS_IDLE" or "priority" in io_priority:
        return FINE
    return wrong("an integer from 0 to 7", MISSING, "priority")


def _console_fits_terminal(process: dict[str, Any]) -> Mistakes:
    """A size is ignored without a terminal; with one it goes into struct winsize."""
    mistakes: list[Mistake] = []
    if process.get("terminal"):
        for name, value in process.get("consoleSize", {}).items():
            if name in ("height", "width") and value > 65535:
                mistakes += wrong("an integer from 0 to 65535", value, f"consoleSize.{name}")
    return mistakes


process = members(
    {
        "terminal": boolean,
        "consoleSize": members({"height": uint64, "width": uint64}, required=("height", "width")),
        "user": members(
            {
                # Go's decoder, and so every other runtime, takes absent ids as 0.
                "uid": id_number,
                "gid": id_number,
                "umask": uint32,
                "additionalGids": array(id_number),
                "username": text,
            }
        ),
        "args": _args,
        "env": texts,
        "cwd": absolute_path,
        "capabilities": members(
            {
                "bounding": texts,
                "effective": texts,
                "inheritable": texts,
                "permitted": texts,
                "ambient": texts,
            }
        ),
        "rlimits": _rlimits,
        "noNewPrivileges": boolean,
        "apparmorProfile": text,
        "selinuxLabel": text,
        "oomScoreAdj": integer(-1000, 1000),
        "scheduler": members(
            {
                "policy": one_of(*SCHEDULER_POLICIES),
                "nice": int32,
                "priority": int32,
                "flags": array(one_of(*SCHEDULER_FLAGS)),
                "runtime": uint64,
                "deadline": uint64,
                "period": uint64,
            },
            required=("policy",),
            rules=(
                (
                    ("policy", "nice", "priority", "runtime", "deadline", "period"),
                    _scheduler_fits_policy,
                ),
            ),
        ),
        "ioPriority": members(
            {"class": one_of(*IO_PRIORITY_CLASSES), "priority": integer(0, 7)},
            required=("class",),
            rules=((("class", "priority"), _priority_of_class),),
        ),
        "execCPUAffinity": members({"initial": _cpus, "final": _cpus}),
    },
    required=("args", "cwd"),
    rules=((("terminal", "consoleSize"), _console_fits_terminal),),
)
