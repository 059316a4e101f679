"""Making a snapshot: a fresh, empty process brings itself to where commands begin, and is copied.

Three processes, for a moment, each killed by the kernel when the one before it ends:

    the command ──► the maker            executed anew, without environment, on /dev/null
                     ├──► the frozen one  a fork of it, which is copied and killed
                     └──► the trial       a command started from the copy
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import fcntl
import posix
import time
from errno import EAGAIN, EDQUOT, EFBIG, EMFILE, ENFILE, ENOMEM, ENOSPC

from pyrunc.errors import Error, reason
from pyrunc.linux.files import O_DIRECTORY, read_all, read_file
from pyrunc.linux.libc import syscall
from pyrunc.linux.numbers import SYS
from pyrunc.linux.process_stat import start_time
from pyrunc.linux.processes import PR_SET_PDEATHSIG

from . import footprint
from .layout import PROCESS_SIZE, Frozen, Segment, identity, pack, remove, write_new
from .memory import Memory
from .rehearsal import forget
from .started import FAILED, Started
from .trial import check, execute

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

#: The maker gives up after so many seconds; it takes 0.1.
_PATIENCE = 10
#: A snapshot that does not fit is not made again so soon, in seconds, nor is one that could not be
#: made for now: what spoils it may do so each time.
_REST = 60
#: A file that has been changed so shortly before, in ns, may have been read before the change.
_FRESH = 10**8
#: Lack of what may be there later.
_PASSING = (EAGAIN, EDQUOT, EFBIG, EMFILE, ENFILE, ENOMEM, ENOSPC)
_FEWEST_FILES = 64
#: So many are kept: each installation of pyrunc that a user calls has its own.
_KEPT = 8


class _TryLater(Error):
    """It cannot be made now; that says nothing about later."""


def by_the_way(started: Started) -> None:
    """Make a snapshot, if none is there, for the commands to come; say nothing if that fails."""
    if _is_recent(started.path) or _is_recent(_later(started)) or _is_limited():
        return
    try:
        if not _is_busy(started):
            make(started)
    except (Error, OSError):
        return


def _is_limited() -> bool:
    """Tell whether limits of this process could make it fail, which others do not have."""
    import resource

    if 0 <= resource.getrlimit(resource.RLIMIT_NOFILE)[0] < _FEWEST_FILES:
        return True
    kinds = (resource.RLIMIT_AS, resource.RLIMIT_DATA, resource.RLIMIT_FSIZE, resource.RLIMIT_CPU)
    return any(resource.getrlimit(kind)[0] != resource.RLIM_INFINITY for kind in kinds)


def _is_recent(path: str) -> bool:
    """Tell whether a file was made within the time of rest."""
    try:
        return 0 <= time.time() - posix.stat(path).st_mtime < _REST
    except OSError:
        return False


def _later(started: Started) -> str:
    """Return the path of the file that stands for "not now"."""
    return f"{started.path}.later"


def _is_busy(started: Started) -> bool:
    """Tell whether one is being made."""
    directory = _open_directory(started)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        posix.close(directory)
    return False


def _open_directory(started: Started) -> int:
    path = started.path.rpartition("/")[0]
    return posix.open(path, posix.O_RDONLY | O_DIRECTORY | posix.O_CLOEXEC)


def make(started: Started) -> None:
    """Make a snapshot for the commands to come, in a process of its own, and wait for it.

    :raises Error: when that fails; a file beside the snapshot keeps it from being tried again.
    """
    remove(started.marker)
    pid = execute(started, "make", ["warm-up"])
    code = posix.waitstatus_to_exitcode(posix.waitpid(pid, 0)[1])
    if code == 0:
        return
    if code < 0:
        _fail(started, f"the process that made it was ended by signal {-code}")
    try:
        why = read_file(started.marker).decode("utf-8", "replace").strip()
    except OSError:
        raise _TryLater("cannot make a snapshot now") from None
    raise Error(f"cannot make a snapshot: {why}")


def work(
    started: Started, invoke: Callable[[list[str]], int], go_on: Callable[[Started], NoReturn]
) -> None:
    """Be the maker: return when the snapshot is in its place, or has been made meanwhile.

    ``invoke`` runs a command line. ``go_on`` is called where the snapshot has been put back, to
    run the command that was typed then, and to end. It is no value that is returned to a caller:
    each function that goes on, to leave it only, costs the command two or three copied pages.

    :raises Error: when it cannot be made.
    """
    # Python may have set the first one itself, and we have set the other.
    if posix.environ.keys() - {b"LC_CTYPE", b"LD_BIND_NOW"}:
        raise Error("a snapshot is made without environment: call `pyrunc warm-up` as it is")
    begun = _start_of_this_process()
    started.stamp = time.time_ns()
    _signal.signal(_signal.SIGALRM, _give_up)
    _signal.alarm(_PATIENCE)
    try:
        directory = _open_directory(started)
        fcntl.flock(directory, fcntl.LOCK_EX)
        if begun < _time_of(started.path) < time.time_ns():
            return
        process, segments, files = _take(started, invoke, go_on, begun)
        new = f"{started.path}.new"
        write_new(new, pack(started.key, process, segments, files, started.stamp))
        check(started)
        posix.rename(new, started.path)
        remove(started.marker)
        remove(_later(started))
        _prune(directory)
    except _TryLater as error:
        _put_off(started, str(error))
        raise
    except OSError as error:
        if error.errno in _PASSING:
            _put_off(started, reason(error))
        else:
            _fail(started, reason(error))
        raise Error(reason(error)) from None
    except Exception as error:
        _fail(started, str(error))
        raise Error(str(error)) from None
    finally:
        remove(f"{started.path}.new")
        forget(started.path)


def _start_of_this_process() -> int:
    """Return when it was executed, in ns since the epoch."""
    # Field 22 of /proc/PID/stat counts in USER_HZ, 100 a second (proc_pid_stat(5)).
    age = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - start_time(posix.getpid()) * 10**7
    return time.time_ns() - age


def _time_of(path: str) -> int:
    """Return when a file was written, in ns since the epoch; 0 if it is not there."""
    try:
        return posix.stat(path).st_mtime_ns
    except FileNotFoundError:
        return 0


def _take(
    started: Started,
    invoke: Callable[[list[str]], int],
    go_on: Callable[[Started], NoReturn],
    begun: int,
) -> tuple[bytes, list[Segment], dict[str, tuple[int, ...]]]:
    """Return what a snapshot is made of: ``struct process``, the memory, the files behind it.

    ``begun`` is when this process began to read the files, in ns.
    """
    forget(started.path)
    channel, end = posix.pipe()
    pid = posix.fork()
    if pid == 0:
        _be_frozen(end, started, invoke, go_on)
    posix.close(end)
    try:
        paths, told = _hear(channel)
        memory = Memory(pid, Frozen(told))
    finally:
        posix.kill(pid, _signal.SIGKILL)
        posix.waitpid(pid, 0)
        posix.close(channel)
    # It names the interpreter.
    script = f"{started.launcher.rpartition('/')[0]}/pyrunc-python"
    files = {path: identity(path) for path in (*paths, script)}
    for segment in memory.segments:
        if segment.source and segment.source not in files:
            files[segment.source] = identity(segment.source)
    now = time.time_ns()
    for path, found in files.items():
        changed = found[-2] * 10**9 + found[-1]
        if changed > now:
            raise Error(f"{path} was changed in the future")
        if changed > begun - _FRESH:
            raise _TryLater(f"{path} is being changed")
    return Frozen(told).with_areas(memory.vdso, memory.vvar), memory.segments, files


def _be_frozen(
    channel: int,
    started: Started,
    invoke: Callable[[list[str]], int],
    go_on: Callable[[Started], NoReturn],
) -> NoReturn:
    """The frozen process: stop, and go on in the snapshot alone."""
    from .freeze import stop

    _signal.alarm(0)
    _signal.signal(_signal.SIGALRM, _signal.SIG_DFL)
    syscall(SYS["prctl"], PR_SET_PDEATHSIG, _signal.SIGKILL)
    try:
        stop(channel, started, invoke)
    except BaseException as error:
        posix.write(channel, b"\xff\xff\xff\xff" + str(error).encode("utf-8", "replace"))
        posix._exit(1)
    go_on(started)


def _hear(channel: int) -> tuple[list[str], bytes]:
    """Return the paths of the files that the frozen process has read, and its ``struct process``.

    :raises Error: with its reason when it could not stop.
    """
    size = int.from_bytes(_read(channel, 4), "little")
    if size == 0xFFFFFFFF:
        raise Error(read_all(channel).decode("utf-8", "replace"))
    names = _read(channel, size).decode("utf-8", "surrogateescape")
    told = _read(channel, PROCESS_SIZE, "cannot stop: ")
    return names.split("\0"), told


def _read(channel: int, size: int, prefix: str = "") -> bytes:
    """Read ``size`` bytes from the frozen process."""
    got = b""
    while len(got) < size:
        block = posix.read(channel, size - len(got))
        if not block:
            raise Error(got[4:].decode("utf-8", "replace") or f"{prefix}it has ended")
        got += block
    return got


def _give_up(signal: int, frame: object) -> None:
    raise Error(f"it took more than {_PATIENCE} seconds")


def _put_off(started: Started, why: str) -> None:
    """Keep others from trying for a while."""
    write_new(_later(started), [f"{why}\n".encode("utf-8", "replace")])


def _fail(started: Started, why: str) -> None:
    """Leave the marker that keeps others from trying."""
    write_new(started.marker, [f"{why}\n".encode("utf-8", "replace")])
    started.outcome = FAILED


def _prune(directory: int) -> None:
    """Remove the oldest: of installations that are gone, as a rule; and what said "not now"."""
    found = []
    for name in posix.listdir(directory):
        path = f"/proc/self/fd/{directory}/{name}"
        if name.endswith(".later") and not _is_recent(path):
            remove(path)
        elif "." not in name:
            found.append((_time_of(path), path))
    for _, path in sorted(found)[:-_KEPT]:
        remove(path)
        footprint.forget(path)
