"""Files without a name, for where memory files (memfd_create(2)) are refused or not executable.

Such a file lies in a directory of the host's that everybody may write to, but nobody can open it:
it has no name there, and is gone with its last descriptor.
"""

from __future__ import annotations

import posix
import time
from errno import EACCES, ENOTSUP

from pyrunc.linux.refusals import EVERY_FLAG, refuses

_DIRECTORIES = ("/dev/shm", "/run", "/tmp", "/var/tmp")
_NEW = posix.O_RDWR | posix.O_EXCL | posix.O_CLOEXEC
#: For when the directories are not the host's any more.
_set_aside: list[tuple[int, posix.stat_result]] = []


def set_aside(count: int) -> None:
    """Make files for a process that will be in a container's root, if memory files are refused.

    :raises OSError: when there is no place for them.
    """
    if refuses("memfd_create", 0, EVERY_FLAG):
        made = [unnamed_file() for _ in range(count)]
        _set_aside.extend((descriptor, posix.fstat(descriptor)) for descriptor in made)


def rehearse() -> None:
    """Have all that makes such a file loaded: for a fork that will have closed the start-up image.

    :raises OSError: when there is no place for one.
    """
    if not _set_aside:
        posix.close(unnamed_file())


def unnamed_file(*, executable: bool = False) -> int:
    """Return a new, empty file (close-on-exec), of mode 0700.

    :param executable: whether programs can be executed where it lies.
    :raises OSError: naming what does not take it.
    """
    while _set_aside and not executable:
        descriptor, was = _set_aside.pop()
        try:
            now = posix.fstat(descriptor)
        except OSError:
            # This is a fork that has closed all it had.
            continue
        if (now.st_dev, now.st_ino) == (was.st_dev, was.st_ino):
            return descriptor
    refusal = OSError(EACCES, f"{', '.join(_DIRECTORIES)} are all mounted noexec")
    for directory in _DIRECTORIES:
        try:
            if not executable or not posix.statvfs(directory).f_flag & posix.ST_NOEXEC:
                return _in(directory)
        except OSError as error:
            refusal = OSError(error.errno, f"{directory}: {error.strerror}")
    raise refusal


def _in(directory: str) -> int:
    try:
        return posix.open(directory, posix.O_TMPFILE | _NEW, 0o700)
    except OSError as error:
        # Of overlayfs, for one, before Linux 6.1.
        if error.errno != ENOTSUP:
            raise
    path = f"{directory}/.pyrunc-{posix.getpid()}-{time.monotonic_ns()}"
    descriptor = posix.open(path, posix.O_CREAT | posix.O_NOFOLLOW | _NEW, 0o700)
    posix.unlink(path)
    return descriptor
