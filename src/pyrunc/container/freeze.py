"""Pausing and resuming: the freezer of the container's cgroup."""

from __future__ import annotations

from pyrunc.container.record import state as states
from pyrunc.container.record.store import Store
from pyrunc.errors import WrongStatus

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.container.settings import Settings


def pause(settings: Settings, container_id: str) -> None:
    """Freeze all processes of a running or created container.

    :raises WrongStatus: ``container not running`` otherwise.
    """
    _switch(settings, container_id, freeze=True)


def resume(settings: Settings, container_id: str) -> None:
    """Let a paused container go on.

    :raises WrongStatus: ``container not paused`` otherwise.
    """
    _switch(settings, container_id, freeze=False)


def _switch(settings: Settings, container_id: str, *, freeze: bool) -> None:
    from pyrunc.cgroups.driver import from_state

    entry = Store(settings.root).open(container_id)
    try:
        record, status = states.take(entry)
        driver = from_state(record["cgroup"])
        if freeze:
            if status not in (states.RUNNING, states.CREATED):
                raise WrongStatus(f"container not running{states.but_created(status)}")
            driver.freeze()
        else:
            if status != states.PAUSED:
                raise WrongStatus(f"container not paused{states.but_created(status)}")
            driver.thaw()
    finally:
        entry.close()
