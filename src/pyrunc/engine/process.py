"""One process of a container, as its engine sees it: when it must end, and how it did."""

from __future__ import annotations

import posix
import time
from typing import TYPE_CHECKING, Any

from pyrunc.container.making.served import status_told
from pyrunc.linux import process_stat
from pyrunc.linux import processes as p

if TYPE_CHECKING:
    import socket

    from pyrunc.cgroups.usage import Usage
    from pyrunc.engine.box import Box

#: The longest and the shortest pause between two looks at the processor time that is used.
_LONGEST_PAUSE, _SHORTEST_PAUSE = 1.0, 0.01


class Running:
    """A process that the program has asked for, until it has ended."""

    def __init__(
        self,
        box: Box,
        pid: int,
        pidfd: int,
        line: socket.socket,
        limits: dict[str, Any],
        before: Usage,
        sign: int = -1,
    ) -> None:
        self.box = box
        self.pid = pid
        self.pidfd = pidfd
        #: What is ready when it has ended: the pidfd, or what is not ours to close.
        self.sign = sign if sign >= 0 else pidfd
        #: Where the program hears of the end; when it closes its end, that is the end.
        self.line = line
        #: Whether the container ends with it.
        self.alone = bool(limits.get("alone"))
        #: Whether it is the container's first process, with which that ends.
        self.is_first = bool(limits.get("first"))
        #: Whether it is the child of our init's, which ends with it: :attr:`pid` is init's then.
        self._is_served = sign >= 0
        #: Whether the process with that number has been waited for.
        self.is_collected = False
        self.began = time.monotonic()
        self.deadline: float | None = None
        if limits.get("timeout") is not None:
            self.deadline = self.began + limits["timeout"]
        self._cpu_limit: float | None = limits.get("cpu_time")
        #: What the box had used when it began.
        self._before = before
        self._next_look = self.began
        #: Why it was ended by the engine: "timeout", "cpu", "stopped", "output".
        self.why = ""
        self.status = -1
        self._is_killed = False
        #: The master of its terminal, until that is handed over; -1 for none.
        self.terminal = -1

    def due(self) -> float | None:
        """Return when :meth:`judge` wants to be called (time.monotonic()); None is never."""
        if self.why:
            return None
        times = [t for t in (self.deadline, self._look_due()) if t is not None]
        return min(times) if times else None

    def _look_due(self) -> float | None:
        return None if self._cpu_limit is None else self._next_look

    def judge(self, now: float) -> str:
        """Tell why the process must end now, or nothing."""
        if self.deadline is not None and now >= self.deadline:
            return "timeout"
        if self._cpu_limit is not None and now >= self._next_look:
            used = self._cpu_time()
            if used is not None and used >= self._cpu_limit:
                return "cpu"
            # It cannot be reached sooner than by all processors together.
            left = (self._cpu_limit - (used or 0)) / (posix.cpu_count() or 1)
            self._next_look = now + min(max(left, _SHORTEST_PAUSE), _LONGEST_PAUSE)
        return ""

    def _cpu_time(self) -> float | None:
        used = self.box.cpu_time()
        if used is None or self._before.cpu_time is None:
            return None
        return used - self._before.cpu_time

    def has_ended(self) -> bool:
        """Tell whether it has, collected or not."""
        return self.status >= 0 or bool(p.poll((self.sign,), 0))

    def is_near_end(self) -> bool:
        """Tell whether it has ended, or is about to of its own, or of a signal it was sent."""
        return self._is_killed or self.has_ended() or process_stat.is_ending(self.pid)

    def reap(self) -> None:
        """Collect the process, which has ended or is about to.

        The kernel may be at work still on the end of our init, if that was the last one there.
        """
        if self.status < 0:
            self.status = self._status_told()
            if self.status < 0:
                status = posix.waitpid(self.pid, 0)[1]
                self.status, self.is_collected = status, True
            posix.close(self.pidfd)

    def _status_told(self) -> int:
        """Return how it has ended, told by its parent, our init; -1 if that does not tell."""
        if not self._is_served:
            return -1
        told, is_alone = status_told(self.pid)
        if told is not None and is_alone:
            return told
        # With the others, whom it takes along.
        posix.waitid(posix.P_PID, self.pid, posix.WEXITED | posix.WNOWAIT)
        told, _ = status_told(self.pid)
        return -1 if told is None else told

    def report(self) -> dict[str, Any]:
        """Return what the program is told of the end; to be asked before the cgroup goes."""
        usage = self.box.usage()
        before = self._before
        cpu_time = None
        if usage.cpu_time is not None and before.cpu_time is not None:
            cpu_time = usage.cpu_time - before.cpu_time
        killed = posix.WIFSIGNALED(self.status)
        return {
            "why": self.why,
            "returncode": -posix.WTERMSIG(self.status)
            if killed
            else posix.WEXITSTATUS(self.status),
            "oom": usage.oom_kills > before.oom_kills,
            "duration": time.monotonic() - self.began,
            "cpu_time": cpu_time,
            "memory_peak": usage.memory_peak,
            # But for the sandbox's own init.
            "pids_peak": usage.pids_peak
            and usage.pids_peak - (self._is_served or not self.is_first),
        }

    def kill(self, signal: int) -> None:
        """Send a signal."""
        if self.status < 0:
            p.pidfd_send_signal(self.pidfd, signal)
            self._is_killed = self._is_killed or signal == p.SIGKILL
