"""Directories of the state root: who may put things there, and what to say of one that is shut."""

from __future__ import annotations

import posix
from errno import EACCES, ENOENT, ENOTDIR, EPERM, EROFS

from pyrunc.errors import Error, NotFound, reason
from pyrunc.linux import files

DIRECTORY = posix.O_RDONLY | files.O_DIRECTORY | files.O_NOFOLLOW | files.O_CLOEXEC


def open_place(container_id: str, path: str) -> int:
    """Open a container's directory.

    :raises NotFound: when it is not there.
    :raises Error: when others can put things there.
    """
    try:
        directory = posix.open(path, DIRECTORY)
    except OSError as error:
        if error.errno in (ENOENT, ENOTDIR):
            raise NotFound(f"container does not exist: {container_id}") from None
        raise cannot("open state directory", path, error) from None
    if is_open_to_others(posix.fstat(directory)):
        posix.close(directory)
        raise Error(f"state directory {path} can be written to by others: it is not used")
    return directory


def is_open_to_others(status: posix.stat_result) -> bool:
    """Tell whether anybody but root and the caller owns it or may write to it."""
    owner = status.st_uid
    return bool(status.st_mode & 0o022) or (owner != 0 and owner != posix.geteuid())


def cannot(do: str, path: str, error: OSError) -> Error:
    """Return the error; an ordinary user hears which root would do.

    Without XDG_RUNTIME_DIR, as su(1) leaves it, the root is the machine's.
    """
    hint = ""
    if error.errno in (EACCES, EPERM, EROFS) and posix.geteuid() != 0:
        hint = "; name a state root of your own: --root, or XDG_RUNTIME_DIR, which su leaves unset"
    return Error(f"cannot {do} {path}: {reason(error)}{hint}")
