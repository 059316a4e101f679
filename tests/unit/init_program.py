"""Init with a launch program of a test's, and what it reports."""

from __future__ import annotations

import fcntl
import os
import signal
from collections.abc import Callable, Iterator

import pytest
from emulated import EMULATED

from pyrunc.process.failure import parse_failure
from pyrunc.process.launch import LaunchProgram
from pyrunc.process.seal import execute_init, launch_fd, sealed_init

#: qemu-user opens programs by their names: so they cannot be close-on-exec (ENOENT of binfmt_misc),
#: as init is everywhere else.
HAND_OVER = fcntl.F_DUPFD if EMULATED else fcntl.F_DUPFD_CLOEXEC
Failure = tuple[int, int, int, str]


class Pipe:
    """A pipe whose ends survive an execve."""

    def __init__(self) -> None:
        self.reading, self.writing = os.pipe()
        os.set_inheritable(self.reading, True)
        os.set_inheritable(self.writing, True)
        self.open = {self.reading, self.writing}

    def close(self, *ends: int) -> None:
        for end in ends or (self.reading, self.writing):
            if end in self.open:
                os.close(end)
                self.open.remove(end)

    def read(self, size: int = 65536) -> bytes:
        return os.read(self.reading, size)

    def read_all(self) -> bytes:
        """Read until every other process has closed it."""
        self.close(self.writing)
        content = b""
        while piece := self.read():
            content += piece
        return content


class Init:
    """Processes that execute init, and the pipes they talk through."""

    def __init__(self) -> None:
        self.report = Pipe()
        self.output = Pipe()
        self.children: list[int] = []

    def program(self) -> LaunchProgram:
        return LaunchProgram(report=self.report.writing)

    def start(
        self,
        program: LaunchProgram,
        before: Callable[[], object] = bool,
        second: LaunchProgram | None = None,
    ) -> int:
        """Fork, call ``before`` there, become init; return the pid."""
        programs = [q.encode() for q in (program, second) if q is not None]
        pid = os.fork()
        if pid == 0:
            try:
                # Out of the way of the numbers that `before` may want.
                binary = fcntl.fcntl(sealed_init(), HAND_OVER, 400)
                launch = [fcntl.fcntl(launch_fd(q), fcntl.F_DUPFD, 400) for q in programs]
                before()
                execute_init(binary, *launch)
            finally:
                os._exit(99)
        self.children.append(pid)
        return pid

    def wait(self, pid: int) -> int:
        """Return how the process ended, as subprocess does."""
        _, status = os.waitpid(pid, 0)
        if pid in self.children:
            self.children.remove(pid)
        return os.waitstatus_to_exitcode(status)

    def run(self, program: LaunchProgram, before: Callable[[], object] = bool) -> int:
        """Start, wait for the end, return the exit code."""
        return self.wait(self.start(program, before))

    def failure(self) -> Failure | None:
        """Return the failure record that was sent, if one was."""
        return parse_failure(self.report.read_all())

    def close(self) -> None:
        for pid in list(self.children):
            os.kill(pid, signal.SIGKILL)
            self.wait(pid)
        self.report.close()
        self.output.close()


@pytest.fixture
def init() -> Iterator[Init]:
    made = Init()
    yield made
    made.close()
