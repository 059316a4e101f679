"""Which of the caller's descriptors go to the container's program.

Standard input, output and error always do. After them come those that a service
manager announced ($LISTEN_FDS, sd_listen_fds(3)), then as many as
``--preserve-fds`` says. All others end at the program's execve.
"""

from __future__ import annotations

import posix
from errno import ENOSYS, EPERM

from pyrunc.errors import Error
from pyrunc.linux.libc import syscall
from pyrunc.linux.numbers import SYS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

_FIRST = 3
_F_GETFD = 1
_FD_CLOEXEC = 1
_MOST = 1 << 16


class Passed:
    """The descriptors from 3 on that are passed: ``total``, the first ``announced`` by name."""

    __slots__ = ("announced", "names", "total")

    def __init__(self, announced: int, total: int, names: str) -> None:
        self.announced = announced
        self.total = total
        #: $LISTEN_FDNAMES of the caller, or nothing.
        self.names = names

    @property
    def environment(self) -> list[str]:
        """What the program is told of them, but for $LISTEN_PID, which nobody knows yet."""
        if not self.announced:
            return []
        told = [f"LISTEN_FDS={self.announced}"]
        if self.names:
            told.append(f"LISTEN_FDNAMES={self.names}")
        return told


def passed(preserve: int) -> Passed:
    """Find out what the caller wants to pass, and that it is there.

    To be asked before a descriptor of ours that is not close-on-exec can be open.

    :param preserve: the number of ``--preserve-fds``.
    :raises Error: when one of those is not open.
    """
    announced = _announced()
    total = announced + preserve
    for descriptor in range(_FIRST + announced, _FIRST + total):
        if not _is_inherited(descriptor):
            raise Error(
                f"unable to stat preserved-fd {descriptor} (of {preserve}): bad file descriptor"
            )
    names = ""
    if announced:
        names = posix.environ.get(b"LISTEN_FDNAMES", b"").decode("utf-8", "surrogateescape")
    return Passed(announced, total, names)


def _announced() -> int:
    """Return how many descriptors $LISTEN_FDS announces to this process and are really open.

    Engines keep the variable for others and close the descriptors: no error, then.
    """
    value = posix.environ.get(b"LISTEN_FDS", b"")
    if not value or not value.isdigit() or len(value) > 9:
        return 0
    if posix.environ.get(b"LISTEN_PID") != b"%d" % posix.getpid():
        # Meant for another process, or for none (sd_listen_fds(3)).
        return 0
    count = 0
    while count < min(int(value), _MOST) and _is_inherited(_FIRST + count):
        count += 1
    return count


def close_all_but(kept: Iterable[int]) -> None:
    """Close all descriptors from 3 on that are not in ``kept``: for a fork that is to hold none."""
    first = _FIRST
    ends = sorted(descriptor for descriptor in kept if descriptor >= _FIRST)
    try:
        for end in ends:
            if end > first:
                syscall(SYS["close_range"], first, end - 1, 0)
            first = end + 1
        syscall(SYS["close_range"], first, 0xFFFFFFFF, 0)
    except OSError as error:
        # Known since Linux 5.9; a sandbox around us may not know it yet.
        if error.errno not in (ENOSYS, EPERM):
            raise
        for name in posix.listdir("/proc/self/fd"):
            if int(name) >= _FIRST and int(name) not in ends:
                try:
                    posix.close(int(name))
                except OSError:
                    # The one that listed the directory.
                    continue


def _is_inherited(descriptor: int) -> bool:
    """Tell whether the caller gave us this descriptor: whatever we open is close-on-exec."""
    try:
        return not syscall(SYS["fcntl"], descriptor, _F_GETFD) & _FD_CLOEXEC
    except OSError:
        return False
