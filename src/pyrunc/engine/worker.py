"""What an engine has another process do, because it takes long: the engine itself goes on.

That process is a fork of it, with nothing of it but the line that the answer goes to.
"""

from __future__ import annotations

import os
import posix
from typing import TYPE_CHECKING, Any

from pyrunc.engine import failures, messages
from pyrunc.linux import processes as p
from pyrunc.process.descriptors import close_all_but

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from pyrunc.engine.watch import Watch


def work(line: socket.socket, function: Callable[[], Any], *, kept: int = -1) -> int:
    """Begin to call ``function`` in another process, which answers by itself.

    It is asked to end (SIGTERM) when the engine ends before it.

    :param kept: a descriptor that it needs, beside the line.
    :return: its pidfd; it is to be collected.
    """
    engine = posix.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            _carry_out(engine, line, function, kept)
        finally:
            posix._exit(1)
    return os.pidfd_open(pid)


def collect(watch: Watch, pidfd: int) -> None:
    """Collect such a process, which has ended, and watch it no more."""
    watch.forget(pidfd)
    os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
    posix.close(pidfd)


def _carry_out(engine: int, line: socket.socket, function: Callable[[], Any], kept: int) -> None:
    p.prctl(p.PR_SET_PDEATHSIG, p.SIGTERM)
    if posix.getppid() != engine:
        return
    # The program is told the ends of others by their lines, of which we have copies.
    close_all_but((line.fileno(), kept))
    try:
        answer = ("done", function())
    except BaseException as error:
        answer = ("error", {**failures.described(error), "warnings": []})
    messages.send(line, answer)
