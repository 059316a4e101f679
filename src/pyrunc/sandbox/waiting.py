"""Waiting, apart from how it is done: the library's logic is written once, as coroutines.

Such a coroutine awaits nothing but :class:`Wait`: until a descriptor is ready, or time has passed.
:func:`drive` carries it out with poll(2), for the synchronous face; the asyncio face
(:mod:`pyrunc.aio`) with an event loop. An exception that comes while one waits (an interrupt from
the keyboard, a cancellation) is raised in the coroutine, where it waits, so that it can clean up:
by waiting again, if need be.
"""

from __future__ import annotations

import select
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Generator, Mapping

    Ready = dict[int, int]

T = TypeVar("T")
READABLE = select.POLLIN
WRITABLE = select.POLLOUT


class Wait:
    """Until one of ``watched`` (descriptor -> READABLE or WRITABLE) is ready; awaited, it tells.

    :param timeout: in seconds; None waits for ever. An empty answer means that it passed.
    """

    __slots__ = ("timeout", "watched")

    def __init__(self, watched: Mapping[int, int], timeout: float | None = None) -> None:
        self.watched = watched
        self.timeout = timeout

    def __await__(self) -> Generator[Wait, Ready, Ready]:
        return (yield self)


class Insisted:
    """Waits that go on when they are interrupted, for what must be seen through.

    >>> insisted = Insisted()
    >>> while not done():
    ...     await insisted.wait(Wait(...))
    >>> insisted.give_way()  # to the interruption, if there was one
    """

    def __init__(self) -> None:
        self._interruption: BaseException | None = None

    async def wait(self, wait: Wait) -> None:
        """Wait; an interruption is kept, and ends this wait only."""
        try:
            await wait
        except GeneratorExit:
            # Nobody carries the coroutine out any more.
            raise
        except BaseException as interruption:
            self._interruption = interruption

    def give_way(self) -> None:
        """Raise the last interruption, if there was one."""
        if self._interruption is not None:
            raise self._interruption


class InThread:
    """The result of a function that takes its time, called where that holds up nobody else."""

    __slots__ = ("arguments", "function")

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self.function = function
        self.arguments = arguments

    def __await__(self) -> Generator[InThread, Any, Any]:
        return (yield self)


def drive(coroutine: Coroutine[Any, Any, T]) -> T:
    """Carry a coroutine out in this thread, and return what it returns."""
    ready: Any = None
    error: BaseException | None = None
    while True:
        try:
            wait = coroutine.throw(error) if error else coroutine.send(ready)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
        ready, error = None, None
        try:
            ready = _poll(wait) if isinstance(wait, Wait) else wait.function(*wait.arguments)
        except BaseException as interrupted:
            error = interrupted


def _poll(wait: Wait) -> Any:
    poll = select.poll()
    for descriptor, events in wait.watched.items():
        poll.register(descriptor, events)
    # Rounded up: poll(2) counts whole milliseconds, and must not return too early for ever.
    return dict(poll.poll(None if wait.timeout is None else wait.timeout * 1000 + 0.999))
