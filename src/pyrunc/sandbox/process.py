"""A process that was started in a sandbox: the whole of it but for how it waits."""

from __future__ import annotations

import fcntl
import os
import signal as signals
import struct
import termios
import threading
import time
from typing import TYPE_CHECKING, Any

from pyrunc.sandbox.errors import EngineLost, InvalidArgument, ProcessGone, TimeoutExpired
from pyrunc.sandbox.requests import Line, Pipe, ask
from pyrunc.sandbox.result import Result, lost_result, result_of
from pyrunc.sandbox.waiting import READABLE, Insisted, Wait

if TYPE_CHECKING:
    from pyrunc.engine.client import Engine

#: As of the module subprocess.
PIPE, STDOUT, DEVNULL = -1, -2, -3
_NAMES = ("stdin", "stdout", "stderr")


class Streams:
    """What the standard streams of a process are to be, and our ends of pipes."""

    def __init__(self, stdin: int, stdout: int, stderr: int) -> None:
        for name, wanted in zip(_NAMES, (stdin, stdout, stderr), strict=True):
            allowed = (PIPE, DEVNULL, STDOUT) if name == "stderr" else (PIPE, DEVNULL)
            if wanted not in allowed:
                raise InvalidArgument(f"{name} must be PIPE or DEVNULL, not {wanted!r}")
        self._null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
        self._pipes = {
            name: Pipe(to_container=name == "stdin")
            for name, wanted in zip(_NAMES, (stdin, stdout, stderr), strict=True)
            if wanted == PIPE
        }
        self._joined = stderr == STDOUT

    @property
    def passed(self) -> tuple[int, ...]:
        """The process's ends, in order."""
        found = {name: pipe.theirs for name, pipe in self._pipes.items()}
        stdout = found.get("stdout", self._null)
        stderr = stdout if self._joined else found.get("stderr", self._null)
        return found.get("stdin", self._null), stdout, stderr

    def close_theirs(self) -> None:
        """Close what the process has by now."""
        os.close(self._null)
        for pipe in self._pipes.values():
            pipe.close_theirs()

    def take(self, name: str) -> int:
        """Return our end of a pipe, which the caller closes; -1 when there is none."""
        pipe = self._pipes.pop(name, None)
        return pipe.ours if pipe else -1

    def close(self) -> None:
        """Close our ends that nobody has taken."""
        for pipe in self._pipes.values():
            pipe.close()


class ProcessLogic:
    """A process, as long as its line is open."""

    def __init__(self, args: tuple[str, ...], line: Line) -> None:
        self.args = args
        self.pid = 0
        self.pidfd = -1
        #: The master of its terminal, or -1.
        self.terminal = -1
        self._line = line
        self._lock = threading.Lock()
        self._result: Result[bytes] | None = None

    async def begun(self, insisted: Insisted) -> None:
        """Wait until it runs.

        :param insisted: of an interruption; the caller then undoes what has begun, and gives way.
        :raises ProgramNotFound: or another error when it could not be executed.
        """
        value, descriptors = await self._line.answer("start", insisted=insisted)
        self.pid = value["pid"]
        self.pidfd, *rest = descriptors
        self.terminal = rest[0] if rest else -1

    @property
    def result(self) -> Result[bytes] | None:
        """How it has ended (its output was not collected); None while it runs."""
        return self._result or self._look()

    def _look(self) -> Result[bytes] | None:
        """Take what the engine has said meanwhile."""
        with self._lock:
            if self._result is not None:
                return self._result
            try:
                received = self._line.take()
            except EngineLost:
                self._result = lost_result(self.args, (b"", b""), truncated=False)
            else:
                if received is None:
                    return None
                value = received[0][1]
                self._result = result_of(self.args, value, (b"", b""), truncated=False)
            # The line stays open: other threads may wait for it, and hear of its end.
            return self._result

    async def wait(self, timeout: float | None) -> int:
        """Wait for the end and return the return code.

        :raises TimeoutExpired: when it has not ended in ``timeout`` seconds; it goes on.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while (result := self.result) is None:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not await Wait({self._line.fileno(): READABLE}, left) and self.result is None:
                raise TimeoutExpired(f"{self.args[0]} has not ended in {timeout} seconds")
        return result.returncode

    def send_signal(self, signal: int) -> None:
        """Send a signal.

        :raises ProcessGone: when it has ended.
        """
        if self.result is not None:
            raise ProcessGone(f"{self.args[0]} has ended already")
        self._line.tell("signal", signals.Signals(signal).value)

    def resize(self, rows: int, columns: int) -> None:
        """Set the size of its terminal, in characters.

        :raises InvalidArgument: when it has none.
        """
        if self.terminal < 0:
            raise InvalidArgument(f"{self.args[0]} has no terminal: start it with terminal=True")
        size = struct.pack("HHHH", rows, columns, 0, 0)
        fcntl.ioctl(self.terminal, termios.TIOCSWINSZ, size)

    def close(self, *, kill: bool) -> None:
        """Let go of it; with ``kill`` it is ended, if it runs."""
        if kill and self.result is None:
            self._line.tell("signal", signals.SIGKILL.value)
        with self._lock:
            self._line.close()
            if self._result is None:
                self._result = lost_result(self.args, (b"", b""), truncated=False)
        for descriptor in (self.pidfd, self.terminal):
            if descriptor >= 0:
                os.close(descriptor)
        self.pidfd = self.terminal = -1


async def start(
    engine: Engine, args: tuple[str, ...], streams: Streams, request: dict[str, Any]
) -> ProcessLogic:
    """Start a process in a sandbox."""
    try:
        line = await ask(engine, "start", request, streams.passed)
    except BaseException:
        streams.close()
        raise
    finally:
        streams.close_theirs()
    process = ProcessLogic(args, line)
    insisted = Insisted()
    try:
        await process.begun(insisted)
    except BaseException:
        line.close()
        streams.close()
        raise
    try:
        insisted.give_way()
    except BaseException:
        process.close(kill=True)
        streams.close()
        raise
    return process
