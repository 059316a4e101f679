"""Where containers are remembered: a directory for each below the state root.

    ROOT/ID/state.json    the record: what is needed to find, judge and remove it
    ROOT/ID/config.json   the config it was made from, as it was then
    ROOT/ID/exec.fifo     there while it waits for its start
    ROOT/ID/result.fifo   how init reports a start that failed

The directory itself is what operations lock (flock(2)). The record is replaced
by rename(2), so that readers need no lock and never see half of it.
"""

from __future__ import annotations

import posix
from errno import EEXIST, ENOENT, ENOTDIR, ENOTEMPTY, EWOULDBLOCK

from pyrunc.errors import AlreadyExists, Error, NotFound, reason
from pyrunc.linux import files
from pyrunc.linux.libc import syscall
from pyrunc.linux.numbers import SYS
from pyrunc.spec import json_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypedDict

    from pyrunc.spec.types import Hooks, Spec

    class Record(TypedDict, total=False):
        """What state.json holds."""

        format: int
        ociVersion: str
        id: str
        bundle: str
        rootfs: str
        created: str
        owner: str
        ownerUid: int
        annotations: dict[str, str]
        #: "creating" until create is done.
        phase: str
        pid: int
        startTime: int
        cgroup: dict[str, Any]
        namespaces: dict[str, str]
        hooks: Hooks
        rootless: bool
        intelRdt: dict[str, Any]


RECORD_FORMAT = 1
_ID_CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+-.")
_LONGEST_ID = 1024
_LOCK_EXCLUSIVE = 2
_LOCK_TRY = 4
_DIRECTORY = posix.O_RDONLY | files.O_DIRECTORY | files.O_NOFOLLOW | files.O_CLOEXEC


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


class Entry:
    """One container's directory, open. Close it when done."""

    __slots__ = ("directory", "id", "path")

    def __init__(self, container_id: str, path: str, directory: int) -> None:
        self.id = container_id
        self.path = path
        self.directory = directory

    def lock(self, *, wait: bool = True) -> bool:
        """Take the container for this operation; returns whether it was had.

        :raises NotFound: when it was deleted while we waited.
        """
        how = _LOCK_EXCLUSIVE | (0 if wait else _LOCK_TRY)
        try:
            syscall(SYS["flock"], self.directory, how)
        except OSError as error:
            if error.errno != EWOULDBLOCK:
                raise
            return False
        try:
            here, there = posix.stat(self.directory), posix.stat(self.path)
        except OSError:
            raise NotFound(f"container does not exist: {self.id}") from None
        if (here.st_dev, here.st_ino) != (there.st_dev, there.st_ino):
            raise NotFound(f"container does not exist: {self.id}")
        return True

    def close(self) -> None:
        """Let go of the directory, and with it of the lock."""
        posix.close(self.directory)

    def load(self) -> Record:
        """Read the record.

        :raises Error: when there is none, or it is damaged: ``delete --force`` removes it.
        """
        try:
            text = files.read_file("state.json", self.directory)
            record = json_text.parse(text)
        except OSError as error:
            detail = "it was never completed" if error.errno == ENOENT else reason(error)
            raise Error(
                f"cannot read the state of container {self.id}: {detail}; "
                "delete --force removes it"
            ) from None
        except Error as error:
            raise Error(
                f"the state of container {self.id} is damaged: {error}; delete --force removes it"
            ) from None
        if not isinstance(record, dict) or record.get("format") != RECORD_FORMAT:
            raise Error(
                f"the state of container {self.id} is not one that this version can read; "
                "delete --force removes it"
            )
        return record  # type: ignore[return-value]

    def save(self, record: Record) -> None:
        """Replace the record, all or nothing."""
        self._replace("state.json", json_text.encode(record).encode())

    def load_config(self) -> Spec:
        """Read the config that the container was made from; it was checked then."""
        return json_text.parse(files.read_file("config.json", self.directory))  # type: ignore[return-value]

    def save_config(self, spec: Spec) -> None:
        """Keep the config: later changes to the bundle's must not matter (runtime.md)."""
        self._replace("config.json", json_text.encode(spec).encode())

    def _replace(self, name: str, content: bytes) -> None:
        temporary = f"{name}.new"
        flags = posix.O_WRONLY | posix.O_CREAT | posix.O_TRUNC | files.O_NOFOLLOW | files.O_CLOEXEC
        descriptor = posix.open(temporary, flags, 0o600, dir_fd=self.directory)
        try:
            files.write_all(descriptor, content)
            posix.fsync(descriptor)
        finally:
            posix.close(descriptor)
        posix.rename(
            temporary, name, src_dir_fd=self.directory, dst_dir_fd=self.directory
        )

    def has(self, name: str) -> bool:
        """Tell whether the directory holds a file of this name."""
        try:
            posix.stat(name, dir_fd=self.directory, follow_symlinks=False)
        except OSError:
            return False
        return True

    def unlink(self, name: str) -> None:
        """Remove a file of the directory if it is there."""
        try:
            posix.unlink(name, dir_fd=self.directory)
        except OSError as error:
            if error.errno != ENOENT:
                raise

    def remove(self) -> None:
        """Remove the directory and all in it. The lock keeps its meaning until it is closed."""
        for name in posix.listdir(self.directory):
            self.unlink(name)
        try:
            posix.rmdir(self.path)
        except OSError as error:
            if error.errno not in (ENOENT, ENOTEMPTY):
                raise


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
            raise Error(f"cannot make state directory {path}: {reason(error)}") from None
        entry = Entry(container_id, path, posix.open(path, _DIRECTORY))
        entry.lock()
        return entry

    def open(self, container_id: str) -> Entry:
        """Open an existing container's directory.

        :raises NotFound: when there is none.
        """
        check_id(container_id)
        path = f"{self.root}/{container_id}"
        try:
            return Entry(container_id, path, posix.open(path, _DIRECTORY))
        except OSError as error:
            if error.errno in (ENOENT, ENOTDIR):
                raise NotFound(f"container does not exist: {container_id}") from None
            raise Error(f"cannot open state directory {path}: {reason(error)}") from None

    def ids(self) -> list[str]:
        """Return the ids of all containers, sorted; none when the root is not there yet."""
        try:
            names = posix.listdir(self.root)
        except OSError as error:
            if error.errno == ENOENT:
                return []
            raise Error(f"cannot list state root {self.root}: {reason(error)}") from None
        return sorted(name for name in names if _ID_CHARACTERS.issuperset(name))

    def shared_directory(self, name: str) -> str:
        """Return the path of a directory of the root that no container id can take."""
        return f"{self.root}/@{name}"

    def _make_root(self) -> None:
        """Make the root (0700), or make sure that nobody else can put things into it."""
        try:
            status = posix.stat(self.root)
        except OSError as error:
            if error.errno != ENOENT:
                raise Error(f"cannot use state root {self.root}: {reason(error)}") from None
            _make_directories(self.root)
            return
        if status.st_uid not in (0, posix.geteuid()) or status.st_mode & 0o022:
            raise Error(
                f"state root {self.root} can be written to by others; "
                "give it to the caller alone (mode 0700)"
            )


def _make_directories(path: str) -> None:
    parent = path.rpartition("/")[0]
    if parent:
        try:
            posix.stat(parent)
        except OSError:
            _make_directories(parent)
    try:
        posix.mkdir(path, 0o700)
    except OSError as error:
        if error.errno != EEXIST:
            raise Error(f"cannot make directory {path}: {reason(error)}") from None
