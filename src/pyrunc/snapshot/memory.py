"""From the maps of a frozen process to the segments of a snapshot (proc_pid_smaps(5))."""

from __future__ import annotations

import posix

from pyrunc.errors import Error
from pyrunc.linux.files import read_all

from .layout import PAGE, Frozen, Segment

_READ = 1
_WRITE = 2
_EXECUTE = 4
#: So many pages of zeros on end are not stored: another mapping costs as much as they do.
_FEWEST_ZEROS = 64
#: What the kernel would let the first thread's stack grow to, by default.
_STACK_SIZE = 8 << 20
_RED_ZONE = 128
#: VmFlags (proc_pid_smaps(5)).
_WIPED = "wf"
_NOT_FORKED = "dc"


class Memory:
    """The memory of a process that stands still."""

    def __init__(self, pid: int, frozen: Frozen) -> None:
        """Look at it; the process must be one that the caller may trace (ptrace(2)).

        :raises Error: when it holds something that cannot be put back.
        :raises OSError: when it may not be read.
        """
        self.segments: list[Segment] = []
        self.vdso = (0, 0)
        self.vvar: list[tuple[int, int]] = []
        self._memory = posix.open(f"/proc/{pid}/mem", posix.O_RDONLY | posix.O_CLOEXEC)
        maps = posix.open(f"/proc/{pid}/smaps", posix.O_RDONLY | posix.O_CLOEXEC)
        line = ""
        for text in read_all(maps).decode("utf-8", "surrogateescape").splitlines():
            if text.startswith("VmFlags:"):
                self._add(line, text.split()[1:], frozen.stack_pointer)
            elif not text.partition(" ")[0].endswith(":"):
                line = text
        posix.close(maps)
        posix.close(self._memory)
        if not self.vdso[1]:
            raise Error("the kernel gives no vdso")

    def _add(self, line: str, flags: list[str], stack_pointer: int) -> None:
        """Take a mapping: its line of the maps, its VmFlags."""
        fields = line.split(maxsplit=5)
        start, end = (int(number, 16) for number in fields[0].split("-"))
        letters, offset = fields[1], int(fields[2], 16)
        name = fields[5] if len(fields) > 5 else ""
        protection = sum(
            bit
            for letter, bit in (("r", _READ), ("w", _WRITE), ("x", _EXECUTE))
            if letter in letters
        )
        if name == "[vsyscall]":
            return
        if name == "[vdso]":
            self.vdso = (start, end - start)
        elif name.startswith("[vvar"):
            self.vvar.append((start, end - start))
        elif name == "[stack]":
            used = (stack_pointer - _RED_ZONE) // PAGE * PAGE
            self.segments.append(Segment(end - _STACK_SIZE, used, protection))
            self._add_content(used, end, protection)
        elif _NOT_FORKED in flags:
            raise Error(f"memory that forks do not get: {name or hex(start)}")
        elif _WIPED in flags:
            # A random number generator's (vdso_getrandom(3)): it must never go on from here twice.
            self.segments.append(Segment(start, end, protection, wiped=True))
        elif name.startswith("[") and name != "[heap]" and not name.startswith("[anon"):
            raise Error(f"memory of an unknown kind: {name}")
        elif (
            name.startswith("/")
            and not protection & _WRITE
            and self._is_of_file(start, end, name, offset)
        ):
            self._take(Segment(start, end, protection, name, offset))
        elif letters.endswith("s"):
            raise Error(f"memory is shared: {name or hex(start)}")
        elif not protection & _READ:
            self.segments.append(Segment(start, end, protection))
        else:
            self._add_content(start, end, protection)

    def _is_of_file(self, start: int, end: int, path: str, offset: int) -> bool:
        """Tell whether memory is as in the file: relocated data that is read-only now is not."""
        descriptor = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
        try:
            there = posix.pread(descriptor, end - start, offset)
        finally:
            posix.close(descriptor)
        here = self._read(start, min(end, start + -(-len(there) // PAGE) * PAGE))
        return here == there.ljust(len(here), b"\0")

    def _add_content(self, start: int, end: int, protection: int) -> None:
        """Take memory as it is, but for long runs of zeros."""
        if protection & _EXECUTE:
            raise Error(f"code was changed at {start:#x}")
        content = self._read(start, end)
        for begin, stop, zero in _runs(content):
            piece = None if zero else content[begin:stop]
            self._take(Segment(start + begin, start + stop, protection, content=piece))

    def _take(self, segment: Segment) -> None:
        """Add a segment, to the one before it where both can be mapped as one.

        Each mapping takes the launcher as long as three page faults. Of a library the code lies
        between two parts that are only read: all of it can be executed then.
        """
        before = self.segments[-1] if self.segments else None
        if before and before.end == segment.start and _goes_on(before, segment):
            if before.content is not None and segment.content is not None:
                before.content += segment.content
            before.protection |= segment.protection
            before.end = segment.end
        else:
            self.segments.append(segment)

    def _read(self, start: int, end: int) -> bytes:
        content = b""
        while len(content) < end - start:
            content += posix.pread(self._memory, end - start - len(content), start + len(content))
        return content


def _goes_on(before: Segment, segment: Segment) -> bool:
    """Tell whether what one segment is mapped from goes on in the next."""
    if segment.source:
        offset = before.offset + before.end - before.start
        return (before.source, offset) == (segment.source, segment.offset)
    both = before.content is not None and segment.content is not None
    return both and before.protection == segment.protection


def _runs(content: bytes) -> list[tuple[int, int, bool]]:
    """Cut memory into (begin, end, whether it is zeros)."""
    runs: list[tuple[int, int, bool]] = []
    zeros = bytes(PAGE)
    for at in range(0, len(content), PAGE):
        zero = content[at : at + PAGE] == zeros
        if runs and runs[-1][2] == zero:
            runs[-1] = (runs[-1][0], at + PAGE, zero)
        else:
            runs.append((at, at + PAGE, zero))
    # What is too short for a mapping of its own joins what is before it.
    joined: list[tuple[int, int, bool]] = []
    for begin, end, zero in runs:
        is_zero = zero and end - begin >= _FEWEST_ZEROS * PAGE
        if joined and joined[-1][2] == is_zero:
            joined[-1] = (joined[-1][0], end, is_zero)
        else:
            joined.append((begin, end, is_zero))
    return joined
