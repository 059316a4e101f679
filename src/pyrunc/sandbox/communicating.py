"""Running a program to its end: input in, output out, and the report of its end."""

from __future__ import annotations

import errno
import fcntl
import os
from typing import TYPE_CHECKING, Any

from pyrunc.engine import client
from pyrunc.errors import Error
from pyrunc.sandbox.errors import EngineLost, from_engine
from pyrunc.sandbox.requests import Line, Pipe, ask, ask_any
from pyrunc.sandbox.result import Result, lost_result, result_of
from pyrunc.sandbox.tail import Tail
from pyrunc.sandbox.waiting import READABLE, WRITABLE, Insisted, Wait

if TYPE_CHECKING:
    from pyrunc.engine.client import Engine

_AT_ONCE = 1 << 16


class Communication:
    """One program: what goes in and comes out."""

    def __init__(
        self,
        args: tuple[str, ...],
        input: bytes | None,
        output: int | None,
        *,
        stop_on_output: bool,
    ) -> None:
        self.args = args
        self._input = memoryview(input or b"")
        self._stdin = Pipe(to_container=True) if input is not None else None
        self._outputs = {"stdout": Pipe(to_container=False), "stderr": Pipe(to_container=False)}
        self._tails = {name: Tail(output) for name in self._outputs}
        self._stop_on_output = stop_on_output
        self._told_to_stop = False
        self._null = -1 if self._stdin else os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)

    @property
    def passed(self) -> tuple[int, int, int]:
        """What is to be the program's stdin, stdout and stderr."""
        stdin = self._stdin.theirs if self._stdin else self._null
        return stdin, self._outputs["stdout"].theirs, self._outputs["stderr"].theirs

    async def carry_out(self, line: Line) -> Result[bytes]:
        """Communicate until the program has ended.

        Whatever comes in between (a cancellation, say) ends the container first.

        :raises Error: when the program could not be executed.
        """
        self._close_theirs()
        try:
            return await self._until_the_end(line)
        except EngineLost as error:
            if error.hint:
                # It was not killed: there is something to be done about it.
                raise
            self._read_rest()
            return lost_result(self.args, self._values(), self._truncated)
        except Error:
            # The engine's answer, after which there is nothing to stop.
            raise
        except GeneratorExit:
            # No more waiting: the end of the line is the end of the container.
            raise
        except BaseException:
            line.tell("stop", "stopped")
            await self._until_gone(line)
            raise
        finally:
            line.close()

    async def _until_the_end(self, line: Line) -> Result[bytes]:
        while True:
            ready = await Wait(self._watched(line))
            self._move(ready)
            if self._too_much and not self._told_to_stop:
                self._told_to_stop = True
                line.tell("stop", "output")
            if line.fileno() not in ready or (received := line.take()) is None:
                continue
            kind, value = received[0]
            for descriptor in received[1]:
                os.close(descriptor)
            if kind == "error":
                raise from_engine(value, "run")
            if kind == "ended":
                self._read_rest()
                if self._too_much:
                    # Also when it has ended by itself before the engine heard of it.
                    value["why"] = "output"
                return result_of(self.args, value, self._values(), self._truncated)

    async def _until_gone(self, line: Line) -> None:
        """Wait until the engine says that it is over, however often one is interrupted."""
        insisted = Insisted()
        try:
            while (received := line.take()) is None or received[0][0] == "started":
                await insisted.wait(Wait({line.fileno(): READABLE}))
        except EngineLost:
            return

    def _watched(self, line: Line) -> dict[int, int]:
        watched = {line.fileno(): READABLE}
        for pipe in self._outputs.values():
            if pipe.ours >= 0:
                watched[pipe.ours] = READABLE
        if self._stdin and self._stdin.ours >= 0:
            watched[self._stdin.ours] = WRITABLE
        return watched

    def _move(self, ready: dict[int, int]) -> None:
        """Pass on what there is of input and output."""
        for name, pipe in self._outputs.items():
            if pipe.ours in ready:
                self._read(name, pipe)
        if self._stdin and self._stdin.ours in ready:
            self._write(self._stdin)

    def _read(self, name: str, pipe: Pipe) -> int:
        """Read once; return how much that was."""
        try:
            piece = os.read(pipe.ours, _AT_ONCE)
        except BlockingIOError:
            return 0
        self._tails[name].add(piece)
        if not piece:
            pipe.close()
        return len(piece)

    def _write(self, stdin: Pipe) -> None:
        try:
            self._input = self._input[os.write(stdin.ours, self._input[:_AT_ONCE]) :]
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != errno.EPIPE:
                raise
            # The program reads no more: it may have its reasons.
            self._input = memoryview(b"")
        if not self._input:
            stdin.close()

    def _read_rest(self) -> None:
        """Read what was printed before the end; orphans that have the pipe are not waited for."""
        for name, pipe in self._outputs.items():
            # More than a pipe holds was not in it at the end: an orphan is writing.
            left = fcntl.fcntl(pipe.ours, fcntl.F_GETPIPE_SZ) if pipe.ours >= 0 else 0
            while left > 0 and pipe.ours >= 0 and (count := self._read(name, pipe)):
                left -= count

    @property
    def _too_much(self) -> bool:
        return self._stop_on_output and self._truncated

    @property
    def _truncated(self) -> bool:
        return any(tail.truncated for tail in self._tails.values())

    def _values(self) -> tuple[bytes, bytes]:
        return self._tails["stdout"].value(), self._tails["stderr"].value()

    def _close_theirs(self) -> None:
        for pipe in (self._stdin, *self._outputs.values()):
            if pipe:
                pipe.close_theirs()
        if self._null >= 0:
            os.close(self._null)
            self._null = -1

    def close(self) -> None:
        """Close whatever is open."""
        self._close_theirs()
        for pipe in (self._stdin, *self._outputs.values()):
            if pipe:
                pipe.close()


async def run_alone(communication: Communication, request: dict[str, Any]) -> Result[bytes]:
    """Run a program in a container of its own."""
    try:
        line = await ask_any("run", request, communication.passed)
        try:
            return await communication.carry_out(line)
        finally:
            client.engines().give_back(line.engine)
    finally:
        communication.close()


async def run_in(
    engine: Engine, communication: Communication, request: dict[str, Any]
) -> Result[bytes]:
    """Run a program in a container that is there."""
    try:
        line = await ask(engine, "start", request, communication.passed)
        return await communication.carry_out(line)
    finally:
        communication.close()
