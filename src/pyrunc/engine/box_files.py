"""Files of a sandbox, by descriptors below its root: no name is resolved but by the kernel, inside.

Nothing in the sandbox is executed for this, and nothing in it can lead elsewhere: links are
followed as a process inside would, magic links of /proc not at all, and only regular files and
directories are opened, of file systems that are not the kernel's own.

What is made is given to its owner by who may do that: root, also an engine's of its own namespace.
"""

from __future__ import annotations

import os
import stat
from errno import EACCES
from typing import TYPE_CHECKING

from pyrunc.engine.failures import FileFailure
from pyrunc.linux import files

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: procfs, sysfs and the cgroup file systems: to write there with our rights is not the sandbox's.
_KERNEL_S_OWN = frozenset(
    (
        files.PROC_SUPER_MAGIC,
        files.SYSFS_MAGIC,
        files.CGROUP_SUPER_MAGIC,
        files.CGROUP2_SUPER_MAGIC,
        files.DEVPTS_SUPER_MAGIC,
    )
)
_AT_ONCE = 1 << 20


def _failure(error: OSError, path: str, doing: str) -> FileFailure:
    """Return what to raise for a file operation that the kernel refused."""
    why = (error.strerror or str(error)).lower()
    return FileFailure(f"cannot {doing} {path}: {why}", path, error.errno or 0, doing)


def open_to_read(root: int, path: str) -> int:
    """Open a regular file.

    :raises FileFailure: with the reason.
    """
    try:
        return _open_regular(root, path)
    except OSError as error:
        raise _failure(error, path, "read") from None


def read_file(root: int, path: str, limit: int | None) -> bytes:
    """Return a regular file's content, at most ``limit`` bytes of it.

    :raises FileFailure: with the reason.
    """
    descriptor = open_to_read(root, path)
    try:
        return content(descriptor, path, limit)
    finally:
        os.close(descriptor)


def content(descriptor: int, path: str, limit: int | None) -> bytes:
    """Return what is in an open file, at most ``limit`` bytes of it.

    :raises FileFailure: with the reason.
    """
    try:
        return files.read_all(descriptor, 1 << 62 if limit is None else limit)
    except OSError as error:
        raise _failure(error, path, "read") from None


def _open_regular(root: int, path: str) -> int:
    found = files.open_in_root(root, path)
    try:
        _refuse_other(found, path, stat.S_ISREG)
        # The same file, whatever the name stands for by now.
        return os.open(f"/proc/self/fd/{found}", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(found)


def _refuse_other(descriptor: int, path: str, is_wanted: Callable[[int], bool]) -> None:
    """Refuse what is no regular file (or directory), or of a file system of the kernel's own.

    :raises FileFailure: saying what it is.
    """
    mode = os.stat(descriptor).st_mode
    if not is_wanted(mode):
        raise FileFailure(f"cannot use {path}: it is {_kind(mode)}", path, EACCES, "use")
    if files.filesystem_magic(descriptor) in _KERNEL_S_OWN:
        text = f"cannot use {path}: it is in a file system of the kernel's own"
        raise FileFailure(text, path, EACCES, "use")


def _kind(mode: int) -> str:
    for is_kind, name in (
        (stat.S_ISREG, "a file"),
        (stat.S_ISDIR, "a directory"),
        (stat.S_ISLNK, "a link"),
        (stat.S_ISFIFO, "a fifo"),
        (stat.S_ISSOCK, "a socket"),
    ):
        if is_kind(mode):
            return name
    return "a device"


def open_to_write(root: int, path: str, mode: int, owner: tuple[int, int]) -> int:
    """Open a regular file for another content, made when missing, with directories above it.

    :param owner: uid and gid, as this process's user namespace has them, of what is made.
    :raises FileFailure: with the reason.
    """
    parent_path, _, name = path.rstrip("/").rpartition("/")
    try:
        parent = make_directories(root, parent_path or "/", owner)
        try:
            return _open_in(parent, root, path, name, mode, owner)
        finally:
            os.close(parent)
    except OSError as error:
        raise _failure(error, path, "write") from None


def _open_in(
    parent: int, root: int, path: str, name: str, mode: int, owner: tuple[int, int]
) -> int:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(name, flags, 0o600, dir_fd=parent)
    except FileExistsError:
        found = files.open_in_root(root, path)
        try:
            _refuse_other(found, path, stat.S_ISREG)
            again = os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC
            return os.open(f"/proc/self/fd/{found}", again)
        finally:
            os.close(found)
    try:
        _give(descriptor, owner)
        os.fchmod(descriptor, mode)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def write_file(root: int, path: str, content: bytes, mode: int, owner: tuple[int, int]) -> None:
    """Make a regular file, or replace its content; missing directories are made.

    :raises FileFailure: with the reason.
    """
    descriptor = open_to_write(root, path, mode, owner)
    try:
        write(descriptor, path, content)
    finally:
        os.close(descriptor)


def write(descriptor: int, path: str, content: bytes) -> None:
    """Write to an open file.

    :raises FileFailure: with the reason.
    """
    try:
        files.write_all(descriptor, content)
    except OSError as error:
        raise _failure(error, path, "write") from None


def make_directories(root: int, path: str, owner: tuple[int, int]) -> int:
    """Open (O_PATH) a directory below the root, made with those above it when missing."""
    try:
        found = files.open_in_root(root, path, os.O_PATH | os.O_DIRECTORY)
    except FileNotFoundError:
        parent_path, _, name = path.rstrip("/").rpartition("/")
        parent = make_directories(root, parent_path or "/", owner)
        try:
            os.mkdir(name, 0o755, dir_fd=parent)
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            found = os.open(name, flags, dir_fd=parent)
            _give(found, owner)
        finally:
            os.close(parent)
    try:
        _refuse_other(found, path, stat.S_ISDIR)
    except BaseException:
        os.close(found)
        raise
    return found


def _give(descriptor: int, owner: tuple[int, int]) -> None:
    if os.geteuid() == 0:
        os.fchown(descriptor, *owner)


def put(root: int, source: str, path: str, owner: tuple[int, int]) -> None:
    """Copy a file or a tree of the host into the sandbox: files, directories and links.

    A link is made as it is, and not followed. What else there is (sockets, devices) is left out.

    :raises FileFailure: with the reason.
    """
    try:
        status = os.lstat(source)
        if stat.S_ISREG(status.st_mode):
            with open(source, "rb") as file:
                made = open_to_write(root, path, status.st_mode & 0o777, owner)
                try:
                    for piece in _pieces(file.fileno()):
                        files.write_all(made, piece)
                finally:
                    os.close(made)
        elif stat.S_ISDIR(status.st_mode):
            directory = make_directories(root, path, owner)
            os.close(directory)
            for name in sorted(os.listdir(source)):
                put(root, f"{source}/{name}", f"{path.rstrip('/')}/{name}", owner)
        elif stat.S_ISLNK(status.st_mode):
            parent = make_directories(root, path.rpartition("/")[0] or "/", owner)
            try:
                os.symlink(os.readlink(source), path.rpartition("/")[2], dir_fd=parent)
            finally:
                os.close(parent)
    except OSError as error:
        raise _failure(error, path, "put") from None


def get(root: int, path: str, target: str) -> None:
    """Copy a file or a tree out of the sandbox: files, directories and links, none followed.

    What is made belongs to the caller; set-id bits are left out. Links that lead out of the tree
    are copied as they are: whoever follows them on the host is outside.

    :raises FileFailure: with the reason.
    """
    try:
        found = files.open_in_root(root, path)
        try:
            mode = os.stat(found).st_mode
            if stat.S_ISDIR(mode):
                _refuse_other(found, path, stat.S_ISDIR)
                directory = os.open(
                    f"/proc/self/fd/{found}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
                )
                try:
                    _get_tree(directory, target)
                finally:
                    os.close(directory)
            else:
                _refuse_other(found, path, stat.S_ISREG)
                _get_file(found, target)
        finally:
            os.close(found)
    except OSError as error:
        raise _failure(error, path, "get") from None


def _get_tree(directory: int, target: str) -> None:
    os.makedirs(target, exist_ok=True)
    for name in sorted(os.listdir(directory)):
        flags = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
        found = os.open(name, flags, dir_fd=directory)
        try:
            mode = os.stat(found).st_mode
            if stat.S_ISLNK(mode):
                os.symlink(os.readlink("", dir_fd=found), f"{target}/{name}")
            elif stat.S_ISREG(mode):
                _get_file(found, f"{target}/{name}")
            elif stat.S_ISDIR(mode) and files.filesystem_magic(found) not in _KERNEL_S_OWN:
                below = os.open(
                    f"/proc/self/fd/{found}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
                )
                try:
                    _get_tree(below, f"{target}/{name}")
                finally:
                    os.close(below)
        finally:
            os.close(found)


def _get_file(found: int, target: str) -> None:
    if files.filesystem_magic(found) in _KERNEL_S_OWN:
        return
    mode = os.stat(found).st_mode & 0o777
    with (
        open(os.open(f"/proc/self/fd/{found}", os.O_RDONLY | os.O_CLOEXEC), "rb") as source,
        open(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as copy,
    ):
        for piece in _pieces(source.fileno()):
            copy.write(piece)


def _pieces(descriptor: int) -> Iterator[bytes]:
    while piece := os.read(descriptor, _AT_ONCE):
        yield piece
