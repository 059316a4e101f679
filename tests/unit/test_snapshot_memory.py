"""From the memory of a process to the segments of a snapshot."""

from __future__ import annotations

import itertools
import mmap
import os
import signal
import struct
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from pyrunc.errors import Error
from pyrunc.snapshot.layout import PROCESS_SIZE, Frozen, Segment
from pyrunc.snapshot.memory import Memory

MADV_DONTFORK, MADV_WIPEONFORK = 10, 18
PAGE = 4096


@contextmanager
def segments_of(area: mmap.mmap, advice: int | None = None) -> Iterator[list[Segment]]:
    """The segments of a fork that has written to ``area``; it is told apart by its size."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        if advice is not None:
            area.madvise(advice)
        area[:5] = b"found"
        os.write(writer, b".")
        signal.pause()
    try:
        os.read(reader, 1)
        with open(f"/proc/{pid}/maps") as file:
            stack = next(line for line in file if "[stack]" in line)
        end = int(stack.split("-")[1].split()[0], 16)
        told = struct.pack("=14Q", *[end - 2 * PAGE] * 14).ljust(PROCESS_SIZE, b"\0")
        yield Memory(pid, Frozen(told)).segments
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(reader)
        os.close(writer)


def area() -> mmap.mmap:
    return mmap.mmap(-1, 131 * PAGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


def test_content_is_taken_and_long_runs_of_zeros_are_not() -> None:
    with area() as memory, segments_of(memory) as segments:
        (first,) = (s for s in segments if s.content and s.content[:5] == b"found")
        after = next(s for s in segments if s.start == first.end)
        assert len(first.content or b"") == first.end - first.start
        assert after.content is None
        assert not first.wiped


def test_what_is_wiped_in_forks_is_never_copied() -> None:
    """The C library keeps the state of its random numbers in such memory."""
    with area() as memory, segments_of(memory, MADV_WIPEONFORK) as segments:
        # The C library may have such memory of its own (glibc 2.41).
        (wiped,) = (s for s in segments if s.wiped and s.end - s.start == 131 * PAGE)
        assert wiped.content is None
        assert not [s for s in segments if s.content and s.content[:5] == b"found"]


def test_what_forks_do_not_have_is_refused() -> None:
    with (
        area() as memory,
        pytest.raises(Error, match="memory that forks do not get"),
        segments_of(memory, MADV_DONTFORK),
    ):
        pass


def test_code_comes_from_its_files() -> None:
    with area() as memory, segments_of(memory) as segments:
        code = [s for s in segments if s.protection & 4]
        assert code
        assert all(s.source.startswith("/") and s.content is None for s in code)
        assert not [s for s in segments if s.protection & 6 == 6]


def test_what_can_be_mapped_as_one_is_one() -> None:
    """Of a library: its head, its code and its constants; not what it has to be written to."""
    with area() as memory, segments_of(memory) as segments:
        for before, after in itertools.pairwise(segments):
            if before.end != after.start:
                continue
            goes_on = before.offset + before.end - before.start == after.offset
            assert not (after.source and after.source == before.source and goes_on)
            both = before.content is not None and after.content is not None
            assert not (both and before.protection == after.protection)
        libraries = [s.source for s in segments if "/libc.so" in s.source]
        assert len(libraries) == 1
        for segment in segments:
            if segment.content is not None:
                assert len(segment.content) == segment.end - segment.start
