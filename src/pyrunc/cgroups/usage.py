"""What a container has used so far: the few numbers that the library reports of each run."""

from __future__ import annotations

import posix

from pyrunc.cgroups.cgroupfs import write
from pyrunc.errors import Error
from pyrunc.linux.libc import AT_FDCWD, fetch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_READ = posix.O_RDONLY | posix.O_CLOEXEC


class Usage:
    """Sums and peaks of a container's cgroup; None is what this kernel or host does not tell."""

    __slots__ = ("cpu_time", "memory_peak", "oom_kills", "pids_peak")

    def __init__(self) -> None:
        #: Seconds of all processors together.
        self.cpu_time: float | None = None
        #: Bytes.
        self.memory_peak: int | None = None
        self.pids_peak: int | None = None
        #: How many processes the kernel has killed for want of memory.
        self.oom_kills = 0


def usage_of(paths: Mapping[str, str], version: int) -> Usage:
    """Read the numbers of the cgroup at ``paths`` (by controller; "" on v2)."""
    usage = sums_of(paths, version)
    memory, pids = (_directory(paths, version, name) for name in ("memory", "pids"))
    peak = "memory.peak" if version == 2 else "memory.max_usage_in_bytes"
    usage.memory_peak = _number(memory, peak)
    usage.pids_peak = _number(pids, "pids.peak")
    return usage


def sums_of(paths: Mapping[str, str], version: int) -> Usage:
    """Read what only grows: what was before can be taken from what comes out."""
    usage = Usage()
    usage.cpu_time = cpu_time_of(paths, version)
    events = "memory.events" if version == 2 else "memory.oom_control"
    usage.oom_kills = _member(_directory(paths, version, "memory"), events, "oom_kill") or 0
    return usage


def cpu_time_of(paths: Mapping[str, str], version: int) -> float | None:
    """Return the seconds of processor time that all in the cgroup have used; None if unknown."""
    if version == 2:
        microseconds = _member(paths.get("", ""), "cpu.stat", "usage_usec")
        return None if microseconds is None else microseconds / 1e6
    nanoseconds = _number(paths.get("cpuacct", ""), "cpuacct.usage")
    return None if nanoseconds is None else nanoseconds / 1e9


def tasks_in(paths: Mapping[str, str], version: int) -> int | None:
    """Return how many threads there are, those included that have ended and are not collected."""
    return _number(_directory(paths, version, "pids"), "pids.current")


def forget_peak(paths: Mapping[str, str], version: int) -> None:
    """Begin to measure the peak of memory anew, where the kernel lets us (v1)."""
    if version == 1 and "memory" in paths:
        try:
            write(paths["memory"], "memory.max_usage_in_bytes", "0")
        except Error:
            # Not ours to write to: then the builder's share stays in it.
            return


def _directory(paths: Mapping[str, str], version: int, controller: str) -> str:
    return paths.get("" if version == 2 else controller, "")


def _number(directory: str, name: str) -> int | None:
    text = _read(directory, name).strip()
    return int(text) if text.isdigit() else None


def _member(directory: str, name: str, member: str) -> int | None:
    for line in _read(directory, name).splitlines():
        key, _, value = line.partition(" ")
        if key == member:
            return int(value)
    return None


def _read(directory: str, name: str) -> str:
    if not directory:
        return ""
    path = f"{directory}/{name}".encode("utf-8", "surrogateescape")
    content = fetch(AT_FDCWD, path, _READ, 0, 4096)
    # Else removed meanwhile, or not to be read by us.
    return content.decode() if isinstance(content, bytes) else ""
