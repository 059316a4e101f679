"""How many containers of a runtime may run at a time."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

from pyrunc.errors import WrongStatus
from pyrunc.linux import processes as p
from pyrunc.sandbox.waiting import READABLE, InThread, Wait

if TYPE_CHECKING:
    from collections.abc import Callable


class Places:
    """A place for each container that may run; None has no end of them.

    A place is a pidfd of a container's first process: free again when that has ended, whoever is
    its parent.
    """

    def __init__(self, most: int | None) -> None:
        self._most = most
        self._taken: set[int] = set()
        self._lock = threading.Lock()

    async def take(self, state: Callable[[], dict[str, Any]]) -> int:
        """Wait for a free place and take it for a container that waits for its start.

        :return: the place; -1 when there is no end of them.
        """
        if self._most is None:
            return -1
        place: int = await InThread(_waiting, state)
        try:
            while watched := self._take(place):
                try:
                    await Wait(dict.fromkeys(watched, READABLE))
                finally:
                    for copy in watched:
                        os.close(copy)
        except BaseException:
            os.close(place)
            raise
        return place

    def _take(self, place: int) -> list[int]:
        """Take a place, or return copies of those of which one must become free first."""
        with self._lock:
            for ended in p.poll(tuple(self._taken), 0):
                self._taken.remove(ended)
                os.close(ended)
            if len(self._taken) >= (self._most or 0):
                # Copies: somebody else may find one ended, and close it, meanwhile.
                return [os.dup(taken) for taken in self._taken]
            self._taken.add(place)
            return []

    def give_back(self, place: int) -> None:
        """Free a place whose container was not started."""
        with self._lock:
            if place in self._taken:
                self._taken.remove(place)
                os.close(place)

    def __del__(self) -> None:
        for place in self._taken:
            os.close(place)


def _waiting(state: Callable[[], dict[str, Any]]) -> int:
    pidfd = first_process(state, ("created",))
    if pidfd < 0:
        raise WrongStatus("the container is not created: it cannot be started")
    return pidfd


def first_process(state: Callable[[], dict[str, Any]], statuses: tuple[str, ...]) -> int:
    """Return a pidfd of a container's first process, -1 when its status is another."""

    def look() -> int:
        told = state()
        return int(told.get("pid") or 0) if told["status"] in statuses else 0

    if not (pid := look()):
        return -1
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return -1
    # The number may have become another's in between; what has it now is still the container's.
    if look() == pid:
        return pidfd
    os.close(pidfd)
    return -1
