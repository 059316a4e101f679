"""What `events` tells about a container's use of resources."""

from __future__ import annotations

from pyrunc.container.record import state as states
from pyrunc.container.record.store import Store
from pyrunc.errors import Error, WrongStatus, reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyrunc.container.settings import Settings


def statistics(settings: Settings, container_id: str) -> dict[str, Any]:
    """Return the ``data`` of a stats event, read from the container's cgroups.

    :raises WrongStatus: when the container is stopped and has none any more.
    :raises Error: when they cannot be read.
    """
    from pyrunc.cgroups.driver import from_state

    entry = Store(settings.root).open(container_id)
    try:
        record = entry.load()
        if states.status_of(entry, record) == states.STOPPED:
            raise WrongStatus(f"container with id {container_id} is not running")
        # A container may be deleted at any moment, and its cgroups with it.
        data: dict[str, Any] = from_state(record["cgroup"]).statistics()
        if record.get("intelRdt"):
            from pyrunc.cgroups import resctrl

            data["intel_rdt"] = resctrl.from_state(record["intelRdt"]).statistics()
        return data
    except OSError as error:
        raise Error(f"cannot read the container's cgroups: {reason(error)}") from None
    finally:
        entry.close()
