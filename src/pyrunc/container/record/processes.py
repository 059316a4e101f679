"""The processes of a container, as the host numbers them."""

from __future__ import annotations

from pyrunc.container.record import state as states
from pyrunc.container.record.store import Store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.container.settings import Settings


def pids(settings: Settings, container_id: str) -> list[int]:
    """Return the pids in the container's cgroup and those below it; none once it is stopped."""
    from pyrunc.cgroups.driver import from_state

    entry = Store(settings.root).open(container_id)
    try:
        record = entry.load()
        saved = record.get("cgroup")
        found = from_state(saved).processes() if saved else []
        if not found and states.status_of(entry, record) != states.STOPPED:
            return [record["pid"]]
        return sorted(found)
    finally:
        entry.close()
