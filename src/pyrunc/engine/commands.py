"""The process that calls another runtime's command line for a program (``Runtime(command=...)``).

It is what an engine is to the program, and less: executed, never forked from it, with nothing in
hand that must not outlive it. It has no namespaces of its own, so the other runtime finds the host
as it would from a shell. Being the reaper of what it starts (PR_SET_CHILD_SUBREAPER), it becomes
the parent of a container's first process when the command that has made it ends, and so hears how
that ends. Containers outlive it; commands that run when it ends are killed.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import socket
import time
from typing import TYPE_CHECKING, Any

from pyrunc.engine import messages
from pyrunc.engine.main import forget_the_program
from pyrunc.linux import processes as p

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import NoReturn


def main(control: int, program: int, _: int) -> None:
    """Become that process.

    :param control: the socket of the requests.
    :param program: a pidfd of the program.
    """
    forget_the_program()
    gc.freeze()
    if os.fork():
        # The program waits for this process only.
        os._exit(0)
    os.setsid()
    p.prctl(p.PR_SET_CHILD_SUBREAPER, 1)
    Commands(socket.socket(fileno=control), program).serve()


class Child:
    """A command that runs, or then the process that it has made."""

    def __init__(self, pid: int, pidfd: int, line: socket.socket, pid_file: str) -> None:
        self.pid = pid
        self.pidfd = pidfd
        #: Where the program hears of it; None when it does not listen any more.
        self.line: socket.socket | None = line
        #: Where the command writes the pid of what it makes; empty for a command that makes none.
        self.pid_file = pid_file
        self.is_made = False
        self.began = time.monotonic()


class Commands:
    """Calls commands for one program until its end of ``control`` closes."""

    def __init__(self, control: socket.socket, program: int) -> None:
        self._control = control
        self._children: dict[int, Child] = {}
        self._poll = select.poll()
        self._handlers: dict[int, Callable[[], None]] = {}
        control.setblocking(False)
        self._watch(control.fileno(), self._take_request)
        self._watch(program, lambda: os._exit(0))

    def serve(self) -> NoReturn:
        """Do what is asked for until there is nobody to ask."""
        while True:
            for descriptor, _ in self._poll.poll():
                # An earlier one of the same round may have ended this one.
                if handler := self._handlers.get(descriptor):
                    handler()
            if not any(child.pid_file for child in self._children.values()):
                self._collect_orphans()

    def _watch(self, descriptor: int, handler: Callable[[], None]) -> None:
        self._handlers[descriptor] = handler
        self._poll.register(descriptor, select.POLLIN)

    def _forget(self, descriptor: int) -> None:
        if self._handlers.pop(descriptor, None):
            self._poll.unregister(descriptor)

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
            child = Child(pid, os.pidfd_open(pid), child_line, request["pid_file"])
        finally:
            for stream in streams:
                os.close(stream)
        self._add(child)
        self._watch(line, lambda: self._hear(child))

    def _add(self, child: Child) -> None:
        self._children[child.pid] = child
        self._watch(child.pidfd, lambda: self._collect(child))

    def _collect(self, child: Child) -> None:
        """It has ended: a command, or what one has made."""
        self._ended(child, os.waitpid(child.pid, 0)[1])

    def _ended(self, child: Child, status: int) -> None:
        self._forget(child.pidfd)
        del self._children[child.pid]
        os.close(child.pidfd)
        code = os.waitstatus_to_exitcode(status)
        if child.pid_file and code == 0 and self._take_over(child):
            return
        if child.is_made:
            report: dict[str, Any] = {"why": "", "returncode": code, "oom": False}
            report |= {"duration": time.monotonic() - child.began, "cpu_time": None}
            report |= {"memory_peak": None, "pids_peak": None, "not_enforced": [], "warnings": []}
            _tell(child, "ended", report)
        else:
            _tell(child, "exited", {"returncode": code})
        if child.line is not None:
            self._forget(child.line.fileno())
            child.line.close()

    def _take_over(self, child: Child) -> bool:
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
        _tell(child, "started", {"pid": child.pid}, (child.pidfd,))
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
            if not child.is_made:
                p.pidfd_send_signal(child.pidfd, signal.SIGKILL)
            return
        what, value = received[0]
        if what == "signal":
            p.pidfd_send_signal(child.pidfd, value)


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


def _tell(child: Child, what: str, value: dict[str, Any], passed: Sequence[int] = ()) -> None:
    if child.line is None:
        return
    try:
        messages.send(child.line, (what, value), passed)
    except OSError:
        # Nobody wants to know any more.
        return
