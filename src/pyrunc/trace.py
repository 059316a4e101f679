"""``--trace FILE``: where the time of a command goes, for chrome://tracing and ui.perfetto.dev.

The file is a JSON array of complete events (the "Trace Event Format"), to which
runtime and builder, two processes, each append; the runtime, which ends last, closes
it. A command that is killed leaves it open: viewers do not need the bracket. Switched
off, a mark costs one empty call.

init cannot write such lines. Its launch program (process/launch.py) puts the time after each
of its calls into a memory file, and the runtime makes events of them.
"""

from __future__ import annotations

import posix
import time
from _json import encode_basestring_ascii
from _struct import iter_unpack

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

RUNTIME = "runtime"
BUILDER = "builder"
INIT = "init"
#: Where the names of init's calls are in its memory file, after the times: 16 bytes each.
_LABELS_AT = 1 << 16
_TRACKS = {RUNTIME: 1, BUILDER: 2, INIT: 3}


class NoTrace:
    """Stands in when nothing is traced."""

    __slots__ = ()
    on = False
    #: Descriptor of the memory file for init, or -1.
    stamps = -1

    def mark(self, name: str) -> None:
        """Do nothing."""

    def begin(self, track: str) -> None:
        """Do nothing."""

    def expect(self, labels: Sequence[str]) -> None:
        """Do nothing."""

    def collect(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


OFF = NoTrace()


class Trace(NoTrace):
    """Writes one event for each mark: the time since the mark before it."""

    __slots__ = ("_collected", "_descriptor", "_last", "_track", "stamps")
    on = True

    def __init__(self, descriptor: int, began: int = 0) -> None:
        """Write to ``descriptor``, open for appending to an empty file.

        ``began`` is when the launcher began to restore a snapshot, in ns; 0 if it did not.

        :raises OSError: when that fails.
        """
        self._descriptor = descriptor
        self._track = RUNTIME
        self.stamps = posix.memfd_create("trace", posix.MFD_CLOEXEC)
        self._collected = 0
        self._last = time.time_ns()
        names = ",\n".join(
            f'{{"name":"thread_name","ph":"M","pid":1,"tid":{number},"args":{{"name":"{track}"}}}}'
            for track, number in _TRACKS.items()
        )
        posix.write(self._descriptor, f"[\n{names}".encode())
        if began:
            self._write("restore the snapshot", RUNTIME, began, self._last)

    def begin(self, track: str) -> None:
        """Go on, from now, on another track (the builder after its birth)."""
        self._track = track
        self._last = time.time_ns()

    def mark(self, name: str) -> None:
        """What has been done since the last mark was ``name``."""
        self._write(name, self._track, self._last, time.time_ns())
        # What writing took is nobody's.
        self._last = time.time_ns()

    def collect(self) -> None:
        """Make events of what init has done since the last time."""
        times = posix.pread(self.stamps, _LABELS_AT, 0)
        labels = posix.pread(self.stamps, _LABELS_AT, _LABELS_AT).decode().split("\n")
        done = [s * 10**9 + ns for s, ns in iter_unpack("=qq", times) if s]
        # The first time is that of init's own start.
        for number in range(max(1, self._collected), len(done)):
            self._write(labels[number], INIT, done[number - 1], done[number])
        self._collected = len(done)

    def expect(self, labels: Sequence[str]) -> None:
        """Say what has just been done at each time that init will write."""
        lines = "\n".join([label.replace("\n", " ") for label in labels])
        posix.pwrite(self.stamps, lines.encode("utf-8", "replace"), _LABELS_AT)

    def close(self) -> None:
        """End the array: nobody writes any more."""
        posix.write(self._descriptor, b"\n]\n")

    def _write(self, name: str, track: str, start: int, end: int) -> None:
        event = (
            f',\n{{"name":{encode_basestring_ascii(name)},"ph":"X","pid":1,"tid":{_TRACKS[track]},'
            f'"ts":{start / 1000:.1f},"dur":{(end - start) / 1000:.1f}}}'
        )
        posix.write(self._descriptor, event.encode())
