"""``linux.resources`` as values for the files of cgroup v2: pure, an ordered list of writes.

The configuration speaks of v1; what has another scale on v2 is converted here
(config-linux.md, "Unified": the runtime may attempt a conversion).
"""

from __future__ import annotations

from pyrunc.cgroups.cgroupfs import refuse_odd_shares
from pyrunc.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    #: File, value.
    Write = tuple[str, str]

_LATE = ("memory.", "cpu.", "pids.")
_DEFAULT_PERIOD = 100_000


def weight_of_shares(shares: int) -> int:
    """Convert ``cpu.shares`` (2 to 262144) to ``cpu.weight`` (1 to 10000).

    On the logarithms' parabola through both ends and both defaults, (2, 1), (1024, 100) and
    (262144, 10000), rounded up: the conversion of runc since 1.3.2 and of newer crun, beside
    whose containers ours must get the same share.

    :raises Error: for shares that v1's kernel does not have.
    """
    refuse_odd_shares("cpu.weight", shares)
    from math import ceil, log2

    x = log2(shares)
    # Whole numbers are to stay whole, however the machine rounds.
    return ceil(round(10 ** ((x * x + 125 * x) / 612 - 7 / 34), 9))


def io_weight_of(weight: int) -> int:
    """Convert ``blkio.weight`` (10 to 1000) to ``io.weight`` (1 to 10000)."""
    return 1 + (weight - 10) * 9999 // 990


def early_writes(resources: Mapping[str, Any]) -> list[Write]:
    """Everything but memory, cpu and pids.

    :raises Error: when a limit of v1's has nothing on v2 that it could become.
    """
    _refuse_what_v2_lacks(resources)
    writes: list[Write] = []
    cpu = resources.get("cpu") or {}
    writes += [(f"cpuset.{m}", cpu[m]) for m in ("cpus", "mems") if cpu.get(m)]
    writes += _block_io(resources.get("blockIO") or {})
    for limit in resources.get("hugepageLimits") or ():
        size, value = limit["pageSize"], str(limit["limit"])
        writes.append((f"hugetlb.{size}.max", value))
        writes.append((f"hugetlb.{size}.rsvd.max?", value))
    for device, limits in (resources.get("rdma") or {}).items():
        value = " ".join(
            f"{name}={limits[member]}"
            for member, name in (("hcaHandles", "hca_handle"), ("hcaObjects", "hca_object"))
            if limits.get(member) is not None
        )
        writes.append(("rdma.max", f"{device} {value}"))
    return writes + _unified(resources, late=False)


def _refuse_what_v2_lacks(resources: Mapping[str, Any]) -> None:
    """config-linux.md, "Unified": where no conversion is possible there must be an error.

    Zeros, false and -1 for unlimited are what engines write for "nothing asked".
    """
    memory, cpu = resources.get("memory") or {}, resources.get("cpu") or {}
    block, network = resources.get("blockIO") or {}, resources.get("network") or {}
    devices = enumerate(block.get("weightDevice") or ())
    for member, asked in (
        ("memory.kernel", memory.get("kernel", 0) > 0),
        ("memory.kernelTCP", memory.get("kernelTCP", 0) > 0),
        ("memory.swappiness", memory.get("swappiness")),
        ("memory.disableOOMKiller", memory.get("disableOOMKiller")),
        ("cpu.realtimeRuntime", cpu.get("realtimeRuntime")),
        ("cpu.realtimePeriod", cpu.get("realtimePeriod")),
        ("blockIO.leafWeight", block.get("leafWeight")),
        *((f"blockIO.weightDevice[{i}].leafWeight", d.get("leafWeight")) for i, d in devices),
        ("network.classID", network.get("classID")),
        ("network.priorities", network.get("priorities")),
    ):
        if asked:
            raise Error(
                f"linux.resources.{member} has no equivalent on cgroup v2, which this host uses; "
                "leave it out, or see linux.resources.unified"
            )


def late_writes(resources: Mapping[str, Any]) -> list[Write]:
    """memory, cpu and pids, and what ``unified`` says about them."""
    writes = _memory(resources.get("memory") or {})
    writes += _cpu(resources.get("cpu") or {})
    limit = (resources.get("pids") or {}).get("limit")
    if limit is not None:
        writes.append(("pids.max", _or_max(limit)))
    return writes + _unified(resources, late=True)


def _or_max(value: int) -> str:
    return "max" if value < 0 else str(value)


def _memory(memory: Mapping[str, Any]) -> list[Write]:
    writes: list[Write] = []
    limit, swap = memory.get("limit"), memory.get("swap")
    if limit == -1 and swap is None:
        swap = -1
    if swap:
        writes.append(("memory.swap.max", _swap_maximum(limit, swap)))
    if limit:
        writes.append(("memory.max", _or_max(limit)))
    if memory.get("reservation"):
        writes.append(("memory.low", _or_max(memory["reservation"])))
    return writes


def _swap_maximum(limit: int | None, swap: int) -> str:
    """On v1 the limit is of memory and swap together, on v2 of swap alone."""
    if swap == -1:
        return "max"
    if limit == -1:
        raise Error("linux.resources.memory: a swap limit needs a memory limit on cgroup v2")
    if limit is None:
        raise Error("linux.resources.memory: swap cannot be set without limit on cgroup v2")
    if swap < limit:
        raise Error("linux.resources.memory: swap (memory and swap together) is less than limit")
    return str(swap - limit)


def _cpu(cpu: Mapping[str, Any]) -> list[Write]:
    writes: list[Write] = []
    if cpu.get("idle") is not None:
        writes.append(("cpu.idle", str(cpu["idle"])))
    # A group that is idle has no weight of its own.
    if cpu.get("shares") and not cpu.get("idle"):
        writes.append(("cpu.weight", str(weight_of_shares(cpu["shares"]))))
    quota, period = cpu.get("quota"), cpu.get("period")
    if quota or period:
        amount = str(quota) if quota and quota > 0 else "max"
        writes.append(("cpu.max", f"{amount} {period or _DEFAULT_PERIOD}"))
    if cpu.get("burst") is not None:
        writes.append(("cpu.max.burst", str(cpu["burst"])))
    return writes


def _block_io(block: Mapping[str, Any]) -> list[Write]:
    """``a|b:value`` where the scale depends on which file there is."""
    writes: list[Write] = []
    if block.get("weight"):
        weight = block["weight"]
        writes.append((f"io.bfq.weight={weight}|io.weight", f"default {io_weight_of(weight)}"))
    for device in block.get("weightDevice") or ():
        if device.get("weight"):
            number = f"{device['major']}:{device['minor']}"
            converted = io_weight_of(device["weight"])
            name = f"io.bfq.weight={number} {device['weight']}|io.weight"
            writes.append((name, f"{number} {converted}"))
    for member, key in (
        ("throttleReadBpsDevice", "rbps"),
        ("throttleWriteBpsDevice", "wbps"),
        ("throttleReadIOPSDevice", "riops"),
        ("throttleWriteIOPSDevice", "wiops"),
    ):
        for device in block.get(member) or ():
            value = f"{device['major']}:{device['minor']} {key}={device['rate'] or 'max'}"
            writes.append(("io.max", value))
    return writes


def _unified(resources: Mapping[str, Any], *, late: bool) -> list[Write]:
    """Files written as they are named; a value of several lines takes a write for each."""
    writes: list[Write] = []
    for name, value in sorted((resources.get("unified") or {}).items()):
        if "/" in name or name in ("", ".", ".."):
            raise Error(f"linux.resources.unified: {name!r} is not the name of a cgroup file")
        if name.startswith(_LATE) == late:
            writes += [(name, line) for line in value.splitlines() or [""]]
    return writes
