"""Containers in a state root of the program's choice: those of the command, and not the engine's.

They are made as `pyrunc create` makes them, and live on when the engine ends.
"""

from __future__ import annotations

import posix
from typing import TYPE_CHECKING, Any

from pyrunc.container.delete import delete
from pyrunc.container.entering.exec_process import ExecOptions
from pyrunc.container.entering.execute import spawn
from pyrunc.container.making.create import Creation
from pyrunc.container.making.create_options import CreateOptions
from pyrunc.container.settings import Settings
from pyrunc.container.start import start
from pyrunc.engine import messages
from pyrunc.engine.child import Child
from pyrunc.engine.prepared import checked_process, checked_spec
from pyrunc.engine.worker import collect, work
from pyrunc.linux import processes as p

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

    from pyrunc.checkpoint.restore import Restoration
    from pyrunc.container.making.remembered import Remembered
    from pyrunc.container.settings import Log
    from pyrunc.engine.streams import StandardStreams
    from pyrunc.engine.watch import Watch

    Request = dict[str, Any]


class Runtimes:
    """Makes such containers, and collects their processes."""

    def __init__(
        self, streams: StandardStreams, log: Log, watch: Watch, remembered: Remembered
    ) -> None:
        self._streams = streams
        self._log = log
        self._remembered = remembered
        self._watch = watch
        #: Whether the engine is not root, or only of a user namespace of its own.
        self.is_rootless = False

    def _settings(self, request: Request) -> Settings:
        return Settings(
            request["root"],
            self._log,
            systemd_cgroup=request["systemd_cgroup"],
            rootless=self.is_rootless,
        )

    def create(self, request: Request, line: socket.socket, streams: Sequence[int]) -> None:
        """Create a container; its line tells of the end of its first process."""
        spec = checked_spec(request["spec"])
        options = CreateOptions("/", spec=spec, no_new_keyring=True, remembered=self._remembered)
        self._make(Creation(self._settings(request), request["id"], options), line, streams)

    def execute(self, request: Request, line: socket.socket, streams: Sequence[int]) -> None:
        """Execute a process in a container."""
        masters: list[int] = []
        process = checked_process(request["process"])
        options = ExecOptions(process=process, take_terminal=masters.append)
        with self._streams.being(streams):
            pid, pidfd = spawn(self._settings(request), request["id"], options)
        self._begin(Child(pid, pidfd, line), masters[0] if masters else -1)

    def start(self, request: Request, line: socket.socket) -> None:
        """Start a container that was created."""
        start(self._settings(request), request["id"])
        messages.tell(line, "done", None)

    def delete(self, request: Request, line: socket.socket) -> None:
        """Delete a container, in another process if it may run.

        Its end is waited for then, which does not come before we have collected what was executed
        in it (zap_pid_ns_processes() of kernel/pid_namespace.c).
        """
        settings, name = self._settings(request), request["id"]
        if not request["force"]:
            delete(settings, name, force=False)
            messages.tell(line, "done", None)
            return
        pidfd = work(line, lambda: delete(settings, name, force=True))
        self._watch.add(pidfd, lambda: collect(self._watch, pidfd))

    def checkpoint(self, request: Request, line: socket.socket) -> None:
        """Save a container, in another process: a large one takes seconds."""
        from pyrunc.checkpoint.dump import checkpoint
        from pyrunc.checkpoint.options import CheckpointOptions

        settings, name = self._settings(request), request["id"]
        options = CheckpointOptions(**request["options"], stats=True, keep_config=True)
        pidfd = work(line, lambda: checkpoint(settings, name, options))
        self._watch.add(pidfd, lambda: collect(self._watch, pidfd))

    def restore(self, request: Request, line: socket.socket, streams: Sequence[int]) -> None:
        """Restore a container; its line tells of the end of its first process.

        That one has to be our child, to be waited for.
        """
        from pyrunc.checkpoint.options import RestoreOptions
        from pyrunc.checkpoint.restore import Restoration

        spec = checked_spec(request["spec"])
        options = RestoreOptions(**request["options"], bundle="/", spec=spec, detach=True)
        self._make(Restoration(self._settings(request), request["id"], options), line, streams)

    def _make(
        self, making: Creation | Restoration, line: socket.socket, streams: Sequence[int]
    ) -> None:
        """Make a container, whose first process is our child."""
        making.load()
        with self._streams.being(streams):
            making.carry_out()
        pidfd = posix.dup(making.pidfd)
        posix.set_inheritable(pidfd, False)
        making.close()
        self._begin(Child(making.pid, pidfd, line))

    def _begin(self, child: Child, terminal: int = -1) -> None:
        """Hand it over.

        :param terminal: the master of its terminal, which is the program's from here on.
        """
        assert child.line is not None
        passed = [child.pidfd, *([terminal] if terminal >= 0 else ())]
        child.tell("started", {"pid": child.pid}, passed)
        if terminal >= 0:
            posix.close(terminal)
        self._watch.add(child.pidfd, lambda: self._collect(child))
        self._watch.add(child.line.fileno(), lambda: child.hear(self._watch))

    def _collect(self, child: Child) -> None:
        if not p.poll((child.pidfd,), 0):
            return
        self._watch.forget(child.pidfd)
        posix.close(child.pidfd)
        child.tell_end(posix.waitstatus_to_exitcode(posix.waitpid(child.pid, 0)[1]))
        child.part(self._watch)
