"""Where engines keep what they need while they live: a directory each, locked by its keeper."""

from __future__ import annotations

import fcntl
import os
import stat

from pyrunc.errors import Error, reason

#: Of root; others have a directory of their own.
_OF_ROOT = "/run/pyrunc-library"


def base_directory() -> str:
    """Return the directory of this user's engines, made if it is missing.

    :raises Error: when it cannot be made, or is somebody else's.
    """
    user = os.geteuid()
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if user == 0:
        path = _OF_ROOT
    elif runtime and os.access(runtime, os.W_OK):
        path = f"{runtime}/pyrunc-library"
    else:
        path = f"/tmp/pyrunc-library-{user}"
    try:
        os.makedirs(path, 0o700, exist_ok=True)
        status = os.lstat(path)
    except OSError as error:
        raise Error(f"cannot make directory {path} for the engine: {reason(error)}") from None
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != user or status.st_mode & 0o022:
        raise Error(f"{path} must be a directory of user {user}'s alone; remove it or mend it")
    return path


def make_directory(base: str, program: int) -> tuple[str, int]:
    """Make and lock a directory for a new engine of process ``program``.

    :return: its name and the descriptor that holds the lock.
    """
    while True:
        name = f"{program}-{os.urandom(4).hex()}"
        path = f"{base}/{name}"
        os.mkdir(path, 0o700)
        try:
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            # Somebody sweeps, and took it for one that nobody wants any more.
            continue
        if _try_lock(lock) and _is_there(lock, path):
            return name, lock
        os.close(lock)


def take_forsaken(base: str) -> list[tuple[str, int]]:
    """Return name and lock of every engine's directory whose keeper is dead."""
    found = []
    for name in os.listdir(base):
        path = f"{base}/{name}"
        try:
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            continue
        if _try_lock(lock) and _is_there(lock, path):
            found.append((name, lock))
        else:
            os.close(lock)
    return found


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_there(descriptor: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except FileNotFoundError:
        return False
