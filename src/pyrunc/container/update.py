"""Changing the limits of a container that exists."""

from __future__ import annotations

from pyrunc.container import state as states
from pyrunc.container.store import Store
from pyrunc.errors import Error, WrongStatus

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyrunc.container.settings import Settings


def update(
    settings: Settings,
    container_id: str,
    resources: dict[str, Any],
    intel_rdt: dict[str, Any] | None = None,
) -> None:
    """Apply ``resources``, in the shape of ``linux.resources``, to a container.

    What is not named stays as it is. When the kernel refuses a value, the ones before are set
    back, and the container keeps the limits that it had.

    :raises WrongStatus: ``container not running`` when it is stopped.
    :raises Error: with the file, the value and the kernel's reason.
    """
    from pyrunc.cgroups.driver import from_state

    entry = Store(settings.root).open(container_id)
    try:
        entry.lock()
        record = entry.load()
        if states.status_of(entry, record) in (states.STOPPED, states.CREATING):
            raise WrongStatus("container not running")
        if intel_rdt:
            raise Error("changing Intel RDT settings is not supported by this build yet")
        spec = entry.load_config()
        linux: dict[str, Any] = spec.setdefault("linux", {})  # type: ignore[assignment]
        before: dict[str, Any] = linux.get("resources") or {}
        changed = merge(before, resources)
        driver = from_state(record["cgroup"])
        try:
            driver.apply(changed)
        except (OSError, Error):
            known = {name: before[name] for name in changed if before.get(name)}
            try:
                driver.apply(known)
            except (OSError, Error) as error:
                settings.log.warn(f"cannot set the limits back: {error}")
            raise
        linux["resources"] = {**before, **changed}
        entry.save_config(spec)
        record["cgroup"] = driver.to_state()
        entry.save(record)
    finally:
        entry.close()


def merge(before: dict[str, Any], wanted: dict[str, Any]) -> dict[str, Any]:
    """Return the groups of ``wanted``, each completed with the values it had.

    A controller's values depend on each other (a quota on its period, swap on memory), so they
    are always given to the driver together; groups that are not named are left out.

    A memory limit that is taken away takes the one on memory and swap with it, unless that is
    named as well: the kernel would not have the one without the other.
    """
    merged: dict[str, Any] = {}
    for name, value in wanted.items():
        if name == "memory" and value and value.get("limit") == -1:
            merged[name] = {**(before.get(name) or {}), "swap": -1, **value}
        elif isinstance(value, dict) and name != "rdma":
            merged[name] = {**(before.get(name) or {}), **value}
        else:
            merged[name] = value
    return merged
