"""What of ``linux.resources`` cannot be kept where a container has no cgroup to keep it.

Nothing fails open: what the config asks for is an error then, what every container gets by
default a warning. Only loaded where a cgroup, or one of its controllers, is missing.
"""

from __future__ import annotations

from pyrunc.cgroups.device_filter import fold
from pyrunc.cgroups.devices import rules_for
from pyrunc.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

NO_DEVICES_HIERARCHY = (
    "the devices controller of cgroup v1 is not mounted, or the container has no cgroup in it"
)
NO_DEVICE_FILTER = "no device filter can be attached to a cgroup of the container's own"
#: What callers write for "nothing asked for".
_NOTHING = (None, 0, -1, False, "")


def check_device_rules(
    resources: Mapping[str, Any], why: str, *, in_user_namespace: bool, wanted: bool = False
) -> str:
    """Return a warning for the default rules; none where there is nothing to keep.

    :param why: what is missing, in words.
    :param in_user_namespace: no device can be made there, so that all are denied which the
        container does not get.
    :param wanted: it is the caller who wants no cgroups, so that a warning will do.
    :raises Error: for rules that the config asks for.
    """
    entries = resources.get("devices")
    folded = fold(rules_for(entries))
    if folded.default_allow and not folded.accesses:
        return ""
    if in_user_namespace and not folded.default_allow:
        return ""
    if entries and not wanted:
        raise Error(f"linux.resources.devices cannot be enforced: {why}")
    return f"the container may use every device that it can make: {why}"


def check_limits(resources: Mapping[str, Any], why: str) -> None:
    """:raises Error: for any limit that is asked for."""
    for name, value in resources.items():
        if name != "devices" and asks_for_anything(value):
            raise Error(f"linux.resources.{name} cannot be enforced: {why}")


def asks_for_anything(value: object) -> bool:
    """Tell whether a value, or any in it, is more than a way of saying that none is given."""
    if isinstance(value, dict):
        return any(asks_for_anything(x) for x in value.values())
    if isinstance(value, list):
        return any(asks_for_anything(x) for x in value)
    return value not in _NOTHING
