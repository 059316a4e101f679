"""Signals to a container."""

from __future__ import annotations

from pyrunc.container.record import state as states
from pyrunc.container.record.store import Store
from pyrunc.errors import WrongStatus
from pyrunc.linux import processes as p

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.container.record.record import Record
    from pyrunc.container.settings import Settings


def kill(settings: Settings, container_id: str, signal: int, *, everyone: bool) -> None:
    """Send ``signal`` to the container's init process (runtime.md, "Kill").

    Without a pid namespace of its own init's death does not end the other processes, so
    SIGKILL goes to all of the cgroup, also when they have outlived init. With ``everyone`` any
    signal does, and a stopped container is no error then.

    :raises WrongStatus: ``container not running`` when it is stopped.
    """
    entry = Store(settings.root).open(container_id)
    try:
        record = entry.load()
        status = states.status_of(entry, record)
        if everyone and (has_cgroups(record) or status == states.STOPPED):
            signal_all(record, signal)
            return
        if status == states.STOPPED:
            if signal == p.SIGKILL and record.get("sharedPidNamespace") and has_processes(record):
                signal_all(record, signal)
                return
            raise WrongStatus("container not running")
        init = p.open_process(record["pid"], record["startTime"])
        if init is None:
            raise WrongStatus("container not running")
        try:
            sent = init.signal(signal)
        finally:
            init.close()
        if not sent:
            raise WrongStatus("container not running")
        if signal == p.SIGKILL and record.get("sharedPidNamespace"):
            # Init is dead by now, and the kernel kills nobody along with it.
            signal_all(record, signal)
        if signal == p.SIGKILL and (status == states.PAUSED or states.may_be_frozen_below(record)):
            # A process that is frozen by cgroup v1 takes no signal, not even this one.
            thaw(record)
    finally:
        entry.close()


def signal_all(record: Record, signal: int) -> None:
    """Send ``signal`` to every process of the container's cgroup."""
    from pyrunc.cgroups.driver import from_state

    saved = record.get("cgroup")
    if saved:
        from_state(saved).signal_all(signal)


def has_cgroups(record: Record) -> bool:
    """Tell whether the container has any, or was made without: then only init is known."""
    return bool((record.get("cgroup") or {}).get("paths"))


def has_processes(record: Record) -> bool:
    """Tell whether anything runs in the container's cgroup or below it."""
    from pyrunc.cgroups.driver import from_state

    saved = record.get("cgroup")
    return saved is not None and bool(from_state(saved).processes())


def thaw(record: Record) -> None:
    """Let a frozen container run, with all that it has frozen itself, so that it can die."""
    from pyrunc.cgroups.driver import from_state

    saved = record.get("cgroup")
    if saved:
        from_state(saved).thaw_all()
