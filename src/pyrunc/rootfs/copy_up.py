"""``tmpcopyup``: fill a tmpfs with what the directory below it holds.

Only loaded when an engine asks for it. Runs in the builder, before any process
of the container exists, but the tree that it copies is hostile all the same, and may
be a volume that others change meanwhile: each file is opened with O_PATH relative to its
parent, looked at, and only a regular file is then opened for reading.
"""

from __future__ import annotations

import posix

from pyrunc.errors import Error
from pyrunc.linux import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

#: How deep directories may be nested: each level holds four descriptors open.
_DEEPEST = 100


def copy_up(source: int, target: int, options: Sequence[str]) -> None:
    """Copy the contents of directory ``source`` (a descriptor) into the new tmpfs ``target``.

    Its root gets the owner, group, mode and times of ``source``, but for what ``options``, those
    of the tmpfs, say of it themselves.

    :raises Error: when directories are nested too deeply.
    """
    _copy_contents(source, target, _DEEPEST)
    said = {option.partition("=")[0] for option in options}
    status = posix.stat(source)
    uid = -1 if "uid" in said else status.st_uid
    gid = -1 if "gid" in said else status.st_gid
    mode = posix.stat(target).st_mode if "mode" in said else status.st_mode
    _give_metadata(target, uid, gid, mode, status)


def _copy_contents(source: int, target: int, levels: int) -> None:
    if not levels:
        raise Error(f"more than {_DEEPEST} directories inside each other are not copied up")
    reading = posix.open(".", posix.O_RDONLY | files.O_DIRECTORY | files.O_CLOEXEC, dir_fd=source)
    try:
        for name in posix.listdir(reading):
            entry = _look_at(reading, name)
            try:
                _copy_entry(entry, target, name, levels)
            finally:
                posix.close(entry)
    finally:
        posix.close(reading)


def _look_at(directory: int, name: str) -> int:
    return posix.open(name, files.O_PATH | files.O_NOFOLLOW | files.O_CLOEXEC, dir_fd=directory)


def _copy_entry(entry: int, target: int, name: str, levels: int) -> None:
    status = posix.stat(entry)
    kind = status.st_mode & files.S_IFMT
    if kind == files.S_IFLNK:
        # The empty name stands for the descriptor's own link (readlinkat(2)).
        posix.symlink(posix.readlink("", dir_fd=entry), name, dir_fd=target)
        posix.chown(name, status.st_uid, status.st_gid, dir_fd=target, follow_symlinks=False)
    elif kind == files.S_IFDIR:
        posix.mkdir(name, 0o700, dir_fd=target)
        inner = _look_at(target, name)
        try:
            _copy_contents(entry, inner, levels - 1)
            _copy_metadata(status, inner)
        finally:
            posix.close(inner)
    elif kind == files.S_IFREG:
        _copy_file(entry, target, name, status)
    else:
        posix.mknod(name, status.st_mode, status.st_rdev, dir_fd=target)
        node = _look_at(target, name)
        try:
            _copy_metadata(status, node)
        finally:
            posix.close(node)


def _copy_file(entry: int, target: int, name: str, status: posix.stat_result) -> None:
    reading = files.reopen(entry, posix.O_RDONLY | posix.O_NONBLOCK)
    try:
        create = posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL
        writing = posix.open(
            name, create | files.O_NOFOLLOW | files.O_CLOEXEC, 0o600, dir_fd=target
        )
        try:
            while posix.sendfile(writing, reading, None, 1 << 20):
                pass
            _copy_metadata(status, writing)
        finally:
            posix.close(writing)
    finally:
        posix.close(reading)


def _copy_metadata(status: posix.stat_result, target: int) -> None:
    _give_metadata(target, status.st_uid, status.st_gid, status.st_mode, status)


def _give_metadata(target: int, uid: int, gid: int, mode: int, times: posix.stat_result) -> None:
    """Give ``target`` owner, mode and times; the mode last, as chown clears set-id bits."""
    here = f"/proc/self/fd/{target}"
    posix.chown(here, uid, gid)
    posix.chmod(here, mode & 0o7777)
    posix.utime(here, ns=(times.st_atime_ns, times.st_mtime_ns))
