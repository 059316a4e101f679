"""What init says when a call of its launch program failed (``struct failure`` in init/init.c)."""

from __future__ import annotations

import posix
from _struct import Struct
from errno import EBUSY, EINVAL, EPERM

from pyrunc.errors import NEEDS_REAL_TIME
from pyrunc.linux import processes as p

MAGIC = 0x31676E4C
#: How the label of setgroups(2) begins.
SET_GROUPS = "set supplementary groups"
#: How the label of a startContainer hook begins.
START_HOOK = "error running startContainer hook"
#: The label of what fails, whatever the errno, when a container without a process is started.
NO_PROCESS = "config.json has no process, so there is nothing to start"
_FAILURE = Struct("<5I")
#: How the label of a call begins, its errno, and what that means in the words of config.json.
_MEANINGS = (
    ("join cgroup ", EINVAL, NEEDS_REAL_TIME),
    ("set uid ", EINVAL, "the user namespace does not map it (linux.uidMappings)"),
    ("set gid ", EINVAL, "the user namespace does not map it (linux.gidMappings)"),
    (
        SET_GROUPS,
        EINVAL,
        "the user namespace does not map all of them (linux.gidMappings)",
    ),
    (
        SET_GROUPS,
        EPERM,
        "a user namespace that one user has mapped for itself, as in a rootless container "
        "without newgidmap, can have none",
    ),
    (
        "set scheduler SCHED_DEADLINE",
        EPERM,
        "it takes CAP_SYS_NICE and all CPUs of the host: no linux.resources.cpu.cpus, no affinity",
    ),
    (
        "set scheduler SCHED_DEADLINE",
        EBUSY,
        "the kernel has not so much time left to guarantee",
    ),
    (
        "set scheduler SCHED_DEADLINE",
        EINVAL,
        "needed are 1024 <= runtime <= deadline <= period, in nanoseconds",
    ),
    (
        "set scheduler ",
        EPERM,
        "it takes CAP_SYS_NICE, and in a cgroup of v1 linux.resources.cpu.realtimeRuntime",
    ),
    ("set I/O priority ", EPERM, "it takes CAP_SYS_NICE or CAP_SYS_ADMIN"),
    ("set RLIMIT_", EPERM, "only CAP_SYS_RESOURCE may raise a hard limit"),
    ("set CPU affinity ", EINVAL, "the host, or the container's cpuset, has none of them"),
    ("set memory policy ", EINVAL, "the host, or the container's cpuset, lacks these nodes"),
)


def parse_failure(record: bytes) -> tuple[int, int, int, str] | None:
    """Take a failure record of init's apart: ``(index, errno, wait status, label)``.

    To the wait status of a hook belongs what it printed (:func:`printed_in`). None when it is not
    a record.
    """
    if len(record) < _FAILURE.size:
        return None
    magic, index, code, detail, length = _FAILURE.unpack_from(record)
    if magic != MAGIC or len(record) < _FAILURE.size + length:
        return None
    label = record[_FAILURE.size : _FAILURE.size + length].decode("utf-8", "replace")
    return index, code, detail, label


def printed_in(record: bytes) -> str:
    """Return what a failed hook had printed, the lines joined; nothing when that was nothing."""
    length = _FAILURE.unpack_from(record)[4]
    text = record[_FAILURE.size + length :].decode("utf-8", "replace")
    lines = [line.strip() for line in text.split("\n") if line.strip("\0 \r")]
    return f", output: {'; '.join(lines)}" if lines else ""


def describe_failure(failure: tuple[int, int, int, str]) -> str:
    """Turn a failure record of init's into words."""
    _, code, detail, label = failure
    if code and label != NO_PROCESS:
        return f"{label}: {posix.strerror(code).lower()}{meaning(label, code)}"
    if detail:
        ending = p.exit_status(detail)
        return f"{label}: exit status {ending}"
    return label


def meaning(label: str, code: int) -> str:
    """Return what an errno means after the call with this label; "" where its text says enough.

    After the section ERRORS of each call's man page.
    """
    for beginning, errno, words in _MEANINGS:
        if code == errno and label.startswith(beginning):
            return f"; {words}"
    return ""
