"""Carrying out the runtime's list of a plan, and undoing it: `create`, `start`, `exec` alike."""

from __future__ import annotations

import posix

from pyrunc.errors import Error, reason
from pyrunc.linux import processes as p
from pyrunc.process import channel
from pyrunc.step import Described

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from pyrunc.container.record.record import Record
    from pyrunc.container.settings import Settings
    from pyrunc.spec.types import Spec

#: How long a process that was killed may take to end, in seconds.
_LONGEST_END = 2.0


class RuntimeStep(Described):
    """A step of the runtime: what it does, and how that is undone.

    It is given the :class:`Undertaking` of its kind.
    """

    #: Whether the builder is at work meanwhile; when it fails, it knows better what went wrong.
    beside_builder = False
    #: What :meth:`undo` does, in words that read well after "cannot".
    undoing = "remove what was made so far"

    def apply(self, doing: Any) -> None:
        """Do it.

        :raises Error: saying all; nothing is added to it.
        """
        raise NotImplementedError

    def undo(self, doing: Any) -> None:
        """Take back what :meth:`apply` has done, wherever it stopped; by itself, nothing.

        :raises OSError: or Error: only a warning comes of it, and the rest is undone.
        """


class Undertaking:
    """What the steps of one of the runtime's lists find out and share."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.record: Record
        #: Why it all is undone.
        self.error: BaseException | None = None
        self._applied: list[RuntimeStep] = []
        self._descriptors: list[int] = []

    def apply(self, steps: Iterable[RuntimeStep]) -> None:
        """Carry out one step after the other; what they leave open, :meth:`close` closes."""
        trace = self.settings.trace
        for step in steps:
            self._applied.append(step)
            try:
                step.apply(self)
            except (OSError, Error):
                if step.beside_builder:
                    self.hear_failure()
                raise
            if trace.on:
                trace.mark(step.describe())
        trace.collect()

    def hear_failure(self) -> None:
        """:raises Error: when the process at work has failed by now, with the reason."""

    def undo(self, error: BaseException) -> None:
        """Leave nothing of what the steps have done, backwards.

        Whatever fails here is only warned about: the error that led here matters more, and
        the rest must be undone all the same.
        """
        self.error = error
        while self._applied:
            step = self._applied.pop()
            try:
                step.undo(self)
            except (OSError, Error) as problem:
                self.settings.log.warn(f"cannot {step.undoing}: {reason(problem)}")

    def keep(self, descriptor: int) -> int:
        """Have :meth:`close` close a descriptor, if it is one; return it."""
        if descriptor >= 0:
            self._descriptors.append(descriptor)
        return descriptor

    def let_go(self, descriptor: int) -> None:
        """Leave a descriptor to the caller."""
        if descriptor >= 0:
            self._descriptors.remove(descriptor)

    def close(self) -> None:
        """Close what was opened on the way."""
        while self._descriptors:
            posix.close(self._descriptors.pop())


class Birth(Undertaking):
    """A process that is brought forth, in a new container or in one that is there."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.spec: Spec
        #: The process that is at work, and then the one that this was about; 0 and -1 before.
        self.pid = 0
        self.pidfd = -1
        #: Pipes from and to it.
        self.up = self.down = -1
        #: What is shared with an init that goes into a pid namespace (process/shared_page.py).
        self.page = -1
        self.wrote_pid_file = False

    def become(self, pid: int, pidfd: int) -> None:
        """Take note of the process that counts from now on."""
        if self.pidfd >= 0:
            self.let_go(self.pidfd)
            posix.close(self.pidfd)
        self.pid, self.pidfd = pid, self.keep(pidfd)

    def let_go_on(self, descriptor: int = -1) -> None:
        """Let the process go on; one that is dead has left the reason in the other pipe."""
        try:
            posix.write(self.down if descriptor < 0 else descriptor, channel.GO_ON)
        except BrokenPipeError:
            pass

    def end_processes(self) -> None:
        """Kill and collect the process, and what it has brought forth in a pid namespace."""
        if self.pid:
            _end(self.pid, self.pidfd)
        if self.page < 0:
            return
        from pyrunc.process.shared_page import sibling_in

        # Only now can no more be born there.
        if (inside := sibling_in(self.page)) not in (0, self.pid):
            _end(inside, -1)


def _end(pid: int, pidfd: int) -> None:
    """Kill a child that nobody has waited for: its number is its own, with or without a pidfd.

    One that is frozen by cgroup v1 takes no signal: it ends when it is thawed.
    """
    posix.kill(pid, p.SIGKILL)
    p.reap(pid, pidfd, _LONGEST_END)
