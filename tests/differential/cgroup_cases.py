"""The limits, and the changes of limits, that are compared between runtimes; pure.

Each case is given to every runtime in the same words. What comes of it is never written down
here: it is read from the cgroups.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

MIB = 1 << 20


class Limits(NamedTuple):
    """``linux.resources`` of a container."""

    name: str
    resources: dict[str, Any]


class Change(NamedTuple):
    """A container with ``before`` as its limits is given ``pyrunc update`` with ``arguments``."""

    name: str
    before: dict[str, Any]
    arguments: tuple[str, ...] = ()
    #: The contents of the file for --resources, when that is how it is done.
    resources: dict[str, Any] | str | None = None


def a_disk() -> tuple[int, int]:
    """Return the numbers of a block device that the kernel lets be throttled.

    Where there is none, those of one that never is: the refusals are compared then.
    """
    for device in sorted(Path("/sys/block").glob("*")):
        if (device / "queue").is_dir() and (device / "size").read_text().strip() != "0":
            major, minor = (device / "dev").read_text().split(":")
            return int(major), int(minor)
    return 240, 0


def limits() -> list[Limits]:
    """Return a case for each member of ``linux.resources``, and for members that meet."""
    return [
        Limits("nothing", {}),
        *(Limits(f"memory {name}", {"memory": value}) for name, value in MEMORY.items()),
        *(Limits(f"cpu {name}", {"cpu": value}) for name, value in CPU.items()),
        *(Limits(f"pids {limit}", {"pids": {"limit": limit}}) for limit in (-1, 1, 100, 5000000)),
        *(Limits(f"blockIO {name}", {"blockIO": value}) for name, value in block_io().items()),
        *(
            Limits(f"hugepages {name}", {"hugepageLimits": value})
            for name, value in HUGE_PAGES.items()
        ),
        *(Limits(f"network {name}", {"network": value}) for name, value in NETWORK.items()),
        *(Limits(f"devices {name}", {"devices": value}) for name, value in DEVICES.items()),
        *(Limits(f"rdma {name}", {"rdma": value}) for name, value in RDMA.items()),
        Limits(
            "together",
            {
                "memory": {"limit": 128 * MIB, "swap": 256 * MIB, "reservation": 64 * MIB},
                "cpu": {"shares": 512, "quota": 40000, "period": 80000, "cpus": "0"},
                "pids": {"limit": 32},
            },
        ),
    ]


MEMORY: dict[str, dict[str, Any]] = {
    "limit": {"limit": 64 * MIB},
    "limit not of whole pages": {"limit": 64 * MIB + 1},
    "no limit": {"limit": -1},
    "limit zero": {"limit": 0},
    "too small": {"limit": 4096},
    "reservation": {"reservation": 32 * MIB},
    "no reservation": {"reservation": -1},
    "reservation over the limit": {"limit": 32 * MIB, "reservation": 64 * MIB},
    "swap": {"limit": 64 * MIB, "swap": 128 * MIB},
    "swap same as limit": {"limit": 64 * MIB, "swap": 64 * MIB},
    "any swap": {"limit": 64 * MIB, "swap": -1},
    "swap zero": {"limit": 64 * MIB, "swap": 0},
    "swap alone": {"swap": 128 * MIB},
    "any swap alone": {"swap": -1},
    "swap below the limit": {"limit": 64 * MIB, "swap": 32 * MIB},
    "no limit with swap": {"limit": -1, "swap": 128 * MIB},
    "no limit with any swap": {"limit": -1, "swap": -1},
    "swappiness": {"swappiness": 17},
    "swappiness zero": {"swappiness": 0},
    "swappiness a hundred": {"swappiness": 100},
    "swappiness too high": {"swappiness": 101},
    "no out-of-memory killer": {"limit": 64 * MIB, "disableOOMKiller": True},
    "no out-of-memory killer without limit": {"disableOOMKiller": True},
    "an out-of-memory killer": {"disableOOMKiller": False},
    "kernel": {"kernel": 32 * MIB},
    "kernelTCP": {"kernelTCP": 16 * MIB},
    "no limit of kernelTCP": {"kernelTCP": -1},
    "hierarchy": {"useHierarchy": True},
    "no hierarchy": {"useHierarchy": False},
    "check before update": {"limit": 64 * MIB, "checkBeforeUpdate": True},
}

CPU: dict[str, dict[str, Any]] = {
    "shares": {"shares": 512},
    "shares zero": {"shares": 0},
    "shares too low": {"shares": 1},
    "shares lowest": {"shares": 2},
    "shares highest": {"shares": 262144},
    "shares too high": {"shares": 262145},
    "quota": {"quota": 20000},
    "no quota": {"quota": -1},
    "quota zero": {"quota": 0},
    "quota too low": {"quota": 10},
    "period": {"period": 50000},
    "period zero": {"period": 0},
    "period too low": {"period": 10},
    "period too long": {"period": 2000000},
    "quota and period": {"quota": 30000, "period": 60000},
    "no quota but a period": {"quota": -1, "period": 60000},
    "burst": {"quota": 50000, "burst": 10000},
    "burst zero": {"quota": 50000, "burst": 0},
    "burst over the quota": {"quota": 50000, "burst": 60000},
    "burst alone": {"burst": 1000},
    "realtime runtime": {"realtimeRuntime": 1000},
    "realtime runtime zero": {"realtimeRuntime": 0},
    "realtime period": {"realtimePeriod": 500000},
    "realtime both": {"realtimePeriod": 500000, "realtimeRuntime": 1000},
    "realtime over the period": {"realtimePeriod": 500000, "realtimeRuntime": 600000},
    "cpus": {"cpus": "0"},
    "cpus as a range": {"cpus": "0-1"},
    "cpus that are not": {"cpus": "4000"},
    "cpus nonsense": {"cpus": "zero"},
    "mems": {"mems": "0"},
    "mems that are not": {"mems": "31"},
    "cpus and mems": {"cpus": "1", "mems": "0"},
    "idle": {"idle": 1},
    "not idle": {"idle": 0},
    "idle with shares": {"idle": 1, "shares": 100},
}


def block_io() -> dict[str, dict[str, Any]]:
    major, minor = a_disk()
    disk = {"major": major, "minor": minor}
    none = {"major": 240, "minor": 250}
    return {
        "weight": {"weight": 300},
        "weight zero": {"weight": 0},
        "weight too low": {"weight": 5},
        "weight too high": {"weight": 1001},
        "leaf weight": {"leafWeight": 300},
        "weight of a disk": {"weightDevice": [{**disk, "weight": 400}]},
        "leaf weight of a disk": {"weightDevice": [{**disk, "leafWeight": 400}]},
        "weight of no disk": {"weightDevice": [{**none, "weight": 400}]},
        **{
            member: {member: [{**disk, "rate": rate}]}
            for member, rate in (
                ("throttleReadBpsDevice", 1048576),
                ("throttleWriteBpsDevice", 2097152),
                ("throttleReadIOPSDevice", 100),
                ("throttleWriteIOPSDevice", 200),
            )
        },
        "all throttles": {
            "throttleReadBpsDevice": [{**disk, "rate": 1048576}],
            "throttleWriteBpsDevice": [{**disk, "rate": 1048577}],
            "throttleReadIOPSDevice": [{**disk, "rate": 1000}],
            "throttleWriteIOPSDevice": [{**disk, "rate": 1001}],
        },
        "throttle twice": {
            "throttleReadBpsDevice": [{**disk, "rate": 1048576}, {**disk, "rate": 4194304}]
        },
        "throttle zero": {"throttleReadBpsDevice": [{**disk, "rate": 0}]},
        "throttle no disk": {"throttleReadBpsDevice": [{**none, "rate": 1048576}]},
        "empty lists": {"weightDevice": [], "throttleReadBpsDevice": []},
    }


HUGE_PAGES: dict[str, list[dict[str, Any]]] = {
    "2MB": [{"pageSize": "2MB", "limit": 4 * MIB}],
    "1GB": [{"pageSize": "1GB", "limit": 1 << 30}],
    "both": [{"pageSize": "2MB", "limit": 4 * MIB}, {"pageSize": "1GB", "limit": 1 << 30}],
    "zero": [{"pageSize": "2MB", "limit": 0}],
    "a size that is not": [{"pageSize": "3MB", "limit": 0}],
    "a size in other words": [{"pageSize": "2048kB", "limit": 0}],
}

NETWORK: dict[str, dict[str, Any]] = {
    "class": {"classID": 0x100001},
    "class zero": {"classID": 0},
    "class largest": {"classID": (1 << 32) - 1},
    "priority": {"priorities": [{"name": "lo", "priority": 5}]},
    "priority of no interface": {"priorities": [{"name": "nothere0", "priority": 5}]},
    "class and priority": {"classID": 65537, "priorities": [{"name": "lo", "priority": 9}]},
}

_DENY_ALL = {"allow": False, "access": "rwm"}

DEVICES: dict[str, list[dict[str, Any]]] = {
    "none": [],
    "deny all": [_DENY_ALL],
    "allow all": [{"allow": True, "access": "rwm"}],
    "deny, then one": [
        _DENY_ALL,
        {"allow": True, "type": "c", "major": 10, "minor": 229, "access": "rwm"},
    ],
    "deny, then a part of an access": [
        _DENY_ALL,
        {"allow": True, "type": "c", "major": 10, "minor": 229, "access": "r"},
        {"allow": True, "type": "b", "major": 7, "access": "rm"},
    ],
    "deny, then a major": [
        _DENY_ALL,
        {"allow": True, "type": "b", "major": 254, "access": "rw"},
    ],
    "deny, allow, deny a part": [
        _DENY_ALL,
        {"allow": True, "type": "c", "major": 10, "minor": 229, "access": "rwm"},
        {"allow": False, "type": "c", "major": 10, "minor": 229, "access": "w"},
    ],
    "allow all, then deny one": [
        {"allow": True, "access": "rwm"},
        {"allow": False, "type": "c", "major": 10, "minor": 229, "access": "rwm"},
    ],
    "deny a device of the defaults": [
        _DENY_ALL,
        {"allow": False, "type": "c", "major": 1, "minor": 5, "access": "rwm"},
    ],
}

RDMA: dict[str, dict[str, Any]] = {
    "of a device that is not": {"mlx5_9": {"hcaHandles": 3, "hcaObjects": 10}},
}

#: Limits that a changed container has had before: enough that a change could lose some.
SOME: dict[str, Any] = {
    "memory": {"limit": 64 * MIB, "swap": 128 * MIB, "reservation": 32 * MIB},
    "cpu": {"shares": 512, "quota": 40000, "period": 80000, "cpus": "0-1", "mems": "0"},
    "pids": {"limit": 100},
}
_NONE: dict[str, Any] = {}


def _flags(before: dict[str, Any], *lines: str) -> list[Change]:
    kind = "limits" if before else "no limits"
    return [Change(f"{kind}: {line}", before, tuple(line.split())) for line in lines]


FLAG_CHANGES = [
    *_flags(
        SOME,
        "",
        "--memory 32m",
        "--memory 33554432",
        "--memory 96M",
        "--memory 256m",
        "--memory 256m --memory-swap 512m",
        "--memory 16m --memory-swap 16m",
        "--memory -1",
        "--memory 0",
        "--memory 1",
        "--memory lots",
        "--memory-swap 64m",
        "--memory-swap 32m",
        "--memory-swap -1",
        "--memory-swap 0",
        "--memory-reservation 16m",
        "--memory-reservation 48M",
        "--memory-reservation -1",
        "--cpu-share 200",
        "--cpu-share 0",
        "--cpu-share 1",
        "--cpu-share -5",
        "--cpu-quota 10000",
        "--cpu-quota -1",
        "--cpu-quota 0",
        "--cpu-quota 5",
        "--cpu-period 100000",
        "--cpu-period 0",
        "--cpu-period 5",
        "--cpu-period 20000",
        "--cpu-quota 500000 --cpu-period 1000000",
        "--cpu-quota 3000 --cpu-period 3000",
        "--cpu-rt-period 400000",
        "--cpu-rt-runtime 1000",
        "--cpu-rt-period 900000 --cpu-rt-runtime 500",
        "--cpuset-cpus 1",
        "--cpuset-cpus 0,1",
        "--cpuset-cpus 77",
        "--cpuset-cpus x",
        "--cpuset-mems 0",
        "--cpuset-mems 9",
        "--pids-limit 10",
        "--pids-limit 0",
        "--pids-limit -1",
        "--pids-limit ten",
        "--blkio-weight 500",
        "--blkio-weight 0",
        "--blkio-weight 5",
        "--blkio-weight 5000",
        "--memory 80m --cpu-share 77 --pids-limit 33 --cpuset-cpus 0",
        "--memory 80m --cpuset-cpus 77",
        "--no-such-flag",
    ),
    *_flags(
        _NONE,
        "--memory 64m",
        "--memory-swap 64m",
        "--memory-swap -1",
        "--memory 64m --memory-swap 64m",
        "--memory-reservation 16m",
        "--cpu-share 200",
        "--cpu-quota 10000",
        "--cpu-period 30000",
        "--cpuset-cpus 1",
        "--pids-limit 10",
    ),
]


def _file(name: str, resources: dict[str, Any] | str, before: dict[str, Any] = SOME) -> Change:
    return Change(f"file: {name}", before, (), resources)


FILE_CHANGES = [
    _file("empty", {}),
    _file("memory", {"memory": {"limit": 48 * MIB}}),
    _file("memory and swap", {"memory": {"limit": 256 * MIB, "swap": 256 * MIB}}),
    _file("no limits of memory", {"memory": {"limit": -1, "swap": -1, "reservation": -1}}),
    _file("zeros", {"memory": {"limit": 0, "reservation": 0, "swap": 0}, "cpu": {"shares": 0}}),
    _file("check before update", {"memory": {"limit": 4096, "checkBeforeUpdate": True}}),
    _file("kernel memory", {"memory": {"kernelTCP": 32 * MIB}}),
    _file("swappiness", {"memory": {"swappiness": 5}}),
    _file("no out-of-memory killer", {"memory": {"disableOOMKiller": True}}),
    _file("cpu", {"cpu": {"shares": 300, "quota": 25000, "period": 50000}}),
    _file("cpu burst", {"cpu": {"burst": 5000}}),
    _file("cpu idle", {"cpu": {"idle": 1}}),
    _file("cpuset", {"cpu": {"cpus": "1", "mems": "0"}}),
    _file("real time", {"cpu": {"realtimePeriod": 400000, "realtimeRuntime": 1000}}),
    _file("pids", {"pids": {"limit": 20}}),
    _file("pids -1", {"pids": {"limit": -1}}),
    _file("weight", {"blockIO": {"weight": 200}}),
    _file(
        "throttle",
        {
            "blockIO": {
                "throttleReadBpsDevice": [
                    {"major": a_disk()[0], "minor": a_disk()[1], "rate": 1048576}
                ]
            }
        },
    ),
    _file("huge pages", {"hugepageLimits": [{"pageSize": "2MB", "limit": 4 * MIB}]}),
    _file("class", {"network": {"classID": 7}}),
    _file("priority", {"network": {"priorities": [{"name": "lo", "priority": 3}]}}),
    _file(
        "devices",
        {"devices": [{"allow": True, "type": "c", "major": 10, "minor": 229, "access": "rwm"}]},
    ),
    _file("not JSON", "memory: 5"),
    _file("wrong type", '{"memory": {"limit": "much"}}'),
    _file("unknown member", '{"memory": {"ceiling": 5}}'),
    _file("a list", "[]"),
    _file("nothing at all", ""),
    _file("memory for one that had no limit", {"memory": {"limit": 48 * MIB}}, _NONE),
]
