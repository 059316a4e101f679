"""What the kernel tells of a process in one line: /proc/PID/stat (proc_pid_stat(5))."""

from __future__ import annotations

import posix

from pyrunc.linux.libc import AT_FDCWD, fetch

#: "Forked but didn't exec" (linux/sched.h), one of the flags in proc_pid_stat(5).
_PF_EXITING = 0x4
_PF_FORKNOEXEC = 0x40


def start_time(pid: int) -> int:
    """Return when the process started, in clock ticks since boot (proc_pid_stat(5), field 22).

    Together with the number it names a process for ever. 0 when there is none.
    """
    fields = stat_fields(pid)
    return int(fields[19]) if fields else 0


def is_running(pid: int, started: int) -> bool:
    """Tell whether the process is still the one that started then, and not a zombie."""
    return bool(state_of(pid, started))


def state_of(pid: int, started: int) -> bytes:
    """Return the letter of the process's state if it is still the one that started then.

    Nothing when it is gone, or a zombie.
    """
    if pid <= 0:
        return b""
    # No further than the 22nd field, of 52: all commands ask.
    fields = stat_fields(pid, 20)
    if not fields or fields[0] in (b"Z", b"X") or int(fields[19]) != started:
        return b""
    return fields[0]


def has_executed(pid: int) -> bool:
    """Tell whether the process, a zombie or not, has executed a program since its birth."""
    fields = stat_fields(pid)
    return bool(fields) and not int(fields[6]) & _PF_FORKNOEXEC


def is_ending(pid: int) -> bool:
    """Tell whether the process is about to end: an init waits for all others of its namespace."""
    fields = stat_fields(pid)
    return bool(fields) and bool(int(fields[6]) & _PF_EXITING)


def has_ended(pid: int) -> bool:
    """Tell whether the process is a zombie, or not there at all."""
    fields = stat_fields(pid)
    return not fields or fields[0] in (b"Z", b"X")


def name_of(pid: int) -> bytes:
    """Return the process's name (PR_SET_NAME), which is its own to choose; empty without one."""
    line = _stat_line(pid)
    return line[line.find(b"(") + 1 : line.rfind(b")")]


def show_as(words: list[str]) -> None:
    """Have ps(1), top(1) and pgrep(1) show this process as the command ``words``.

    The name goes into /proc/self/comm, the words into the memory where the arguments are. With
    something else than 0 as the last byte there, the kernel shows one string, which ends at the
    first 0, as for setproctitle(3). Where /proc is not to be had nothing changes.
    """
    try:
        _write_at("/proc/self/comm", None, words[0].encode())
        fields = stat_fields(posix.getpid())
        # arg_start and arg_end, fields 48 and 49 of proc_pid_stat(5).
        start, end = int(fields[45]), int(fields[46])
        shown = " ".join(words).encode("utf-8", "surrogateescape")
        if start and len(shown) + 2 <= end - start:
            _write_at("/proc/self/mem", start, shown + b"\0")
            _write_at("/proc/self/mem", end - 1, b".")
    except (OSError, IndexError):
        return


def _write_at(path: str, offset: int | None, content: bytes) -> None:
    descriptor = posix.open(path, posix.O_WRONLY | posix.O_CLOEXEC)
    try:
        if offset is not None:
            posix.lseek(descriptor, offset, 0)
        posix.write(descriptor, content)
    finally:
        posix.close(descriptor)


def _stat_line(pid: int) -> bytes:
    line = fetch(AT_FDCWD, b"/proc/%d/stat" % pid, posix.O_RDONLY | posix.O_CLOEXEC, 0, 4096)
    return line if isinstance(line, bytes) else b""


def stat_fields(pid: int, splits: int = -1) -> list[bytes]:
    """Return the fields of /proc/PID/stat from the state on (the third), or nothing.

    :param splits: how many of them are wanted by themselves; the rest is the last one.
    """
    line = _stat_line(pid)
    # The second field, the name, may hold spaces and parentheses.
    return line[line.rfind(b")") + 2 :].split(None, splits) if line else []
