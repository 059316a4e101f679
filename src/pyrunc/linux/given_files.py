"""Files at paths that the caller has given, where others may have put links: logs, traces."""

from __future__ import annotations

import posix
from errno import EACCES, EEXIST, ELOOP, ENOENT

from pyrunc.linux import files

#: As many links as the kernel follows (path_resolution(7)).
_MAXIMUM_LINKS = 40


def open_or_make(path: str, flags: int, mode: int = 0o644, *, directory: int | None = None) -> int:
    """Open the file at a path of the caller's, or make it: where others may have put links.

    In a directory that others may write to, such as /tmp, a link of theirs would lead to any
    file of ours (open(2), O_CREAT, follows it). So a file is only made where nothing is, and
    a link is only followed when it is ours or root's. A fifo that nobody reads is not waited for.

    :raises OSError: EACCES for another user's link; ENXIO for a fifo without a reader.
    """
    return _open_or_make(
        path, flags | posix.O_NOCTTY | files.O_CLOEXEC, mode, directory, _MAXIMUM_LINKS
    )


def _open_or_make(path: str, flags: int, mode: int, directory: int | None, links: int) -> int:
    where, slash, name = path.rpartition("/")
    parent = posix.open(
        f"{where}/" if slash else ".",
        files.O_PATH | files.O_DIRECTORY | files.O_CLOEXEC,
        dir_fd=directory,
    )
    try:
        for _ in range(_MAXIMUM_LINKS):
            try:
                found = posix.open(name, flags | files.O_NOFOLLOW | posix.O_NONBLOCK, dir_fd=parent)
                posix.set_blocking(found, True)
                return found
            except OSError as error:
                if error.errno == ELOOP:
                    break
                if error.errno != ENOENT or not name:
                    raise
            try:
                exclusive = flags | posix.O_CREAT | posix.O_EXCL | files.O_NOFOLLOW
                return posix.open(name, exclusive, mode, dir_fd=parent)
            except OSError as error:
                if error.errno != EEXIST:
                    raise
        return _follow(name, flags, mode, parent, links)
    finally:
        posix.close(parent)


def _follow(name: str, flags: int, mode: int, parent: int, links: int) -> int:
    """Open what the link ``name`` leads to; it is looked at once, and never by name again."""
    if not links:
        raise OSError(ELOOP, posix.strerror(ELOOP))
    link = posix.open(name, files.O_PATH | files.O_NOFOLLOW | files.O_CLOEXEC, dir_fd=parent)
    try:
        if files.filesystem_magic(link) == files.PROC_SUPER_MAGIC:
            # /proc/self/fd/1, where /dev/stdout leads: no name to follow, and nobody's to plant.
            return posix.open(name, flags, dir_fd=parent)
        if posix.stat(link).st_uid not in (0, posix.geteuid()):
            raise OSError(EACCES, "it is a symbolic link of another user")
        target = posix.readlink("", dir_fd=link)
    finally:
        posix.close(link)
    return _open_or_make(target, flags, mode, parent, links - 1)
