"""What a program prints, of which only the last part is kept."""

from __future__ import annotations

from collections import deque


class Tail:
    """The last ``most`` bytes of what is added; all of it when ``most`` is None."""

    __slots__ = ("_kept", "_most", "_pieces", "total")

    def __init__(self, most: int | None) -> None:
        self._most = most
        self._pieces: deque[bytes] = deque()
        self._kept = 0
        #: How many bytes were ever added.
        self.total = 0

    @property
    def truncated(self) -> bool:
        """Whether the beginning is no more there."""
        return self._most is not None and self.total > self._most

    def add(self, piece: bytes) -> None:
        """Add bytes to the end."""
        self.total += len(piece)
        self._kept += len(piece)
        self._pieces.append(piece)
        if self._most is None:
            return
        while self._pieces and self._kept - len(self._pieces[0]) >= self._most:
            self._kept -= len(self._pieces.popleft())

    def value(self) -> bytes:
        """Return what is kept."""
        whole = b"".join(self._pieces)
        if self._most is None or len(whole) <= self._most:
            return whole
        return whole[len(whole) - self._most :]
