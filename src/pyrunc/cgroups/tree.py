"""A cgroup and all below it: what a container with a writable cgroup has made of it.

It may be deeper than a path is long and than Python recurses, and change meanwhile. So it is
walked by descriptor, two of which are open at a time, and only for so long.
"""

from __future__ import annotations

import posix
import time
from errno import EBUSY, EINVAL, EMFILE, ENFILE, ENODEV, ENOENT, EOPNOTSUPP

from pyrunc.cgroups import cgroupfs
from pyrunc.errors import Error, reason
from pyrunc.linux import files
from pyrunc.linux import processes as p

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_DIRECTORY = posix.O_RDONLY | files.O_DIRECTORY | files.O_NOFOLLOW | files.O_CLOEXEC
#: The second is for one that was removed (by systemd, as it empties) after the opening.
_GONE = (ENOENT, ENODEV)
#: How many cgroups are looked at, and for how many seconds, in one walk.
_MOST = 1_000_000
_LONGEST_WALK = 30.0
#: How long a removal waits for what was killed to be gone, in seconds.
_LONGEST_REMOVAL = 2.0
#: How many pidfds are open at a time.
_AT_ONCE = 8


def _walk(top: int, path: str) -> Iterator[tuple[int, str]]:
    """Go through the cgroup behind the descriptor ``top`` and all below; parents come first.

    Yields ``(directory, "")`` on the arrival in each, and ``(directory, name)`` back in it, when
    all below its ``name`` has been seen. Closes ``top``.

    :raises Error: when there is no end.
    """
    here = top
    names: list[str] = []
    waiting: list[list[str]] = []
    left = _MOST
    deadline = time.monotonic() + _LONGEST_WALK
    try:
        yield here, ""
        waiting.append(_children(here))
        while True:
            left -= 1
            if left < len(waiting[-1]) or time.monotonic() > deadline:
                raise Error(f"there is no end of cgroups below {path}; the next try goes on")
            if waiting[-1]:
                name = waiting[-1].pop()
                try:
                    there = posix.open(name, _DIRECTORY, dir_fd=here)
                except OSError as error:
                    if error.errno in _GONE:
                        continue
                    raise
                posix.close(here)
                here = there
                names.append(name)
                yield here, ""
                waiting.append(_children(here))
            elif names:
                waiting.pop()
                # A cgroup cannot be moved below another parent.
                there = posix.open("..", _DIRECTORY, dir_fd=here)
                posix.close(here)
                here = there
                yield here, names.pop()
            else:
                return
    finally:
        posix.close(here)


def _children(directory: int) -> list[str]:
    """Return the names of the cgroups directly below."""
    try:
        with posix.scandir(directory) as entries:
            return [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError as error:
        if error.errno in _GONE:
            return []
        raise


def processes_below(path: str) -> list[int]:
    """Return the pids in the cgroup and in all below it; none when it is gone.

    :raises Error: when there is no end of them.
    """
    try:
        top = posix.open(path, _DIRECTORY)
    except OSError as error:
        if error.errno in _GONE:
            return []
        raise
    found: list[int] = []
    for directory, name in _walk(top, path):
        if name:
            continue
        try:
            found += map(int, files.read_file("cgroup.procs", directory).split())
        except OSError as error:
            # The last is for v2's threaded ones, whose processes the one above lists.
            if error.errno not in (*_GONE, EOPNOTSUPP):
                raise
    return found


def refuse_processes(path: str) -> None:
    """:raises CgroupTaken: when processes are in the cgroup or below, or it is a cgroup's file."""
    try:
        taken = bool(processes_below(path))
    except NotADirectoryError:
        raise cgroupfs.CgroupTaken(
            f"cannot make cgroup {path}: the kernel has a file of this name; "
            "choose another linux.cgroupsPath"
        ) from None
    if taken:
        raise cgroupfs.CgroupTaken(f"container's cgroup is not empty: {path} has processes in it")


def signal_below(path: str, signal: int) -> None:
    """Send ``signal`` to every process in the cgroup and below it.

    By the time it is used, a number may be another process's: it is used through a pidfd, once
    it is known to be still in there after that was opened.
    """
    waiting = processes_below(path)
    while waiting:
        opened: dict[int, int] = {}
        try:
            while waiting and len(opened) < _AT_ONCE:
                try:
                    opened[waiting[-1]] = p.pidfd_open(waiting[-1])
                except ProcessLookupError:
                    pass
                except OSError as error:
                    # EINVAL: a thread, whose process is in another cgroup.
                    if error.errno in (EMFILE, ENFILE) and opened:
                        break
                    if error.errno != EINVAL:
                        raise
                waiting.pop()
            still = set(processes_below(path)) if opened else ()
            for pid, pidfd in opened.items():
                if pid in still:
                    p.pidfd_send_signal(pidfd, signal)
        finally:
            for pidfd in opened.values():
                posix.close(pidfd)


def thaw_below(path: str) -> None:
    """Thaw a v1 freezer's cgroup and all below it, which may have been frozen on their own.

    Until then its processes take no signal, not even to die.
    """
    try:
        top = cgroupfs.open_directory(path)
    except OSError as error:
        if error.errno in _GONE:
            return
        raise
    for directory, name in _walk(top, path):
        if name:
            continue
        try:
            files.write_file("freezer.state", b"THAWED", directory)
        except OSError as error:
            if error.errno not in _GONE:
                raise


def remove_leaf(path: str) -> bool:
    """Remove a cgroup without processes and without any below it; tell whether it is gone."""
    try:
        posix.rmdir(path)
    except OSError as error:
        return error.errno in _GONE
    return True


def remove_once_empty(path: str, may_ignore: Callable[[OSError], bool]) -> None:
    """Remove a cgroup and all below it; what may be ignored leaves it there.

    :raises Error: when it stays busy.
    """
    waited, pause = 0.0, 0.001
    while True:
        try:
            remove_tree(path)
            return
        except OSError as error:
            if may_ignore(error):
                return
            # A killed process stays in its cgroup until it is reaped.
            if error.errno != EBUSY or waited > _LONGEST_REMOVAL:
                raise Error(f"cannot remove cgroup {path}: {reason(error)}") from None
        p.poll((), pause)
        waited += pause
        pause = min(pause * 2, 0.1)


def remove_tree(path: str) -> None:
    """Remove a cgroup and all below it; what is gone already is no error.

    :raises OSError: EBUSY while processes are in it.
    :raises Error: when there is no end of them, or the path is not in a cgroup hierarchy.
    """
    try:
        posix.rmdir(path)
        return
    except OSError as error:
        if error.errno in _GONE:
            return
        first = error
    try:
        top = cgroupfs.open_directory(path)
    except OSError:
        raise first from None
    below = False
    for directory, name in _walk(top, path):
        if name:
            below = True
            try:
                posix.rmdir(name, dir_fd=directory)
            except OSError as error:
                if error.errno not in _GONE:
                    raise
    if not below:
        raise first
    posix.rmdir(path)
