"""Carrying out the library's coroutines (:mod:`pyrunc.sandbox.waiting`) with an event loop."""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import TYPE_CHECKING, Any, TypeVar

from pyrunc.sandbox.waiting import READABLE, InThread, Wait

if TYPE_CHECKING:
    from collections.abc import Coroutine

T = TypeVar("T")


async def drive(coroutine: Coroutine[Any, Any, T]) -> T:
    """Carry a coroutine out in the running event loop, and return what it returns.

    A cancellation is raised in the coroutine, where it waits; what that awaits to clean up is
    awaited as well.
    """
    answer: Any = None
    error: BaseException | None = None
    while True:
        try:
            wait = coroutine.throw(error) if error else coroutine.send(answer)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        answer, error = None, None
        try:
            answer = await _done(wait)
        except GeneratorExit:
            # The loop is closed over our heads: there is no waiting any more.
            coroutine.close()
            raise
        except BaseException as interrupted:
            error = interrupted


async def _done(wait: Wait | InThread) -> Any:
    if isinstance(wait, InThread):
        return await asyncio.to_thread(wait.function, *wait.arguments)
    return await _ready(wait)


async def _ready(wait: Wait) -> dict[int, int]:
    """Wait until one of the descriptors is ready."""
    loop = asyncio.get_running_loop()
    ready: dict[int, int] = {}
    woken = loop.create_future()

    def end_waiting() -> None:
        if not woken.done():
            woken.set_result(None)

    def wake(descriptor: int, events: int) -> None:
        ready[descriptor] = events
        end_waiting()

    with contextlib.ExitStack() as watched:
        for descriptor, events in wait.watched.items():
            # A copy: several tasks may wait for the same one, and a loop knows only one reader.
            copy = os.dup(descriptor)
            watched.callback(os.close, copy)
            if events == READABLE:
                loop.add_reader(copy, wake, descriptor, events)
                watched.callback(loop.remove_reader, copy)
            else:
                loop.add_writer(copy, wake, descriptor, events)
                watched.callback(loop.remove_writer, copy)
        if wait.timeout is not None:
            watched.callback(loop.call_later(wait.timeout, end_waiting).cancel)
        await woken
    return ready
