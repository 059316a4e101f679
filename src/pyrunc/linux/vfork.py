"""A child that works in this process's memory until it executes a program (vfork(2), in Python)."""

from __future__ import annotations

from _struct import pack, unpack_from

from pyrunc.linux import libc
from pyrunc.linux import processes as p
from pyrunc.linux.numbers import SYS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_CLONE_VM = 0x00000100
_CLONE_VFORK = 0x00004000
_PR_GET_DUMPABLE = 3
_EVERY_SIGNAL = pack("=Q", (1 << 64) - 1)


def vfork(
    flags: int, cgroup: int, last_words: str, work: Callable[..., tuple[object, ...] | None]
) -> tuple[int, int]:
    """Have a child in namespaces and a cgroup call ``work`` in this process's memory.

    All signals are blocked in the child: one that was stopped would hold up this process, which
    nothing but SIGKILL reaches.

    :param last_words: as for :func:`pyrunc.linux.libc.vfork`.
    :return: ``(pid, pidfd)``, once it has executed a program or ended.
    """
    pidfd = bytearray(4)
    arguments = p.clone3_arguments(flags | _CLONE_VM | _CLONE_VFORK, pidfd, p.SIGCHLD, cgroup)
    mask = bytearray(8)
    libc.syscall(SYS["rt_sigprocmask"], p.SIG_BLOCK, _EVERY_SIGNAL, mask, 8)
    dumpable = p.prctl(_PR_GET_DUMPABLE)
    try:
        pid = libc.vfork(arguments, last_words.encode(), work)
    finally:
        if dumpable == 1:
            # A change of ids in the child has made the memory undumpable (prctl(2)), ours as well.
            p.prctl(p.PR_SET_DUMPABLE, 1)
        libc.syscall(SYS["rt_sigprocmask"], p.SIG_SETMASK, bytes(mask), 0, 8)
    return pid, unpack_from("=i", pidfd)[0]
