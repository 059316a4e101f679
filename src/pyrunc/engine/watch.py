"""What a process here waits for: descriptors, and what is done when one has something to read."""

from __future__ import annotations

import select
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Watch:
    """Descriptors with their handlers, which may add and forget others."""

    def __init__(self) -> None:
        self._poll = select.poll()
        self._handlers: dict[int, Callable[[], None]] = {}

    def __len__(self) -> int:
        return len(self._handlers)

    def add(self, descriptor: int, handler: Callable[[], None]) -> None:
        """Have ``handler`` called whenever there is something to read, or the other end is gone."""
        self._handlers[descriptor] = handler
        self._poll.register(descriptor, select.POLLIN)

    def forget(self, descriptor: int) -> None:
        """Watch it no more, if it is watched; to be called before it is closed."""
        if self._handlers.pop(descriptor, None):
            self._poll.unregister(descriptor)

    def look(self, pause: float | None = None) -> bool:
        """Wait and call the handlers; tell whether there was anything.

        :param pause: how long to wait, in milliseconds; None is for ever.
        """
        ready = self._poll.poll(pause)
        for descriptor, _ in ready:
            # An earlier one of the same round may have ended this one.
            if handler := self._handlers.get(descriptor):
                handler()
        return bool(ready)
