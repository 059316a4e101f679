"""``--trace FILE``: where the time of a command goes, for chrome://tracing and ui.perfetto.dev.

The file is a JSON array of complete events (the "Trace Event Format") without
its closing bracket, which viewers do not need; so runtime and builder, two
processes, can each append lines. Switched off, a mark costs one empty call.
"""

from __future__ import annotations

import posix
import time

RUNTIME = "runtime"
BUILDER = "builder"
INIT = "init"
_TRACKS = {RUNTIME: 1, BUILDER: 2, INIT: 3}


class NoTrace:
    """Stands in when nothing is traced."""

    __slots__ = ()
    on = False

    def mark(self, name: str) -> None:
        """Do nothing."""

    def begin(self, track: str) -> None:
        """Do nothing."""


OFF = NoTrace()


class Trace(NoTrace):
    """Writes one event for each mark: the time since the mark before it."""

    __slots__ = ("_descriptor", "_last", "_track")
    on = True

    def __init__(self, path: str) -> None:
        """Open ``path`` anew.

        :raises OSError: when that fails.
        """
        flags = posix.O_WRONLY | posix.O_CREAT | posix.O_TRUNC | posix.O_APPEND | posix.O_CLOEXEC
        self._descriptor = posix.open(path, flags, 0o644)
        self._track = RUNTIME
        self._last = time.monotonic_ns()
        names = "".join(
            f'{{"name":"thread_name","ph":"M","pid":1,"tid":{number},"args":{{"name":"{track}"}}}},\n'
            for track, number in _TRACKS.items()
        )
        posix.write(self._descriptor, f"[\n{names}".encode())

    def begin(self, track: str) -> None:
        """Go on, from now, on another track (the builder after its birth)."""
        self._track = track
        self._last = time.monotonic_ns()

    def mark(self, name: str) -> None:
        """What has been done since the last mark was ``name``."""
        now = time.monotonic_ns()
        quoted = name.replace("\\", "\\\\").replace('"', '\\"')
        event = (
            f'{{"name":"{quoted}","ph":"X","pid":1,"tid":{_TRACKS[self._track]},'
            f'"ts":{self._last / 1000:.1f},"dur":{(now - self._last) / 1000:.1f}}},\n'
        )
        self._last = now
        posix.write(self._descriptor, event.encode("ascii", "backslashreplace"))
        # What writing took is nobody's.
        self._last = time.monotonic_ns()
