"""Containers in a state root of the program's choice: those of the command, and not the engine's.

They are made as `pyrunc create` makes them, and live on when the engine ends.
"""

from __future__ import annotations

import os
import posix
import time
from typing import TYPE_CHECKING, Any

from pyrunc.container.delete import delete
from pyrunc.container.entering.exec_process import ExecOptions
from pyrunc.container.entering.execute import spawn
from pyrunc.container.making.create import Creation
from pyrunc.container.making.create_options import CreateOptions
from pyrunc.container.settings import Settings
from pyrunc.container.start import start
from pyrunc.engine import messages
from pyrunc.engine.prepared import checked_process, checked_spec
from pyrunc.engine.worker import work
from pyrunc.linux import processes as p

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Sequence

    from pyrunc.container.settings import Log
    from pyrunc.engine.streams import StandardStreams

    Request = dict[str, Any]


class Child:
    """A process of such a container that is a child of ours, until it has ended."""

    def __init__(self, pid: int, pidfd: int, line: socket.socket) -> None:
        self.pid = pid
        self.pidfd = pidfd
        #: Where the program hears of the end; None when it does not listen any more.
        self.line: socket.socket | None = line
        self.terminal = -1
        self.began = time.monotonic()


class Runtimes:
    """Makes such containers, and collects their processes."""

    def __init__(
        self,
        streams: StandardStreams,
        log: Log,
        watch: Callable[[int, Callable[[], None]], None],
        forget: Callable[[int], None],
    ) -> None:
        self._streams = streams
        self._log = log
        self._watch = watch
        self._forget = forget
        #: Whether the engine is root of a user namespace of its own only.
        self.is_confined = False

    def _settings(self, request: Request) -> Settings:
        return Settings(
            request["root"],
            self._log,
            systemd_cgroup=request["systemd_cgroup"],
            rootless=self.is_confined,
        )

    def create(self, request: Request, line: socket.socket, streams: Sequence[int]) -> None:
        """Create a container; its line tells of the end of its first process."""
        spec = checked_spec(request["spec"])
        options = CreateOptions("/", spec=spec, no_new_keyring=True)
        creation = Creation(self._settings(request), request["id"], options)
        creation.load()
        with self._streams.being(streams):
            creation.carry_out()
        pidfd = posix.dup(creation.pidfd)
        posix.set_inheritable(pidfd, False)
        creation.close()
        self._begin(Child(creation.pid, pidfd, line))

    def execute(self, request: Request, line: socket.socket, streams: Sequence[int]) -> None:
        """Execute a process in a container."""
        masters: list[int] = []
        process = checked_process(request["process"])
        options = ExecOptions(process=process, take_terminal=masters.append)
        with self._streams.being(streams):
            pid, pidfd = spawn(self._settings(request), request["id"], options)
        child = Child(pid, pidfd, line)
        child.terminal = masters[0] if masters else -1
        self._begin(child)

    def start(self, request: Request) -> None:
        """Start a container that was created."""
        start(self._settings(request), request["id"])

    def delete(self, request: Request) -> None:
        """Delete a container."""
        delete(self._settings(request), request["id"], force=request["force"])

    def checkpoint(self, request: Request, line: socket.socket) -> None:
        """Save a container, in another process: a large one takes seconds."""
        from pyrunc.checkpoint.dump import checkpoint
        from pyrunc.checkpoint.options import CheckpointOptions

        settings, name = self._settings(request), request["id"]
        options = CheckpointOptions(**request["options"], stats=True, keep_config=True)
        pidfd = work(line, lambda: checkpoint(settings, name, options))
        self._watch(pidfd, lambda: self._collect_worker(pidfd))

    def restore(self, request: Request, line: socket.socket, streams: Sequence[int]) -> None:
        """Restore a container; its line tells of the end of its first process.

        That one has to be our child, to be waited for.
        """
        from pyrunc.checkpoint.options import RestoreOptions
        from pyrunc.checkpoint.restore import Restoration

        spec = checked_spec(request["spec"])
        options = RestoreOptions(**request["options"], bundle="/", spec=spec, detach=True)
        restoration = Restoration(self._settings(request), request["id"], options)
        restoration.load()
        with self._streams.being(streams):
            restoration.carry_out()
        pidfd = posix.dup(restoration.pidfd)
        posix.set_inheritable(pidfd, False)
        restoration.close()
        self._begin(Child(restoration.pid, pidfd, line))

    def _collect_worker(self, pidfd: int) -> None:
        self._forget(pidfd)
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED)
        posix.close(pidfd)

    def _begin(self, child: Child) -> None:
        assert child.line is not None
        passed = [child.pidfd, *([child.terminal] if child.terminal >= 0 else ())]
        self._tell(child, "started", {"pid": child.pid}, passed)
        if child.terminal >= 0:
            posix.close(child.terminal)
        self._watch(child.pidfd, lambda: self._collect(child))
        self._watch(child.line.fileno(), lambda: self._hear(child))

    def _tell(self, child: Child, what: str, value: Request, passed: Sequence[int] = ()) -> None:
        assert child.line is not None
        try:
            messages.send(child.line, (what, value), passed)
        except OSError:
            # Nobody wants to know any more.
            return

    def _collect(self, child: Child) -> None:
        if not p.poll((child.pidfd,), 0):
            return
        self._forget(child.pidfd)
        posix.close(child.pidfd)
        status = posix.waitpid(child.pid, 0)[1]
        if child.line is None:
            return
        signalled = posix.WIFSIGNALED(status)
        code = -posix.WTERMSIG(status) if signalled else posix.WEXITSTATUS(status)
        report = {"why": "", "returncode": code, "oom": False}
        report |= {"duration": time.monotonic() - child.began, "cpu_time": None}
        report |= {"memory_peak": None, "pids_peak": None, "not_enforced": [], "warnings": []}
        self._tell(child, "ended", report)
        self._forget(child.line.fileno())
        child.line.close()

    def _hear(self, child: Child) -> None:
        assert child.line is not None
        try:
            received = messages.receive(child.line)
        except BlockingIOError:
            return
        if received is None:
            self._forget(child.line.fileno())
            child.line.close()
            child.line = None
            return
        what, value = received[0]
        if what == "signal":
            p.pidfd_send_signal(child.pidfd, value)
