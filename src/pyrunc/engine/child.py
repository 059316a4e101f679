"""A child that is no box's: the program hears how it ends, and may send it signals."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from pyrunc.engine import messages
from pyrunc.linux import processes as p

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

    from pyrunc.engine.watch import Watch


class Child:
    """Such a process, until it has ended."""

    def __init__(self, pid: int, pidfd: int, line: socket.socket) -> None:
        self.pid = pid
        self.pidfd = pidfd
        #: Where the program hears of it; None when it does not listen any more.
        self.line: socket.socket | None = line
        self.began = time.monotonic()

    def tell(self, what: str, value: dict[str, Any], passed: Sequence[int] = ()) -> None:
        """Tell the program something, if it listens."""
        if self.line is not None:
            messages.tell(self.line, what, value, passed)

    def tell_end(self, returncode: int) -> None:
        """Tell that it has ended; what it has used is not known here."""
        report: dict[str, Any] = {"why": "", "returncode": returncode, "oom": False}
        report |= {"duration": time.monotonic() - self.began, "cpu_time": None}
        report |= {"memory_peak": None, "pids_peak": None, "not_enforced": [], "warnings": []}
        self.tell("ended", report)

    def hear(self, watch: Watch) -> None:
        """Take what the program says."""
        assert self.line is not None
        try:
            received = messages.receive(self.line)
        except BlockingIOError:
            return
        if received is None:
            self.part(watch)
            return
        what, value = received[0]
        if what == "signal":
            p.pidfd_send_signal(self.pidfd, value)

    def part(self, watch: Watch) -> None:
        """Close the line, if it is open."""
        if self.line is not None:
            watch.forget(self.line.fileno())
            self.line.close()
            self.line = None
