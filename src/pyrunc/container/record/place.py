"""A container's directory in the state root: who may put things there, and who has it locked."""

from __future__ import annotations

import posix
import time
from errno import EACCES, ENOENT, ENOTDIR, EPERM, EROFS, EWOULDBLOCK
from fcntl import LOCK_NB, LOCK_SH, LOCK_UN, flock

from pyrunc.errors import Error, NotFound, reason
from pyrunc.linux import files
from pyrunc.linux.libc import open_to_others

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
    return open_to_others(status, 0o022)


def cannot(do: str, path: str, error: OSError) -> Error:
    """Return the error; an ordinary user hears which root would do.

    Without XDG_RUNTIME_DIR, as su(1) leaves it, the root is the machine's.
    """
    hint = ""
    if error.errno in (EACCES, EPERM, EROFS) and posix.geteuid() != 0:
        hint = "; name a state root of your own: --root, or XDG_RUNTIME_DIR, which su leaves unset"
    return Error(f"cannot {do} {path}: {reason(error)}{hint}")


class Place:
    """A container's directory, and its lock (flock(2)). Close it when done."""

    __slots__ = ("_begin", "_directory", "_within", "id", "locked", "path")

    def __init__(
        self, container_id: str, path: str, directory: int | None = None, held: int = -1
    ) -> None:
        """``directory`` is the one at ``path``, open; without it ``held`` is the one above."""
        self.id = container_id
        self.path = path
        self._directory = directory
        #: Where the paths of its files begin, and with what.
        self._begin, self._within = (
            (held, f"{container_id}/") if directory is None else (directory, "")
        )
        self.locked = False

    @property
    def directory(self) -> int:
        """The directory, open; who looks at many containers needs it of few.

        :raises NotFound: when it is gone.
        """
        if self._directory is None:
            self._directory = open_place(self.id, self.path)
        return self._directory

    def _try_lock(self, how: int) -> bool:
        try:
            flock(self.directory, how | LOCK_NB)
        except OSError as error:
            if error.errno != EWOULDBLOCK:
                raise
            return False
        return True

    def unlock(self) -> None:
        """Let others have the container; the directory stays open."""
        flock(self.directory, LOCK_UN)
        self.locked = False

    def held_by_another(self) -> bool:
        """Tell whether another operation has the container right now."""
        if self.locked:
            return False
        if not self._try_lock(LOCK_SH):
            return True
        flock(self.directory, LOCK_UN)
        return False

    def _is_there(self) -> bool:
        """Tell whether the directory is still the one of this id."""
        try:
            here = posix.stat(self.directory)
            there = posix.stat(self.path, follow_symlinks=False)
        except OSError as error:
            if error.errno not in (ENOENT, ENOTDIR):
                raise
            return False
        return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)

    def _is_new(self) -> bool:
        """Tell whether the directory is younger than a second."""
        return 0 <= time.time() - posix.stat(self.directory).st_ctime < 1

    def close(self) -> None:
        """Let go of the directory, and with it of the lock."""
        if self._directory is not None:
            posix.close(self._directory)
