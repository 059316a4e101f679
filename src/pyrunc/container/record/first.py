"""The record of a container that is about to be made, or made again."""

from __future__ import annotations

import posix

from pyrunc.container.record import state as states
from pyrunc.container.record.record import RECORD_FORMAT
from pyrunc.container.record.timestamps import now
from pyrunc.plan.planner import root_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyrunc.container.record.record import Record
    from pyrunc.container.settings import Settings
    from pyrunc.spec.types import Spec


def first_record(
    settings: Settings,
    container_id: str,
    bundle: str,
    spec: Spec,
    cgroup: dict[str, Any],
    owner: str = "",
) -> Record:
    """Return what is known of a container before it has a process.

    :param cgroup: what its driver is found again by.
    :param owner: the caller's login name, if it is known.
    """
    namespaces = spec.get("linux", {}).get("namespaces") or ()
    record: Record = {
        "format": RECORD_FORMAT,
        "ociVersion": spec["ociVersion"],
        "id": container_id,
        "bundle": bundle,
        "rootfs": root_path(spec, bundle),
        "created": now(),
        "owner": owner or states.owner_name(posix.getuid()),
        "ownerUid": posix.getuid(),
        "annotations": spec.get("annotations") or {},
        "phase": states.CREATING,
        "pid": 0,
        "startTime": 0,
        "cgroup": cgroup,
        "rootless": settings.rootless,
    }
    if not any(n["type"] == "pid" and not n.get("path") for n in namespaces):
        record["sharedPidNamespace"] = True
    if kept := {k: v for k, v in spec.get("hooks", {}).items() if k.startswith("post")}:
        record["hooks"] = kept  # type: ignore[typeddict-item]
    return record
