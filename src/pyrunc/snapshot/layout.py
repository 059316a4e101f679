"""The files of a snapshot: what ``launcher/snapshot.h`` declares, written by Python."""

from __future__ import annotations

import posix
from _struct import Struct, calcsize

from pyrunc.linux.files import O_CLOEXEC, O_NOFOLLOW, write_all

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

MAGIC = 0x33504E5343525950
PAGE = 4096
#: The launcher reads no more of the head and the tables.
MOST_TABLES = 65536

#: A segment's source when it is not the number of a file.
FROM_SNAPSHOT = -1
FROM_NOWHERE = -2
#: PROT_WRITE (mmap(2)).
_WRITE = 2

_IDENTITY = "7Q"
#: struct key: two capability words, the user namespace, the launcher's path, the CPU, the launcher,
#: the boot, the kernel's release.
_KEY_SIZE = calcsize("=4Q6I7Q40s72s")
_HEAD = Struct("=6Q")
_FILE = Struct(f"=Q{_IDENTITY}")
_SEGMENT = Struct("=3Qq2Q")
#: struct process: its registers and addresses come from the frozen process, as do the signals;
#: between them is where the kernel's own pages are.
_REGISTERS = Struct("=14Q")
_AREAS = Struct("=8Q")
_SIGNALS = Struct("=20Q")
PROCESS_SIZE = _REGISTERS.size + _AREAS.size + _SIGNALS.size


class Segment:
    """A piece of memory: addresses, PROT_* bits, where its content comes from, and the content.

    ``source`` is a path, or "" for content that the snapshot holds; zeros when that is None.
    ``wiped`` says that forks get zeros (MADV_WIPEONFORK).
    """

    __slots__ = ("content", "end", "offset", "protection", "source", "start", "wiped")

    def __init__(
        self,
        start: int,
        end: int,
        protection: int,
        source: str = "",
        offset: int = 0,
        content: bytes | None = None,
        *,
        wiped: bool = False,
    ) -> None:
        self.wiped = wiped
        self.start = start
        self.end = end
        self.protection = protection
        self.source = source
        self.offset = offset
        self.content = content


class Frozen:
    """What the frozen process told of itself (``struct process``)."""

    __slots__ = ("_told",)

    def __init__(self, told: bytes) -> None:
        self._told = told

    @property
    def stack_pointer(self) -> int:
        """Where its stack ended."""
        pointer: int = _REGISTERS.unpack_from(self._told)[6]
        return pointer

    def with_areas(self, vdso: tuple[int, int], vvar: list[tuple[int, int]]) -> bytes:
        """Return it with the start and size of the kernel's own pages."""
        areas = [vdso, *vvar, *[(0, 0)] * (3 - len(vvar))]
        middle = _AREAS.pack(*(number for area in areas for number in area))
        at = _REGISTERS.size
        return self._told[:at] + middle + self._told[at + _AREAS.size :]


def identity(path: str) -> tuple[int, ...]:
    """Return what tells two states of a file apart (``struct identity``)."""
    status = posix.stat(path)
    modified, changed = status.st_mtime_ns, status.st_ctime_ns
    return (
        status.st_dev,
        status.st_ino,
        status.st_size,
        *divmod(modified, 10**9),
        *divmod(changed, 10**9),
    )


def pack(
    key: bytes,
    process: bytes,
    segments: list[Segment],
    files: dict[str, tuple[int, ...]],
    stamp: int,
) -> list[bytes]:
    """Return a snapshot, in pieces to be written one after the other.

    ``files`` has the identity of each file that it is keyed on, those that segments come from
    among them; ``stamp`` is when it is made, in ns.

    :raises ValueError: when the launcher could not read it.
    """
    if len(key) != _KEY_SIZE or len(process) != PROCESS_SIZE:
        raise ValueError("the launcher is of another version")
    mapped = {segment.source: None for segment in segments if segment.source}
    # What is only looked at comes first: it is cheaper to find out that it has changed.
    names = [*(path for path in files if path not in mapped), *mapped]
    number = {path: place for place, path in enumerate(names)}
    table = b""
    paths = b""
    for path in names:
        table += _FILE.pack(len(paths), *files[path])
        paths += path.encode("utf-8", "surrogateescape") + b"\0"
    size = _HEAD.size + len(key) + len(process) + len(table) + len(segments) * _SEGMENT.size
    size += len(paths)
    if size > MOST_TABLES:
        raise ValueError(f"the tables take {size} bytes, more than {MOST_TABLES}")
    at = -(-size // PAGE) * PAGE
    contents = [bytes(at - size)]

    def order(segment: Segment) -> int:
        return number.get(segment.source, len(names) + (segment.content is None))

    for segment in sorted(segments, key=order):
        source, offset = number.get(segment.source, FROM_NOWHERE), segment.offset
        if segment.content is not None:
            source, offset = FROM_SNAPSHOT, at
            contents.append(segment.content)
            at += len(segment.content)
        table += _SEGMENT.pack(
            segment.start, segment.end, segment.protection, source, offset, segment.wiped
        )
    head = _HEAD.pack(MAGIC, at, size, len(names), len(segments), stamp)
    return [head, key, process, table, paths, *contents]


def copied_segments(snapshot: bytes, stamp: int) -> list[tuple[int, int]]:
    """Return start and end of what is copied from a snapshot when it is written to.

    Nothing when it is not the one with this stamp. Its beginning, MOST_TABLES, is enough.
    """
    magic, _, _, files, segments, found = _HEAD.unpack_from(snapshot)
    if (magic, found) != (MAGIC, stamp):
        return []
    at = _HEAD.size + _KEY_SIZE + PROCESS_SIZE + files * _FILE.size
    places = []
    for number in range(segments):
        start, end, protection, _, _, wiped = _SEGMENT.unpack_from(
            snapshot, at + number * _SEGMENT.size
        )
        if protection & _WRITE and not wiped:
            places.append((start, end))
    return places


def write_new(path: str, pieces: Sequence[bytes]) -> None:
    """Write a file that only its owner may read, in the place of what is there."""
    remove(path)
    flags = posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | O_NOFOLLOW | O_CLOEXEC
    descriptor = posix.open(path, flags, 0o600)
    try:
        for piece in pieces:
            write_all(descriptor, piece)
    finally:
        posix.close(descriptor)


def remove(path: str) -> None:
    """Remove a file if it is there."""
    try:
        posix.unlink(path)
    except FileNotFoundError:
        pass
