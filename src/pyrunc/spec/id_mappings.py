"""Id mappings: what config.json may hold of them, and how the kernel takes them.

``linux.uidMappings``, ``linux.gidMappings`` and the same members of a mount. The kernel takes a
uid_map in one write of less than a page, and at most 340 lines of it (user_namespaces(7)). A
config may have more: ranges that continue each other are joined when there are too many.
"""

from __future__ import annotations

from pyrunc import ids
from pyrunc.spec.kinds import FINE, array, id_number, integer, members, wrong

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from pyrunc.spec.kinds import Mistake, Mistakes
    from pyrunc.spec.types import IDMapping

MOST_LINES = 340
#: A map is written at once, in less than a page (map_write in kernel/user_namespace.c).
MOST_BYTES = 4095


def map_lines(mappings: Sequence[IDMapping]) -> str:
    """Return the content of /proc/PID/uid_map; longer than MOST_BYTES if it cannot be helped."""
    lines = _lines(mappings)
    if len(mappings) > MOST_LINES or len(lines) > MOST_BYTES:
        return _lines(_joined(mappings))
    return lines


def _lines(mappings: Sequence[IDMapping]) -> str:
    return "".join(f"{m['containerID']} {m['hostID']} {m['size']}\n" for m in mappings)


def _joined(mappings: Sequence[IDMapping]) -> list[IDMapping]:
    """Return as few ranges as mean the same."""
    joined: list[IDMapping] = []
    for mapping in sorted(mappings, key=lambda mapping: mapping["containerID"]):
        if joined:
            last = joined[-1]
            gap = mapping["containerID"] - last["containerID"]
            if gap == last["size"] == mapping["hostID"] - last["hostID"]:
                joined[-1] = {**last, "size": last["size"] + mapping["size"]}
                continue
        joined.append(mapping)
    return joined


def _ends_with_the_ids(id_mapping: dict[str, Any]) -> Mistakes:
    for name in ("containerID", "hostID"):
        if id_mapping[name] + id_mapping["size"] - 1 > ids.HIGHEST:
            words = f"no more ids than there are after {name} {id_mapping[name]}"
            return wrong(words, id_mapping["size"], "size")
    return FINE


_ranges = array(
    members(
        {"containerID": id_number, "hostID": id_number, "size": integer(1, ids.HIGHEST + 1)},
        required=("containerID", "hostID", "size"),
        rules=((("containerID", "hostID", "size"), _ends_with_the_ids),),
    ),
)


def id_mappings(value: object) -> Mistakes:
    """Take the mappings of a user namespace, or of a mount."""
    if mistakes := _ranges(value):
        return mistakes
    ranges: list[IDMapping] = value  # type: ignore[assignment]
    if len(ranges) > MOST_LINES and len(_joined(ranges)) > MOST_LINES:
        words = f"at most {MOST_LINES} ranges that do not continue each other"
        return (("", words, f"{len(ranges)} elements"),)
    return _overlaps(ranges) if len(ranges) > 1 else FINE


def _overlaps(ranges: list[IDMapping]) -> Mistakes:
    """The kernel takes no id twice, on either side (mappings_overlap in user_namespace.c)."""
    mistakes: list[Mistake] = []
    for name in ("containerID", "hostID"):
        places = sorted(range(len(ranges)), key=lambda place: ranges[place][name])
        before = places[0]
        for place in places[1:]:
            first, size = ranges[before][name], ranges[before]["size"]
            if ranges[place][name] < first + size:
                found = f"{ranges[place][name]}, one of the {size} from {first} on of [{before}]"
                mistakes.append((f"[{place}].{name}", "ids that no other range has", found))
            before = place
    return mistakes


def is_mapped(mappings: Sequence[IDMapping], inside: int) -> bool:
    """Tell whether an id of the container is one of those mapped."""
    return any(0 <= inside - m["containerID"] < m["size"] for m in mappings)
