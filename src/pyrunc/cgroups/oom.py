"""Hearing of out-of-memory kills in a container's cgroup, without asking again and again."""

from __future__ import annotations

import posix
from _struct import unpack
from errno import ENODEV

from pyrunc.cgroups import cgroupfs
from pyrunc.linux import files
from pyrunc.linux.libc import cstring, syscall
from pyrunc.linux.numbers import SYS

_EFD_FLAGS = posix.O_CLOEXEC | posix.O_NONBLOCK
_IN_MODIFY = 0x2


class NoOomWatch:
    """Where there is no memory controller, nothing is ever heard."""

    #: What to poll(2) for reading; -1 is passed over by the kernel.
    descriptor = -1

    def take(self) -> bool:
        """Tell whether a process was killed since the last call."""
        return False

    def close(self) -> None:
        """Stop listening."""


class OomWatchV1(NoOomWatch):
    """An eventfd that the kernel counts up (memory.rst, section 10)."""

    def __init__(self, directory: str) -> None:
        self.descriptor = syscall(SYS["eventfd2"], 0, _EFD_FLAGS)
        self._control = posix.open(
            f"{directory}/memory.oom_control", posix.O_RDONLY | files.O_CLOEXEC
        )
        command = f"{self.descriptor} {self._control}"
        cgroupfs.write(directory, "cgroup.event_control", command)

    def take(self) -> bool:
        """Tell whether the memory limit was hit since the last call.

        The removal of the cgroup counts the eventfd up as well: it is not an event.
        """
        try:
            count: int = unpack("=Q", posix.read(self.descriptor, 8))[0]
        except BlockingIOError:
            return False
        try:
            posix.lseek(self._control, 0, 0)
            posix.read(self._control, 1)
        except OSError:
            return False
        return count > 0

    def close(self) -> None:
        """Stop listening."""
        posix.close(self.descriptor)
        posix.close(self._control)


class OomWatchV2(NoOomWatch):
    """inotify(7) on memory.events, whose ``oom_kill`` counts the kills.

    systemd removes a scope as soon as it is empty, and what its file said last may be gone with
    it; but the slice above counts the kills of all that is below it.
    """

    def __init__(self, directory: str) -> None:
        self._directories = (directory, directory.rpartition("/")[0])
        self._kills = self._count()
        self.descriptor = syscall(SYS["inotify_init1"], _EFD_FLAGS)
        path = cstring(f"{directory}/memory.events")
        try:
            syscall(SYS["inotify_add_watch"], self.descriptor, path, _IN_MODIFY)
        except FileNotFoundError:
            # The cgroup has no memory controller, or is gone.
            posix.close(self.descriptor)
            self.descriptor = -1

    def take(self) -> bool:
        """Tell whether a process was killed since the last call."""
        try:
            posix.read(self.descriptor, 4096)
        except BlockingIOError:
            return False
        before, self._kills = self._kills, self._count()
        own, above = self._kills
        return own > before[0] if own >= 0 else above > before[1]

    def _count(self) -> tuple[int, int]:
        own, above = (_kills_in(directory) for directory in self._directories)
        return own, above

    def close(self) -> None:
        """Stop listening."""
        if self.descriptor >= 0:
            posix.close(self.descriptor)


def _kills_in(directory: str) -> int:
    """Return how many processes were killed in a cgroup and below it; -1 when it is gone."""
    try:
        text = cgroupfs.read_optional(directory, "memory.events")
    except OSError as error:
        if error.errno != ENODEV:
            raise
        return -1
    for line in text.splitlines():
        name, _, value = line.partition(" ")
        if name == "oom_kill":
            return int(value)
    return -1
