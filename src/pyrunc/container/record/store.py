"""Where containers are remembered: a directory for each below the state root.

ROOT/ID/state.json    the record: what is needed to find, judge and remove it
ROOT/ID/config.json   the config it was made from, as it was then
ROOT/ID/exec.fifo     there while it waits for its start
ROOT/ID/result.fifo   how init reports a start that failed
"""

from __future__ import annotations

import posix
from errno import EEXIST, ENOENT

from pyrunc.container.record.entry import Entry
from pyrunc.container.record.place import DIRECTORY, cannot, is_open_to_others, open_place
from pyrunc.errors import AlreadyExists, Error, NotFound, reason
from pyrunc.linux import files

_ID_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+-.")
_LONGEST_ID = 1024


def check_id(container_id: str) -> None:
    """Refuse ids that are not plain file names.

    :raises Error: ``invalid container ID format``.
    """
    if (
        not container_id
        or container_id in (".", "..")
        or len(container_id) > _LONGEST_ID
        or not _ID_CHARACTERS.issuperset(container_id)
    ):
        raise Error(f"invalid container ID format: {container_id!r}")


class Store:
    """The state root."""

    __slots__ = ("root",)

    def __init__(self, root: str) -> None:
        self.root = root

    def reserve(self, container_id: str) -> Entry:
        """Make a new container's directory and lock it.

        :raises AlreadyExists: when the id is taken.
        """
        check_id(container_id)
        self._make_root()
        path = f"{self.root}/{container_id}"
        try:
            posix.mkdir(path, 0o700)
        except OSError as error:
            if error.errno == EEXIST:
                raise AlreadyExists(
                    f"container with given ID already exists: {container_id}"
                ) from None
            raise cannot("make state directory", path, error) from None
        try:
            return self._open_new(container_id, path)
        except (FileNotFoundError, NotFound):
            raise Error(f"container {container_id} was deleted while it was created") from None
        except OSError as error:
            # Nobody else has it yet.
            _give_up(path)
            raise Error(f"cannot lock state directory {path}: {reason(error)}") from None

    def _open_new(self, container_id: str, path: str) -> Entry:
        entry = Entry(container_id, path, posix.open(path, DIRECTORY))
        try:
            entry.lock_new()
        except BaseException:
            entry.close()
            raise
        return entry

    def hold(self) -> int | None:
        """Check and open the root, to look at many containers; None when it is not there yet.

        Close the descriptor when done.
        """
        if not self._check_root():
            return None
        try:
            return posix.open(self.root, posix.O_RDONLY | files.O_DIRECTORY | files.O_CLOEXEC)
        except OSError as error:
            if error.errno == ENOENT:
                return None
            raise cannot("list state root", self.root, error) from None

    def open(self, container_id: str, held: int | None = None) -> Entry:
        """Open an existing container's directory.

        :param held: the root from :meth:`hold`, with an id from :meth:`ids`: neither is checked
            again then, and the directory is opened only for who needs more than its files.
        :raises NotFound: when there is none.
        """
        path = f"{self.root}/{container_id}"
        if held is not None:
            return Entry(container_id, path, held=held)
        check_id(container_id)
        self._check_root()
        return Entry(container_id, path, open_place(container_id, path))

    def ids(self, held: int | None = None) -> list[str]:
        """Return the ids of all containers, sorted; none when the root is not there yet.

        :param held: the root from :meth:`hold`.
        """
        if held is None:
            self._check_root()
        try:
            with posix.scandir(self.root if held is None else held) as found:
                names = [one.name for one in found if one.is_dir(follow_symlinks=False)]
        except OSError as error:
            if error.errno == ENOENT:
                return []
            raise cannot("list state root", self.root, error) from None
        return sorted(name for name in names if _ID_CHARACTERS.issuperset(name))

    def _make_root(self) -> None:
        """Make the root (0700) if it is missing."""
        if not self._check_root():
            try:
                files.make_directories(self.root, 0o700)
            except OSError as error:
                raise cannot("make state root", self.root, error) from None
            # It may be another's, who was faster.
            self._check_root()

    def _check_root(self) -> bool:
        """Make sure that nobody else can put things into the root; return whether it is there.

        Records name processes to kill and hooks to run: a record of another user's is an attack.
        """
        try:
            status = posix.stat(self.root)
        except OSError as error:
            if error.errno != ENOENT:
                raise cannot("use state root", self.root, error) from None
            return False
        if self.root == "/":
            raise Error("state root / holds the whole file system; give a directory of its own")
        if is_open_to_others(status):
            raise Error(
                f"state root {self.root} can be written to by others; "
                "give it to the caller alone (mode 0700)"
            )
        if posix.geteuid() == 0:
            _check_above(self.root)
        return True


def _check_above(root: str) -> None:
    """See that nobody can put another directory in the root's place.

    Where everybody may write, only the sticky bit keeps others from renaming what is root's.

    :raises Error: naming the directory.
    """
    above = root.rpartition("/")[0]
    while above:
        mode = posix.stat(above).st_mode
        if mode & 0o002 and not mode & 0o1000:
            raise Error(
                f"state root {root} can be replaced by others: everybody may write to {above}"
            )
        above = above.rpartition("/")[0]


def _give_up(path: str) -> None:
    """Remove a directory that was just made; it is empty, or another's by now."""
    try:
        posix.rmdir(path)
    except OSError:
        pass
