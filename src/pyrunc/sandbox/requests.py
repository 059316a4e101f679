"""Talking to an engine, as coroutines that await nothing but descriptors (waiting.py)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from pyrunc.engine import client, messages
from pyrunc.sandbox.errors import EngineLost, from_engine
from pyrunc.sandbox.waiting import READABLE, WRITABLE, Insisted, Wait

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

    from pyrunc.engine.client import Engine


class Line:
    """Our end of what stands for a container or a process at the engine."""

    def __init__(self, engine: Engine, socket: socket.socket) -> None:
        self.engine = engine
        self._socket = socket

    def fileno(self) -> int:
        """The descriptor to wait for."""
        return self._socket.fileno()

    def take(self) -> tuple[Any, list[int]] | None:
        """Return the next message if there is one.

        :raises EngineLost: when the engine has ended.
        """
        try:
            received = messages.receive(self._socket)
        except BlockingIOError:
            return None
        if received is None:
            raise lost(self.engine)
        return received

    async def answer(
        self, operation: str, *, insist: bool = False, insisted: Insisted | None = None
    ) -> tuple[Any, list[int]]:
        """Wait for the next message; return its value and descriptors.

        :param insist: go on waiting when interrupted, and give way to that only afterwards.
        :param insisted: go on waiting; it is the caller who gives way.
        :raises Error: when the engine says that it could not do what it was asked for.
        """
        waiting = insisted or Insisted()
        while (received := self.take()) is None:
            wait = Wait({self.fileno(): READABLE})
            await (waiting.wait(wait) if insist or insisted else wait)
        if insisted is None:
            waiting.give_way()
        (kind, value), descriptors = received
        if kind == "error":
            raise from_engine(value, operation)
        return value, descriptors

    def tell(self, what: str, value: Any) -> None:
        """Say something about what the line stands for; when that is gone, nobody listens."""
        try:
            messages.send(self._socket, (what, value))
        except OSError:
            return

    def close(self) -> None:
        """End what it stands for."""
        self._socket.close()


def lost(engine: Engine) -> EngineLost:
    """Return the error for an engine that has ended."""
    engine.is_lost = True
    if words := engine.last_words():
        error = EngineLost(f"the engine of this program could not go on: {words}")
        error.hint = words
        return error
    return EngineLost("the engine of this program was killed, and its containers with it")


async def ask(
    engine: Engine, name: str, request: dict[str, Any], passed: Sequence[int] = ()
) -> Line:
    """Send a request with descriptors; return the line that its answers come through.

    :raises EngineLost: when the engine has ended.
    """
    ours, theirs = client.line()
    try:
        while not engine.request(name, request, (theirs.fileno(), *passed)):
            await Wait({engine.fileno(): WRITABLE})
    except OSError:
        ours.close()
        raise lost(engine) from None
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    return Line(engine, ours)


async def ask_any(
    name: str, request: dict[str, Any], passed: Sequence[int] = (), *, module: str = "main"
) -> Line:
    """Send a request to whichever engine has the least to do; one that is lost is replaced.

    The line's engine must be given back.
    """
    attempts = 3
    while True:
        engine = client.engines().take(module)
        try:
            return await ask(engine, name, request, passed)
        except EngineLost:
            client.engines().give_back(engine)
            attempts -= 1
            if not attempts or engine.last_words():
                raise
        except BaseException:
            client.engines().give_back(engine)
            raise


async def call(
    engine: Engine, box: str, what: str, *, insist: bool = False, **request: Any
) -> tuple[Any, list[int]]:
    """Have something done with a container; return the answer and its descriptors.

    :param insist: as for :meth:`Line.answer`.
    """
    line = await ask(engine, "call", {"id": box, "what": what, **request})
    try:
        return await line.answer(what, insist=insist)
    finally:
        line.close()


class Pipe:
    """A pipe of which the program keeps one end, and the container gets the other."""

    def __init__(self, *, to_container: bool) -> None:
        read, write = os.pipe2(os.O_CLOEXEC)
        self.ours, self.theirs = (write, read) if to_container else (read, write)
        os.set_blocking(self.ours, False)

    def close_theirs(self) -> None:
        """Close the container's end, once it is passed on."""
        if self.theirs >= 0:
            os.close(self.theirs)
            self.theirs = -1

    def close(self) -> None:
        """Close our end, and the other if it is still there."""
        self.close_theirs()
        if self.ours >= 0:
            os.close(self.ours)
            self.ours = -1
