"""The engine's log: warnings are kept, and go with the next answer."""

from __future__ import annotations


class Collected:
    """A :class:`pyrunc.container.settings.Log` that keeps what it is told."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def warn(self, message: str) -> None:
        """Keep a warning."""
        self._lines.append(message)

    def debug(self, message: str) -> None:
        """Details are nobody's concern here."""

    def take(self) -> list[str]:
        """Return the warnings since the last call."""
        taken, self._lines = self._lines, []
        return taken
