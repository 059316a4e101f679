"""One container's directory: its files, and what is asked of them.

The directory itself (place.py) is what operations lock. The record is replaced
by rename(2), so that readers need no lock and never see half of it.
"""

from __future__ import annotations

import posix
import time
from errno import EINVAL, ENOENT, ENXIO
from fcntl import LOCK_EX, flock

from pyrunc.container.record.place import Place
from pyrunc.container.record.record import RECORD_FORMAT, REMEDY, parse, record_in, salvaged
from pyrunc.errors import AlreadyExists, BeingCreated, Error, NotFound, NotSaved, reason
from pyrunc.linux import files
from pyrunc.linux.libc import fetch, open_to_others
from pyrunc.spec import json_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pyrunc.container.record.record import Record
    from pyrunc.spec.types import Spec

#: All that there may be in a container's directory.
_OWN_NAMES = frozenset(
    (
        "config.json",
        "config.json.new",
        "criu-images",
        "criu-root",
        "criu-yard",
        "exec.fifo",
        "notify",
        "result.fifo",
        "state.json",
        "state.json.new",
        "unified",
    )
)
#: How long to wait for a record that another operation is about to write, or to take away.
_LONGEST_WRITE = 2.0
#: How long a lock may be held by who only asks for it, and by an operation on a container.
_LONGEST_QUESTION = 0.05
_LONGEST_OPERATION = 30.0
#: Most records are smaller, in bytes.
_USUAL_SIZE = 4096
#: Larger than any record or config (bytes): of a config no more is read in the first place.
_LARGEST = 64 << 20
#: Fifos do not keep us waiting, links lead nowhere.
_CAREFULLY = posix.O_NONBLOCK | files.O_NOFOLLOW | files.O_CLOEXEC

#: Root's or the caller's, and not to be written to by others: then nobody need look at what it
#: lies in, which else has to be like that.
_OUR_FILE = files.S_IFREG | 0o022

_NOT_THE_FIFO = "not the fifo that pyrunc has made"
#: What to do with a container whose hooks run, or whose mounts are made.
UNTIL_CREATED = "state, list, ps, kill and delete --force work until it is"


class Entry(Place):
    """One container's directory and what is in it. Close it when done."""

    __slots__ = ()

    def lock(self, *, wait: bool = True) -> bool:
        """Take the container for this operation; returns whether it was had.

        :raises NotFound: when it was deleted while we waited.
        :raises BeingCreated: when `create` has it, which may be waiting for the very hook that
            called us.
        :raises Error: when somebody else does not let go of it.
        """
        if wait:
            self._wait_for_lock()
        elif not self._try_lock(LOCK_EX):
            return False
        self.locked = True
        if not self._is_there():
            raise NotFound(f"container does not exist: {self.id}")
        return True

    def _wait_for_lock(self) -> None:
        begun, pause = time.monotonic(), 0.0005
        while not self._try_lock(LOCK_EX):
            waited = time.monotonic() - begun
            # Others ask whether it is held by holding it themselves, for a moment.
            if waited > _LONGEST_QUESTION and self._is_being_made():
                raise BeingCreated(f"container {self.id} is still being created; {UNTIL_CREATED}")
            if waited > _LONGEST_OPERATION:
                raise Error(f"container {self.id} is held by another operation that does not end")
            time.sleep(pause)
            pause = min(pause * 2, 0.01)

    def lock_new(self) -> None:
        """Take a container whose directory was just made.

        What was opened need not be what was made: between the two, somebody may have deleted it
        and somebody else made it again. Whoever first has an empty one locked owns it.

        :raises NotFound: when somebody was faster, and has deleted it.
        :raises AlreadyExists: when somebody was faster, and has it.
        """
        flock(self.directory, LOCK_EX)
        self.locked = True
        if not self._is_there():
            raise NotFound(f"container does not exist: {self.id}")
        if posix.listdir(self.directory):
            raise AlreadyExists(f"container with given ID already exists: {self.id}")

    def _is_being_made(self) -> bool:
        """Tell whether whoever holds it is still about to make the container."""
        try:
            record = parse(self._contents("state.json"), self.id)
        except FileNotFoundError:
            return self._is_there()
        except (OSError, Error):
            return False
        return bool(record.get("phase") == "creating")

    def is_ours(self) -> bool:
        """Tell whether `create` made this directory, or it lies in the root for another reason.

        With ``--root /`` every directory of the host has the place of a container. One of ours has
        a record of this id; or, half-made or damaged, nothing but files that create makes, in a
        directory of the mode in which it makes them.
        """
        try:
            record = parse(self._contents("state.json"), self.id)
        except (OSError, Error):
            record = {}
        if record.get("format") == RECORD_FORMAT and record.get("id") == self.id:
            return True
        status = posix.stat(self.directory)
        if open_to_others(status, 0o077):
            return False
        return _OWN_NAMES.issuperset(posix.listdir(self.directory))

    def load(self) -> Record:
        """Read the record.

        :raises NotFound: when the container was deleted meanwhile.
        :raises Error: when there is none, or it is damaged: ``delete --force`` removes it.
        """
        return record_in(self._read(), self.id)

    def salvage(self) -> Record:
        """Return what a damaged record, or one of another version, still tells of the container.

        That is at most its pid with the start time, its cgroup and its hooks.
        """
        try:
            return salvaged(parse(self._contents("state.json"), self.id))
        except (OSError, Error):
            return {}

    def _contents(self, name: str) -> bytes:
        """Read a file of the directory, which must be one: a fifo would hold us for ever.

        :raises OSError: EINVAL when it is anything else, or far larger than it can be.
        """
        path = (self._within + name).encode()
        kind = files.S_IFREG if self._directory is not None else _OUR_FILE
        found = fetch(self._begin, path, _CAREFULLY, kind, _USUAL_SIZE)
        if isinstance(found, bytes):
            return found
        descriptor = posix.open(name, _CAREFULLY, dir_fd=self.directory)  # O_RDONLY is 0.
        try:
            status = posix.fstat(descriptor)
            if status.st_mode & files.S_IFMT != files.S_IFREG or status.st_size > _LARGEST:
                raise OSError(EINVAL, "not a file that pyrunc has written")
            return files.read_all(descriptor, _LARGEST)
        finally:
            posix.close(descriptor)

    def _read(self) -> bytes:
        """Read state.json. While it is not there yet, or no more, somebody has the lock."""
        deadline = 0.0
        while True:
            try:
                return self._contents("state.json")
            except OSError as error:
                missing = error.errno == ENOENT
                why = "it was never completed" if missing else reason(error)
            if missing:
                if not self._is_there() or not self.is_ours():
                    raise NotFound(f"container does not exist: {self.id}")
                now = time.monotonic()
                deadline = deadline or now + _LONGEST_WRITE
                # Asked before the next look at the file: who let go has written it by then.
                if self.held_by_another():
                    if now < deadline:
                        time.sleep(0.001)
                        continue
                elif not self.locked and self.has("state.json"):
                    continue
                elif not self._is_there():
                    raise NotFound(f"container does not exist: {self.id}")
                elif not self.locked and now < deadline and self._is_new():
                    # Made a moment ago by a `create` that is about to take the lock.
                    time.sleep(0.001)
                    continue
            raise Error(f"cannot read the state of container {self.id}: {why}; {REMEDY}")

    def save(self, record: Record) -> None:
        """Replace the record, all or nothing.

        :raises NotSaved: when it cannot be written; what was there before still is.
        """
        self.prepare({"state.json": record})
        self.commit(("state.json",))

    def load_config(self) -> Spec:
        """Read the config that the container was made from; it was checked then.

        :raises Error: when it is missing or damaged.
        """
        try:
            spec = json_text.parse(self._contents("config.json"))
        except (OSError, Error) as error:
            raise Error(
                f"cannot read the config of container {self.id}: {reason(error)}; {REMEDY}"
            ) from None
        if not isinstance(spec, dict) or not isinstance(spec.get("linux", {}), dict):
            raise Error(f"the config of container {self.id} is damaged; {REMEDY}")
        return spec  # type: ignore[return-value]

    def save_config(self, spec: Spec) -> None:
        """Keep the config: later changes to the bundle's must not matter (runtime.md).

        :raises NotSaved: when it cannot be written.
        """
        self.prepare({"config.json": spec})
        self.commit(("config.json",))

    def prepare(self, contents: Mapping[str, Spec | Record]) -> None:
        """Write new contents beside the files that they are for; :meth:`commit` makes them those.

        :raises NotSaved: when there is no room, for example; nothing is left then.
        """
        try:
            for name, content in contents.items():
                self._write(f"{name}.new", json_text.encode(content).encode())
        except OSError as error:
            self.discard(contents)
            raise self._not_saved(error) from None

    def commit(self, names: Iterable[str]) -> None:
        """Put what was prepared in the place of what is there.

        :raises NotSaved: when the file system does not let us.
        """
        there = self.directory
        try:
            for name in names:
                posix.rename(f"{name}.new", name, src_dir_fd=there, dst_dir_fd=there)
        except OSError as error:
            self.discard(names)
            raise self._not_saved(error) from None

    def discard(self, names: Iterable[str]) -> None:
        """Remove what was prepared."""
        for name in names:
            try:
                self.unlink(f"{name}.new")
            except OSError:
                # The same file system that would not take it in the first place.
                pass

    def _not_saved(self, error: OSError) -> NotSaved:
        return NotSaved(f"cannot save the state of container {self.id}: {reason(error)}")

    def _write(self, name: str, content: bytes) -> None:
        # What an operation that was killed has left behind is nobody's.
        self.unlink(name)
        flags = posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | files.O_NOFOLLOW | files.O_CLOEXEC
        descriptor = posix.open(name, flags, 0o600, dir_fd=self.directory)
        try:
            # No fsync(2): after a crash of the machine there are no containers to remember.
            files.write_all(descriptor, content)
        finally:
            posix.close(descriptor)

    def has(self, name: str) -> bool:
        """Tell whether the directory holds a file of this name."""
        try:
            posix.stat(name, dir_fd=self.directory, follow_symlinks=False)
        except OSError:
            return False
        return True

    def awaits_start(self) -> bool:
        """Tell whether the user's program was not executed yet.

        Until it is, init holds the fifo open (close-on-exec). The mere name would lie
        if a `start` had been killed before it could remove it.
        """
        flags = posix.O_WRONLY | _CAREFULLY
        path = f"{self._within}exec.fifo".encode()
        found = fetch(self._begin, path, flags, files.S_IFIFO, 0)
        # Nobody has it open, or it was removed after a start.
        if isinstance(found, bytes) or found in (-ENXIO, -ENOENT):
            return found == b""
        what = _NOT_THE_FIFO if found == -EINVAL else posix.strerror(-found)
        why = f"exec.fifo: {reason(OSError(-found, what))}; {REMEDY}"
        raise Error(f"cannot tell the state of container {self.id}: {why}")

    def open_fifo(self, name: str, flags: int) -> int:
        """Open one of the fifos, not waiting for the other side.

        :raises OSError: EINVAL when something else is in its place; ENXIO when it is to be
            written to and nobody has it open; ENOENT when it is not there.
        """
        descriptor = posix.open(name, flags | _CAREFULLY, dir_fd=self.directory)
        if posix.fstat(descriptor).st_mode & files.S_IFMT != files.S_IFIFO:
            posix.close(descriptor)
            raise OSError(EINVAL, _NOT_THE_FIFO)
        return descriptor

    def unlink(self, name: str) -> None:
        """Remove a file of the directory if it is there."""
        try:
            posix.unlink(name, dir_fd=self.directory)
        except OSError as error:
            if error.errno != ENOENT:
                raise

    def remove(self) -> None:
        """Remove the directory and all in it. The lock keeps its meaning until it is closed."""
        files.empty_directory(self.directory)
        try:
            posix.rmdir(self.path)
        except OSError as error:
            if error.errno != ENOENT:
                raise Error(f"cannot remove {self.path}: {reason(error)}") from None
