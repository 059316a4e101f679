"""The process that calls another runtime's command line for a program (``Runtime(command=...)``).

It is what an engine is to the program, and less: executed, never forked from it, with nothing in
hand that must not outlive it. It has no namespaces of its own, so the other runtime finds the host
as it would from a shell. Being the reaper of what it starts (PR_SET_CHILD_SUBREAPER), it becomes
the parent of a container's first process when the command that has made it ends, and so hears how
that ends. Containers outlive it; commands that run when it ends are killed.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from typing import TYPE_CHECKING

from pyrunc.engine import messages
from pyrunc.engine.apart import stand_apart
from pyrunc.engine.child import Child
from pyrunc.engine.watch import Watch
from pyrunc.linux import processes as p

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn


def main(control: int, program: int, _: int) -> None:
    """Become that process.

    :param control: the socket of the requests.
    :param program: a pidfd of the program.
    """
    stand_apart()
    Commands(socket.socket(fileno=control), program).serve()


class Command(Child):
    """A command that runs, or then the process that it has made."""

    def __init__(self, pid: int, pidfd: int, line: socket.socket, pid_file: str) -> None:
        super().__init__(pid, pidfd, line)
        #: Where the command writes the pid of what it makes; empty for a command that makes none.
        self.pid_file = pid_file
        self.is_made = False


class Commands:
    """Calls commands for one program until its end of ``control`` closes."""

    def __init__(self, control: socket.socket, program: int) -> None:
        self._control = control
        self._children: dict[int, Command] = {}
        self._watch = Watch()
        control.setblocking(False)
        self._watch.add(control.fileno(), self._take_request)
        self._watch.add(program, lambda: os._exit(0))

    def serve(self) -> NoReturn:
        """Do what is asked for until there is nobody to ask."""
        while True:
            self._watch.look()
            if not any(child.pid_file for child in self._children.values()):
                self._collect_orphans()

    def _take_request(self) -> None:
        try:
            received = messages.receive(self._control)
        except BlockingIOError:
            return
        if received is None:
            os._exit(0)
        (_, request), (line, *streams) = received
        child_line = socket.socket(fileno=line)
        child_line.setblocking(False)
        try:
            pid = _execute(request["words"], request["env"], streams)
            child = Command(pid, os.pidfd_open(pid), child_line, request["pid_file"])
        finally:
            for stream in streams:
                os.close(stream)
        self._add(child)
        self._watch.add(line, lambda: self._hear(child))

    def _add(self, child: Command) -> None:
        self._children[child.pid] = child
        self._watch.add(child.pidfd, lambda: self._collect(child))

    def _collect(self, child: Command) -> None:
        """It has ended: a command, or what one has made."""
        self._ended(child, os.waitpid(child.pid, 0)[1])

    def _ended(self, child: Command, status: int) -> None:
        self._watch.forget(child.pidfd)
        del self._children[child.pid]
        os.close(child.pidfd)
        code = os.waitstatus_to_exitcode(status)
        if child.pid_file and code == 0 and self._take_over(child):
            return
        if child.is_made:
            child.tell_end(code)
        else:
            child.tell("exited", {"returncode": code})
        child.part(self._watch)

    def _take_over(self, child: Command) -> bool:
        """Go on with the process that a command has made; tell whether there is one."""
        try:
            with open(child.pid_file) as file:
                child.pid = int(file.read())
            child.pidfd = os.pidfd_open(child.pid)
        except (OSError, ValueError):
            return False
        child.pid_file = ""
        child.is_made = True
        child.began = time.monotonic()
        child.tell("started", {"pid": child.pid}, (child.pidfd,))
        self._add(child)
        return True

    def _collect_orphans(self) -> None:
        """Collect what commands have left to us, now that none is about to name one of it."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if not pid:
                return
            if child := self._children.get(pid):
                self._ended(child, status)

    def _hear(self, child: Command) -> None:
        child.hear(self._watch)
        if child.line is None and not child.is_made:
            p.pidfd_send_signal(child.pidfd, signal.SIGKILL)


def _execute(words: list[str], env: dict[str, str], streams: Sequence[int]) -> int:
    """Execute a command with these standard streams; return its pid."""
    parent = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    try:
        p.prctl(p.PR_SET_PDEATHSIG, p.SIGKILL)
        if os.getppid() == parent:
            for number, stream in enumerate(streams):
                os.dup2(stream, number)
            os.execve(words[0], words, env)
    finally:
        os._exit(127)
