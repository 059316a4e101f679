"""Containers that are ready before they are asked for."""

from __future__ import annotations

import marshal
from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Any

from pyrunc.errors import Error

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyrunc.engine.box import Box

#: How many kinds of containers are kept; the one that was not asked for the longest goes.
_MOST_KINDS = 8


class _Kind:
    """Containers of one request."""

    def __init__(self, request: dict[str, Any]) -> None:
        self.request = request
        self.most = 0
        self.ready: deque[Box] = deque()


class Pool:
    """Keeps containers ready, as many of each kind as was asked for last."""

    def __init__(self, make: Callable[[dict[str, Any]], Box]) -> None:
        self._make = make
        self._kinds: OrderedDict[bytes, _Kind] = OrderedDict()

    @property
    def wants_more(self) -> bool:
        """Whether :meth:`prepare` has something to do."""
        return any(
            len(kind.ready) < kind.most or (kind.ready and not kind.ready[-1].is_settled)
            for kind in self._kinds.values()
        )

    def take(self, request: dict[str, Any], most: int) -> Box | None:
        """Return a container that is ready, if there is one; keep ``most`` ready from now on."""
        key = marshal.dumps(request, 2)
        kind = self._kinds.setdefault(key, _Kind(request))
        kind.most = most
        self._kinds.move_to_end(key)
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
                    box = self._make(kind.request)
                    try:
                        box.ensure()
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
