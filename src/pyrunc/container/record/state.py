"""What a container is right now: its record, held against the processes and cgroups there are."""

from __future__ import annotations

import posix

from pyrunc.cgroups import frozen
from pyrunc.container.record.entry import UNTIL_CREATED
from pyrunc.container.record.store import Store
from pyrunc.errors import BeingCreated, Error, NotFound, reason
from pyrunc.linux import process_stat
from pyrunc.spec import json_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyrunc.container.record.entry import Entry
    from pyrunc.container.record.record import Record
    from pyrunc.container.settings import Settings

CREATING = "creating"
CREATED = "created"
RUNNING = "running"
PAUSED = "paused"
STOPPED = "stopped"
#: No status of the specification's: only `list` shows it.
DAMAGED = "damaged"


#: What is told of a container whose record tells nothing. The time is Go's zero, for those
#: who parse it.
_UNKNOWN = {
    "ociVersion": "",
    "id": "",
    "pid": 0,
    "status": DAMAGED,
    "bundle": "",
    "rootfs": "",
    "created": "0001-01-01T00:00:00Z",
    "owner": "",
}


def status_of(entry: Entry, record: Record, many: frozen.Many | None = None) -> str:
    """Judge the status: by the init process, the start fifo and the freezer (runtime.md, "State").

    The process is known by number and start time: a reused number is not taken for it.

    :param many: for who asks about many.
    """
    if record.get("phase") == CREATING:
        # Whoever makes it holds the lock; without that it was given up half-way.
        return CREATING if _life(record) or entry.held_by_another() else STOPPED
    damage = None
    try:
        waits = entry.awaits_start()
    except Error as error:
        waits, damage = False, error
    # Who waits for the start lives: that spares a look at /proc.
    life = b"" if waits else _life(record)
    if not waits and not life:
        return STOPPED
    if is_paused(record, many, life):
        return PAUSED
    if damage is not None:
        raise damage
    return CREATED if waits else RUNNING


def _life(record: Record) -> bytes:
    """Return the state of the container's init, or nothing when it has ended."""
    return process_stat.state_of(record.get("pid", 0), record.get("startTime", 0))


def take(entry: Entry) -> tuple[Record, str]:
    """Lock a container for an operation; return its record and status.

    One that is being created is not locked: its status forbids every operation that would lock
    it, and whoever creates it may be waiting for a hook that asks for one.

    :raises pyrunc.errors.NotFound: when it was deleted meanwhile.
    """
    try:
        entry.lock()
    except BeingCreated:
        return entry.load(), CREATING
    record = entry.load()
    return record, status_of(entry, record)


def but_created(status: str) -> str:
    """Return what to add to "container not running" for one that is still being created."""
    return f": it is still being created; {UNTIL_CREATED}" if status == CREATING else ""


def is_paused(record: Record, many: frozen.Many | None = None, life: bytes = b"") -> bool:
    """Tell whether the container's cgroup is frozen.

    :param many: for who asks about many; ``life`` is the state of its init then, if it is known.
    """
    saved = record.get("cgroup")
    if not saved:
        return False
    try:
        return frozen.is_frozen(saved.get("version", 1), saved.get("paths") or {}, many, life)
    except OSError as error:
        raise Error(
            f"cannot tell whether container {record['id']} is paused: {reason(error)}"
        ) from None


def may_be_frozen_below(record: Record) -> bool:
    """Tell whether the container may have frozen some of its processes itself."""
    saved = record.get("cgroup") or {}
    return frozen.may_be_frozen_below(saved.get("version", 1), saved.get("paths") or {})


def describe(entry: Entry, record: Record, many: frozen.Many | None = None) -> dict[str, Any]:
    """Return the state as `state` and `list` print it."""
    status = status_of(entry, record, many)
    state: dict[str, Any] = {
        "ociVersion": record["ociVersion"],
        "id": record["id"],
        "pid": 0 if status == STOPPED else record.get("pid", 0),
        "status": status,
        "bundle": record["bundle"],
        "rootfs": record["rootfs"],
        "created": record["created"],
        "owner": record.get("owner", ""),
    }
    if record.get("annotations"):
        state["annotations"] = record["annotations"]
    return state


def hook_state(record: Record, status: str, pid: int) -> bytes:
    """Return the state JSON for the hooks of a container that exists."""
    state = {
        "ociVersion": record["ociVersion"],
        "id": record["id"],
        "status": status,
        "pid": pid,
        "bundle": record["bundle"],
        "annotations": record.get("annotations") or {},
    }
    return json_text.encode(state).encode()


def query(settings: Settings, container_id: str) -> dict[str, Any]:
    """Return a container's state.

    :raises NotFound: when there is no such container.
    """
    return _described(Store(settings.root).open(container_id))


def _described(entry: Entry, many: frozen.Many | None = None) -> dict[str, Any]:
    try:
        return describe(entry, entry.load(), many)
    finally:
        entry.close()


def query_all(settings: Settings) -> list[dict[str, Any]]:
    """Return the states of all containers, by id.

    One that cannot be read is warned about, and shown as ``damaged``.
    """
    store = Store(settings.root)
    root = store.hold()
    if root is None:
        return []
    states = []
    many = frozen.Many()
    try:
        for container_id in store.ids(root):
            try:
                states.append(_described(store.open(container_id, root), many))
            except NotFound:
                continue
            except (OSError, Error) as error:
                settings.log.warn(reason(error))
                states.append({**_UNKNOWN, "id": container_id})
    finally:
        many.close()
        posix.close(root)
    return states


def owner_name(uid: int) -> str:
    """Return the login name of ``uid``, or its number.

    /etc/passwd is read directly: the name services would load libraries.
    """
    try:
        descriptor = posix.open("/etc/passwd", posix.O_RDONLY | posix.O_CLOEXEC)
    except OSError:
        return str(uid)
    try:
        text = posix.read(descriptor, 1 << 16)
    finally:
        posix.close(descriptor)
    for line in text.split(b"\n"):
        fields = line.split(b":", 3)
        if len(fields) == 4 and fields[2] == b"%d" % uid:
            return fields[0].decode("utf-8", "replace")
    return str(uid)
