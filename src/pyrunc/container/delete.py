"""Removing a container, whatever state it is in."""

from __future__ import annotations

import posix
import time

from pyrunc.container import state as states
from pyrunc.container.create import run_poststop
from pyrunc.container.start import hook_state
from pyrunc.container.store import Store
from pyrunc.errors import Error, NotFound, WrongStatus, reason
from pyrunc.linux import processes as p

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.container.settings import Settings
    from pyrunc.container.store import Entry, Record

#: How long `delete` waits for a killed init to be gone (its last memory may take a while).
_LONGEST_DEATH = 10.0


def delete(settings: Settings, container_id: str, *, force: bool) -> None:
    """Remove a stopped (or created, or with ``force`` any) container (runtime.md, "Delete").

    :raises NotFound: when there is none; with ``force`` that is no error.
    :raises WrongStatus: when it is running.
    """
    try:
        entry = Store(settings.root).open(container_id)
    except NotFound:
        if force:
            return
        raise
    try:
        if force:
            _delete_by_force(settings, entry)
        else:
            entry.lock()
            record = entry.load()
            status = states.status_of(entry, record)
            if status not in (states.STOPPED, states.CREATED):
                raise WrongStatus(
                    f"cannot delete container {container_id} that is not stopped: {status}"
                )
            remove(settings, entry, record)
    except NotFound:
        # Somebody else deleted it while we waited for the lock.
        if not force:
            raise
    finally:
        entry.close()


def _delete_by_force(settings: Settings, entry: Entry) -> None:
    """Remove what there is: the record may be missing or damaged, an operation under way."""
    record = _load_if_possible(settings, entry)
    if record:
        # Before the lock: whoever holds it may be waiting for this very process.
        _kill_init(record)
    if not entry.lock(wait=False):
        _wait_for_lock(entry)
        record = _load_if_possible(settings, entry) or record
    remove(settings, entry, record)


def _load_if_possible(settings: Settings, entry: Entry) -> Record:
    try:
        return entry.load()
    except Error as error:
        settings.log.debug(str(error))
        return {}


def _wait_for_lock(entry: Entry) -> None:
    """Take a lock that another operation holds; give up after a while rather than hang."""
    deadline = time.monotonic() + _LONGEST_DEATH
    while not entry.lock(wait=False):
        if time.monotonic() > deadline:
            raise Error(f"container {entry.id} is held by another operation that does not end")
        p.poll((), 0.005)


def remove(settings: Settings, entry: Entry, record: Record) -> None:
    """Undo create: processes, cgroup, directory; then run the poststop hooks."""
    if record:
        _kill_init(record)
        _remove_cgroup(record)
    entry.remove()
    hooks = (record.get("hooks") or {}).get("poststop")
    if hooks:
        run_poststop(settings, hooks, hook_state(record, states.STOPPED, 0))


def _remove_cgroup(record: Record) -> None:
    saved = record.get("cgroup")
    if not saved:
        return
    from pyrunc.cgroups.driver import from_state

    driver = from_state(saved)
    try:
        if driver.processes():
            driver.signal_all(p.SIGKILL)
        driver.destroy()
    except OSError as error:
        raise Error(f"cannot remove the container's cgroup: {reason(error)}") from None


def _kill_init(record: Record) -> None:
    """Kill the container's init and wait until it is gone, if it is still there."""
    pidfd = p.open_process(record.get("pid", 0), record.get("startTime", 0))
    if pidfd < 0:
        return
    try:
        p.pidfd_send_signal(pidfd, p.SIGKILL)
        if not p.poll((pidfd,), 0.1):
            # Frozen by cgroup v1, it takes the signal only once it is thawed.
            from pyrunc.container.kill import thaw

            thaw(record)
            if not p.poll((pidfd,), _LONGEST_DEATH):
                raise Error(f"the container's init ({record['pid']}) does not die")
    finally:
        posix.close(pidfd)
