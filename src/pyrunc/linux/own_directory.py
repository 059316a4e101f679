"""Directories in which files of the container's own are made: devices, links, the console.

An image may say that /dev is somewhere else, by a link, and a volume may lie there or come to lie
on /dev through a link: then device nodes would be made, and files replaced, in what belongs
to somebody else. So the directory must be one of the root file system, or of the mount that the
config puts there, with no link and no other mount on the way.
"""

from __future__ import annotations

import posix
from errno import EEXIST, ELOOP, ENOENT, ENOTDIR, EXDEV

from pyrunc.errors import Error
from pyrunc.linux import files

_ON_ANOTHER = "is on a mount that config.json does not put there"
_DIRECTORY = files.O_PATH | files.O_DIRECTORY | files.O_CLOEXEC
_RULES = files.RESOLVE_BENEATH | files.RESOLVE_NO_SYMLINKS | files.RESOLVE_NO_XDEV


def open_on_mount(root: int, path: str) -> int:
    """Open (O_PATH) the directory ``path`` below ``root``, by links as well, but on no other mount.

    What is missing is made, as with :func:`pyrunc.linux.files.ensure_directory`.

    :raises Error: when it is on another.
    """
    posix.close(files.ensure_directory(root, path))
    try:
        rules = files.RESOLVE_IN_ROOT | files.RESOLVE_NO_MAGICLINKS | files.RESOLVE_NO_XDEV
        return files.openat2(root, path, _DIRECTORY, rules)
    except OSError as error:
        if error.errno == EXDEV:
            raise Error(f"{path} {_ON_ANOTHER}") from None
        raise


def open_own(root: int, path: str, mount: int, destination: str) -> int:
    """Open (O_PATH) the directory ``path`` below ``root``, making what is missing.

    :param mount: the mount that it must be on, and where that is: below ``destination``.
    :raises Error: when a link leads there, or something else is mounted there.
    """
    inside = path[len(destination) :].strip("/")
    try:
        directory = _ensure(mount, inside)
        try:
            # What is seen there, from the root, must be that very directory.
            rules = files.RESOLVE_IN_ROOT | files.RESOLVE_NO_SYMLINKS
            seen = files.openat2(root, path, _DIRECTORY, rules)
            same = files.are_same(directory, seen)
            posix.close(seen)
            if not same:
                raise Error(f"{path} is covered by another mount")
        except BaseException:
            posix.close(directory)
            raise
    except OSError as error:
        if error.errno == ELOOP:
            raise Error(f"{path} leads through a symbolic link") from None
        if error.errno == EXDEV:
            raise Error(f"{path} {_ON_ANOTHER}") from None
        if error.errno == ENOTDIR:
            raise Error(f"{path} is not a directory") from None
        raise
    return directory


def _ensure(mount: int, inside: str) -> int:
    """Open the directory ``inside`` the mount, making what is missing, one name after another."""
    try:
        return files.openat2(mount, inside or ".", _DIRECTORY, _RULES)
    except OSError as error:
        if error.errno != ENOENT:
            raise
    above, _, name = inside.rpartition("/")
    parent = _ensure(mount, above)
    try:
        try:
            posix.mkdir(name, 0o755, dir_fd=parent)
        except OSError as error:
            if error.errno != EEXIST:
                raise
        return files.openat2(parent, name, _DIRECTORY, _RULES)
    finally:
        posix.close(parent)
