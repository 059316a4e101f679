"""What ``linux.resources`` may hold: config-linux.md#control-groups and on.

Limits are only checked for what they are; whether this host's controllers
take them is for the cgroups room and the kernel.
"""

from __future__ import annotations

from pyrunc.spec.kinds import (
    FINE,
    array,
    boolean,
    int64,
    integer,
    line,
    mapping,
    members,
    one_of,
    text,
    uint16,
    uint32,
    uint64,
    wrong,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyrunc.spec.kinds import Kind, Mistakes

_number = integer(0, 2**63 - 1)


def _access(value: object) -> Mistakes:
    if type(value) is str and not value.strip("rwm"):
        return FINE
    return wrong('a string made of "r", "w" and "m"', value)


def _page_size(value: object) -> Mistakes:
    """Take ``2MB`` and its like: the schema's ``^[1-9][0-9]*[KMG]B$``."""
    if type(value) is str and len(value) >= 3 and value[-2:] in ("KB", "MB", "GB"):
        size = value[:-2]
        if size.isascii() and size.isdigit() and size[0] != "0":
            return FINE
    return wrong("a page size such as 64KB, 2MB or 1GB", value)


def _cgroup_file(name: object) -> Mistakes:
    """Take the name of a file right in the cgroup's directory."""
    if type(name) is str and name not in ("", ".", "..") and "/" not in name and "\0" not in name:
        return FINE
    return wrong("a file name (no slashes)", name)


def _any_of(first: str, second: str) -> Kind:
    def check(entry: object) -> Mistakes:
        if first in entry or second in entry:  # type: ignore[operator]
            return FINE
        return (("", f"{first} or {second} at least", "neither"),)

    return check


def _burst_within_quota(cpu: dict[str, Any]) -> Mistakes:
    quota = cpu.get("quota", 0)
    if quota > 0 and cpu.get("burst", 0) > quota:
        return wrong(f"no more than the quota, {quota}", cpu["burst"], "burst")
    return FINE


_throttles = array(
    members(
        {"major": _number, "minor": _number, "rate": uint64}, required=("major", "minor", "rate")
    )
)

resources = members(
    {
        "devices": array(
            members(
                {
                    "allow": boolean,
                    "type": one_of("a", "b", "c", ""),
                    # As the kernel's dev_t has them. Engines write -1 for any.
                    "major": integer(-1, 2**12 - 1),
                    "minor": integer(-1, 2**20 - 1),
                    "access": _access,
                },
                required=("allow",),
            )
        ),
        "memory": members(
            {
                "limit": int64,
                "reservation": int64,
                "swap": int64,
                "kernel": int64,
                "kernelTCP": int64,
                "swappiness": integer(0, 100),
                "disableOOMKiller": boolean,
                "useHierarchy": boolean,
                "checkBeforeUpdate": boolean,
            }
        ),
        "cpu": members(
            {
                "shares": uint64,
                "quota": int64,
                "burst": uint64,
                "period": uint64,
                "realtimeRuntime": int64,
                "realtimePeriod": uint64,
                "cpus": line,
                "mems": line,
                "idle": int64,
            },
            rules=((("quota", "burst"), _burst_within_quota),),
        ),
        "pids": members({"limit": int64}),
        "blockIO": members(
            {
                "weight": uint16,
                "leafWeight": uint16,
                "weightDevice": array(
                    members(
                        {
                            "major": _number,
                            "minor": _number,
                            "weight": uint16,
                            "leafWeight": uint16,
                        },
                        required=("major", "minor"),
                        rules=((("weight", "leafWeight"), _any_of("weight", "leafWeight")),),
                    )
                ),
                "throttleReadBpsDevice": _throttles,
                "throttleWriteBpsDevice": _throttles,
                "throttleReadIOPSDevice": _throttles,
                "throttleWriteIOPSDevice": _throttles,
            }
        ),
        "hugepageLimits": array(
            members({"pageSize": _page_size, "limit": uint64}, required=("pageSize", "limit"))
        ),
        "network": members(
            {
                "classID": uint32,
                "priorities": array(
                    members({"name": line, "priority": uint32}, required=("name", "priority"))
                ),
            }
        ),
        "rdma": mapping(
            members(
                {"hcaHandles": uint32, "hcaObjects": uint32},
                rules=((("hcaHandles", "hcaObjects"), _any_of("hcaHandles", "hcaObjects")),),
            ),
            line,
        ),
        "unified": mapping(text, _cgroup_file),
    }
)
