"""SIGTERM, SIGINT and SIGHUP while something is half made: they become an exception.

The default action would end the runtime where it stands and leave what it has
made so far to `delete --force`. An exception lets it clean up after itself.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType

_NAMES = {_signal.SIGHUP: "SIGHUP", _signal.SIGINT: "SIGINT", _signal.SIGTERM: "SIGTERM"}


class Interrupted(BaseException):
    """A signal asked for the end. No ``Error``: nobody on the way may take it for a mishap."""


class Interrupts:
    """Makes the three signals raise :class:`Interrupted` until :meth:`end`.

    A signal that the caller handles or ignores stays as it is. Does nothing
    outside of the main thread, where Python handles no signals.
    """

    __slots__ = ("_before", "_mask")

    def __init__(self) -> None:
        self._before: dict[int, object] = {}
        self._mask: set[int] | None = None
        for signal in _NAMES:
            handler = _signal.getsignal(signal)
            if handler not in (_signal.SIG_DFL, _signal.default_int_handler):
                continue
            try:
                _signal.signal(signal, _interrupt)
            except ValueError:
                return
            self._before[signal] = handler

    def hold(self) -> None:
        """Put signals off, for what must not be torn apart; a fork inherits that."""
        self._mask = _signal.pthread_sigmask(_signal.SIG_BLOCK, _NAMES)

    def let_through(self) -> None:
        """Deliver the signals that were put off."""
        if self._mask is not None:
            mask, self._mask = self._mask, None
            _signal.pthread_sigmask(_signal.SIG_SETMASK, mask)

    def ignore(self) -> None:
        """Let nothing disturb the cleaning up."""
        for signal in self._before:
            _signal.signal(signal, _signal.SIG_IGN)
        self.let_through()

    def listen(self) -> None:
        """Let signals raise again: what comes now may take for ever."""
        for signal in self._before:
            _signal.signal(signal, _interrupt)

    def end(self) -> None:
        """Give the signals back their meaning."""
        for signal, handler in self._before.items():
            _signal.signal(signal, handler)
        self._before.clear()


def _interrupt(signal: int, frame: FrameType | None) -> None:
    raise Interrupted(f"interrupted by {_NAMES[signal]}")
