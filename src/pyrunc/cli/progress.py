"""One line on a terminal that says how far something is, and is gone when it is done."""

from __future__ import annotations

import posix
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_STDERR = 2
#: What is done sooner needs no line (seconds).
_SHORT = 1.0


def on_terminal(doing: str) -> Callable[[int | None], None] | None:
    """Return what shows the progress of ``doing``; None when stderr is no terminal.

    It takes the bytes that are written so far, and None at the end.
    """
    if not posix.isatty(_STDERR):
        return None
    begun = time.monotonic()
    shown = False

    def show(written: int | None) -> None:
        nonlocal shown
        seconds = time.monotonic() - begun
        if written is None:
            if shown:
                _write("\r\33[K")
            return
        if seconds >= _SHORT:
            size = f", {written / 2**20:.0f} MiB" if written else ""
            _write(f"\r\33[K{doing}: {int(seconds)} s{size}")
            shown = True

    return show


def _write(text: str) -> None:
    try:
        posix.write(_STDERR, text.encode("utf-8", "replace"))
    except OSError:
        # A terminal that is gone: nobody looks.
        return
