"""``tmpcopyup``: fill a tmpfs with what the directory below it holds.

Only loaded when an engine asks for it. Runs in the builder, before any process
of the container exists, but the tree that it copies is hostile all the same:
everything is opened relative to its parent and nothing is followed.
"""

from __future__ import annotations

import posix

from pyrunc.linux import files


def copy_tree(source: int, target: int) -> None:
    """Copy the contents of directory ``source`` (a descriptor) into directory ``target``."""
    reading = posix.open(".", posix.O_RDONLY | files.O_DIRECTORY | files.O_CLOEXEC, dir_fd=source)
    try:
        for name in posix.listdir(reading):
            _copy_entry(reading, target, name)
        _copy_metadata(posix.stat(reading), target)
    finally:
        posix.close(reading)


def _copy_entry(source: int, target: int, name: str) -> None:
    status = posix.stat(name, dir_fd=source, follow_symlinks=False)
    kind = status.st_mode & files.S_IFMT
    if kind == files.S_IFLNK:
        posix.symlink(posix.readlink(name, dir_fd=source), name, dir_fd=target)
        posix.chown(name, status.st_uid, status.st_gid, dir_fd=target, follow_symlinks=False)
    elif kind == files.S_IFDIR:
        posix.mkdir(name, 0o700, dir_fd=target)
        flags = files.O_DIRECTORY | files.O_NOFOLLOW | files.O_CLOEXEC
        inner_source = posix.open(name, posix.O_RDONLY | flags, dir_fd=source)
        inner_target = posix.open(name, posix.O_RDONLY | flags, dir_fd=target)
        try:
            copy_tree(inner_source, inner_target)
        finally:
            posix.close(inner_source)
            posix.close(inner_target)
    elif kind == files.S_IFREG:
        _copy_file(source, target, name, status)
    else:
        posix.mknod(name, status.st_mode, status.st_rdev, dir_fd=target)
        posix.chown(name, status.st_uid, status.st_gid, dir_fd=target)
        posix.chmod(name, status.st_mode & 0o7777, dir_fd=target)


def _copy_file(source: int, target: int, name: str, status: posix.stat_result) -> None:
    flags = files.O_NOFOLLOW | files.O_CLOEXEC
    reading = posix.open(name, posix.O_RDONLY | flags, dir_fd=source)
    create = posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL
    writing = posix.open(name, create | flags, 0o600, dir_fd=target)
    try:
        while posix.sendfile(writing, reading, None, 1 << 20):
            pass
        _copy_metadata(status, writing)
    finally:
        posix.close(reading)
        posix.close(writing)


def _copy_metadata(status: posix.stat_result, target: int) -> None:
    """Give ``target`` the owner, mode and times; the mode last, as chown clears set-id bits."""
    here = f"/proc/self/fd/{target}"
    posix.chown(here, status.st_uid, status.st_gid)
    posix.chmod(here, status.st_mode & 0o7777)
    posix.utime(here, ns=(status.st_atime_ns, status.st_mtime_ns))
