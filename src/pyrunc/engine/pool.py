"""Containers that are ready before they are asked for."""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import TYPE_CHECKING

from pyrunc.errors import Error

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pyrunc.engine.box import Box

#: How many kinds of containers are kept; the one that was not asked for the longest goes.
_MOST_KINDS = 8


class _Kind:
    """Containers of one request."""

    def __init__(self, wanted: bytes) -> None:
        self.wanted = wanted
        self.most = 0
        #: What was executed in the last one: likely also in the next.
        self.args: Sequence[str] = ()
        self.ready: deque[Box] = deque()


class Pool:
    """Keeps containers ready, as many of each kind as was asked for last."""

    def __init__(self, make: Callable[[bytes], Box]) -> None:
        self._make = make
        self._kinds: OrderedDict[bytes, _Kind] = OrderedDict()

    @property
    def wants_more(self) -> bool:
        """Whether :meth:`prepare` has something to do."""
        return any(
            len(kind.ready) < kind.most or (kind.ready and not kind.ready[-1].is_settled)
            for kind in self._kinds.values()
        )

    def take(self, wanted: bytes, most: int, args: Sequence[str]) -> Box | None:
        """Return a container that is ready, if there is one; keep ``most`` ready from now on.

        :param wanted: what it has to be like (:func:`pyrunc.engine.messages.packed`).
        :param args: what will be executed in it.
        """
        kind = self._kinds.setdefault(wanted, _Kind(wanted))
        kind.most, kind.args = most, args
        self._kinds.move_to_end(wanted)
        while len(self._kinds) > _MOST_KINDS:
            self._close(self._kinds.popitem(last=False)[1])
        while kind.ready:
            box = kind.ready.popleft()
            if box.lives:
                return box
            box.close()
        return None

    def prepare(self) -> None:
        """Do one thing: settle the container made last, or make one of which there are too few."""
        for kind in self._kinds.values():
            if kind.ready and not kind.ready[-1].is_settled:
                kind.ready[-1].settle()
                return
            if len(kind.ready) < kind.most:
                try:
                    box = self._make(kind.wanted)
                    try:
                        box.ensure(kind.args)
                    except BaseException:
                        box.close()
                        raise
                except (OSError, Error):
                    # Whoever asks for one hears why it cannot be.
                    kind.most = 0
                    return
                kind.ready.append(box)
                return

    def _close(self, kind: _Kind) -> None:
        for box in kind.ready:
            box.close()
