"""Trying a new snapshot: commands that are started from it, and the memory that they write to."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import posix

from pyrunc.errors import Error
from pyrunc.linux.files import read_all
from pyrunc.linux.libc import syscall
from pyrunc.linux.numbers import SYS
from pyrunc.linux.processes import PR_SET_PDEATHSIG

from .layout import PAGE
from .rehearsal import commands

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from .layout import Segment
    from .started import Started

#: Where the kernel has put something in the place of the snapshot's memory, a trial fails.
_TRIALS = 5
_WRITE = 2
#: ptrace(2).
_TRACEME, _CONT, _SETOPTIONS = 0, 7, 0x4200
_O_TRACEEXIT, _O_EXITKILL = 0x40, 0x100000
_AT_EXIT = (_signal.SIGTRAP | 6 << 8) << 8 | 0x7F
#: A page's entry in /proc/PID/pagemap (proc_pid_pagemap(5)), above these bits: present, swapped
#: out, a file's. What was written to in a private mapping of a file is the file's no longer.
_KIND = 61
_WRITTEN = (4, 2)


def check(started: Started) -> None:
    """Start a command from the new snapshot.

    :raises Error: when it does not do what it should.
    """
    code = -1
    for _ in range(_TRIALS):
        reader, writer = posix.pipe2(posix.O_CLOEXEC)
        pid = execute(started, "try", ["--version"], writer)
        posix.close(writer)
        said = read_all(reader)
        posix.close(reader)
        code = posix.waitstatus_to_exitcode(_wait(pid))
        if code == 0 and b"\nsnapshot: in use\n" in said:
            return
    raise Error(f"a command started from it ends with {code}")


def execute(
    started: Started, wish: str, words: Sequence[str], output: int = -1, *, traced: bool = False
) -> int:
    """Execute the launcher and return its pid; what it inherits from here is nothing.

    It ends with this process, whatever happens.
    """
    pid = posix.fork()
    if pid:
        return pid
    try:
        syscall(SYS["prctl"], PR_SET_PDEATHSIG, _signal.SIGKILL)
        null = posix.open("/dev/null", posix.O_RDWR)
        for number, source in enumerate((null, null if output < 0 else output, null)):
            posix.dup2(source, number)
        posix.closerange(3, 1 << 20)
        for signal in range(1, _signal.NSIG):
            if signal not in (_signal.SIGKILL, _signal.SIGSTOP):
                # Not through glibc, which keeps its hands off 32 and 33, its own.
                syscall(SYS["rt_sigaction"], signal, bytes(32), 0, 8)
        _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
        # With ADDR_NO_RANDOMIZE the next start would have its stack where this one has it.
        syscall(SYS["personality"], 0)
        posix.chdir("/")
        if traced:
            syscall(SYS["ptrace"], _TRACEME, 0, 0, 0)
        # What is looked up in libraries is looked up once, and not by each command anew.
        environment = {"PYRUNC_SNAPSHOT": wish, "LD_BIND_NOW": "1"}
        posix.execve(started.launcher, [started.launcher, *words], environment)
    finally:
        posix._exit(127)


def written_by_all(started: Started, segments: Sequence[Segment]) -> list[tuple[int, int]]:
    """Return start and size of the memory that every command writes to.

    Nothing where that cannot be seen: it only makes commands quicker.
    """
    places = [s for s in segments if s.protection & _WRITE and not s.wiped]
    pages: set[int] | None = None
    for words in commands(started.path):
        try:
            found = _written_by(started, words, places)
        except OSError:
            return []
        pages = found if pages is None else pages & found
    areas: list[tuple[int, int]] = []
    for page in sorted(pages or ()):
        start, size = areas[-1] if areas else (0, 0)
        if page * PAGE == start + size:
            areas[-1] = (start, size + PAGE)
        else:
            areas.append((page * PAGE, PAGE))
    return areas


def _written_by(started: Started, words: Sequence[str], places: Sequence[Segment]) -> set[int]:
    """Return the numbers of the pages that a command has written to when it ends."""
    pid = execute(started, "try", words, traced=True)
    found: set[int] = set()
    # It stops when it has been executed, and before its memory is let go of.
    while posix.WIFSTOPPED(status := _wait(pid)):
        if status == _AT_EXIT:
            found = _written(pid, places)
        syscall(SYS["ptrace"], _SETOPTIONS, pid, 0, _O_TRACEEXIT | _O_EXITKILL)
        syscall(SYS["ptrace"], _CONT, pid, 0, 0)
    return found if status == 0 else set()


def _written(pid: int, places: Sequence[Segment]) -> set[int]:
    found = set()
    pagemap = posix.open(f"/proc/{pid}/pagemap", posix.O_RDONLY | posix.O_CLOEXEC)
    try:
        for place in places:
            first = place.start // PAGE
            entries = posix.pread(pagemap, (place.end // PAGE - first) * 8, first * 8)
            for number, entry in enumerate(memoryview(entries).cast("Q"), first):
                if entry >> _KIND in _WRITTEN:
                    found.add(number)
    finally:
        posix.close(pagemap)
    return found


def _wait(pid: int) -> int:
    return posix.waitpid(pid, 0)[1]
