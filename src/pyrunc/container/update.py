"""Changing the limits of a container that exists."""

from __future__ import annotations

from pyrunc.container.record import state as states
from pyrunc.container.record.store import Store
from pyrunc.errors import Error, NotSaved, WrongStatus

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from pyrunc.cgroups.driver import Driver
    from pyrunc.container.record.entry import Entry
    from pyrunc.container.record.record import Record
    from pyrunc.container.settings import Settings
    from pyrunc.spec.types import Spec


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
        record, status = states.take(entry)
        if status in (states.STOPPED, states.CREATING):
            raise WrongStatus(f"container not running{states.but_created(status)}")
        spec = entry.load_config()
        linux: dict[str, Any] = spec.setdefault("linux", {})  # type: ignore[assignment]
        before: dict[str, Any] = linux.get("resources") or {}
        changed = merge(before, resources, version=record["cgroup"].get("version", 1))
        driver = from_state(record["cgroup"])
        if intel_rdt:
            _change_schemas(entry, record, linux, intel_rdt, driver.processes())
        linux["resources"] = {**before, **changed}
        record["cgroup"] = driver.to_state()
        # Written before anything changes: a full disk is found out in time.
        files: dict[str, Spec | Record] = {"config.json": spec, "state.json": record}
        entry.prepare(files)
        try:
            driver.apply(changed)
            entry.commit(files)
        except (OSError, Error) as error:
            entry.discard(files)
            known = {name: before[name] for name in changed if before.get(name)}
            back = _set_back(settings, driver, known, changed)
            if isinstance(error, NotSaved):
                raise Error(f"{error}; {back}") from None
            raise
    finally:
        entry.close()


def _set_back(
    settings: Settings, driver: Driver, known: dict[str, Any], changed: dict[str, Any]
) -> str:
    """Apply the limits that the container had; return what to tell of those it has now."""
    try:
        driver.apply(known)
    except (OSError, Error) as error:
        settings.log.warn(f"cannot set the limits back: {error}")
        return "the new limits are in force, but not on record"
    if unset := sorted(changed.keys() - known.keys()):
        return f"the limits that it had are in force again, but for new ones ({', '.join(unset)})"
    return "the limits that it had are in force again"


def _change_schemas(
    entry: Entry,
    record: Record,
    linux: dict[str, Any],
    schemas: dict[str, Any],
    pids: Iterable[int],
) -> None:
    """Write new schemas to the container's class of service; it gets one if it has none.

    :raises Error: when the kernel refuses, or has no Intel RDT.
    """
    from pyrunc.cgroups import resctrl

    if record.get("intelRdt"):
        group = resctrl.from_state(record["intelRdt"])
        for schema in schemas.values():
            group.write_schema(schema)
    else:
        group = resctrl.open_group({}, record["id"])
        try:
            group.create(schemas)  # type: ignore[arg-type]
            group.attach(resctrl.tasks_of(pids))
            record["intelRdt"] = group.to_state()
            entry.save(record)
        except BaseException:
            group.destroy(undo=True)
            raise
    linux["intelRdt"] = {**(linux.get("intelRdt") or {}), **schemas}


#: Members whose zero, or empty text, stands for "not set", as in config.json.
_UNSET_WHEN_ZERO = {
    "memory": ("limit", "swap", "reservation", "kernel", "kernelTCP"),
    "cpu": (
        "shares", "quota", "period", "realtimePeriod", "realtimeRuntime", "cpus", "mems",
    ),
    "blockIO": ("weight", "leafWeight"),
    "pids": ("limit",),
}  # fmt: skip


def merge(before: dict[str, Any], wanted: dict[str, Any], *, version: int = 1) -> dict[str, Any]:
    """Return the groups of ``wanted``, each completed with the values it had.

    A controller's values depend on each other (a quota on its period, swap on memory), so they
    are always given to the driver together; groups that are not named are left out.

    :param version: of the cgroups.
    """
    merged: dict[str, Any] = {}
    for name, value in wanted.items():
        if not isinstance(value, dict) or name == "rdma":
            merged[name] = value
            continue
        had = before.get(name) or {}
        zeros = _UNSET_WHEN_ZERO.get(name, ())
        named = {member: x for member, x in value.items() if x or member not in zeros}
        merged[name] = {**had, **named}
        if name == "memory" and "limit" in named and "swap" not in named:
            merged[name] |= _swap_for(named["limit"], had, version)
    return merged


def _swap_for(limit: int, had: dict[str, Any], version: int) -> dict[str, int]:
    """Return the limit on memory and swap together that goes with a new one on memory alone.

    Without a limit on memory there can be none on both. Else it stays what it was on v1; on v2,
    which has a limit on swap, that one stays.
    """
    old, both = had.get("limit") or -1, had.get("swap") or -1
    if limit == -1:
        return {"swap": -1}
    if version == 2 and old > 0 and both > 0:
        return {"swap": limit + both - old}
    return {}
