"""What a command writes to of a snapshot's memory: copied at once by those that come after it.

A page is copied when it is first written to, with an exception each time. So the first command of
a kind keeps, when it is done, which pages these were, in a file beside the snapshot; the launcher
has them copied before it goes on (``launcher/restore.c``).
"""

from __future__ import annotations

import posix
from _struct import Struct

from .layout import MOST_TABLES, PAGE, copied_segments, remove, write_new

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .started import Started

#: struct footprint: the snapshot's stamp, and start and size of areas, no more than these.
_STAMP = Struct("=Q")
_AREA = Struct("=2Q")
_MOST_AREAS = 1024
#: A page's entry in /proc/PID/pagemap (proc_pid_pagemap(5)), above these bits: present, swapped
#: out, a file's. What was written to in a private mapping of a file is the file's no longer.
_KIND = 61
_WRITTEN = (4, 2)


def keep(started: Started) -> None:
    """Keep the footprint of this command, ``started.unknown``, which has done its work.

    Nothing where it cannot be kept or seen: it only makes commands quicker. A child of ours looks,
    since to look leaves a footprint too.
    """
    command = posix.getpid()
    try:
        child = posix.fork()
    except OSError:
        return
    if child:
        posix.waitpid(child, 0)
        return
    try:
        areas = _written_areas(command, _places(started))
        if areas:
            pieces = [_STAMP.pack(started.stamp), *(_AREA.pack(*area) for area in areas)]
            write_new(f"{started.path}.{started.unknown}", [b"".join(pieces)])
    finally:
        posix._exit(0)


def forget(snapshot: str) -> None:
    """Remove what is kept of commands that started from a snapshot that is removed."""
    directory, _, name = snapshot.rpartition("/")
    for other in posix.listdir(directory):
        if other.startswith(f"{name}."):
            remove(f"{directory}/{other}")


def _places(started: Started) -> list[tuple[int, int]]:
    descriptor = posix.open(started.path, posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        return copied_segments(posix.read(descriptor, MOST_TABLES), started.stamp)
    finally:
        posix.close(descriptor)


def _written_areas(process: int, places: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return start and size of what a process has written to."""
    areas: list[tuple[int, int]] = []
    pagemap = posix.open(f"/proc/{process}/pagemap", posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        for start, end in sorted(places):
            entries = posix.pread(pagemap, (end - start) // PAGE * 8, start // PAGE * 8)
            for page, entry in zip(
                range(start, end, PAGE), memoryview(entries).cast("Q"), strict=True
            ):
                if entry >> _KIND not in _WRITTEN:
                    continue
                if areas and sum(areas[-1]) == page:
                    areas[-1] = (areas[-1][0], areas[-1][1] + PAGE)
                else:
                    areas.append((page, PAGE))
    finally:
        posix.close(pagemap)
    return areas[:_MOST_AREAS]
