"""``linux.resources`` as values for the files of cgroup v1: pure, an ordered list of writes."""

from __future__ import annotations

from pyrunc.cgroups.cgroupfs import refuse_odd_shares
from pyrunc.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    #: Controller, file, value.
    Write = tuple[str, str, str]

UNLIMITED = -1
_MICROSECONDS = "cpu.cfs_quota_us"


def early_writes(resources: Mapping[str, Any]) -> list[Write]:
    """Everything but memory, cpu and pids: what cannot squeeze the builder.

    The time for real-time processes comes with it, since without any ``process.scheduler``
    cannot ask for SCHED_FIFO or SCHED_RR (sched(7), CONFIG_RT_GROUP_SCHED).
    """
    if resources.get("unified"):
        raise Error(
            "linux.resources.unified needs cgroup v2, but this host uses cgroup v1; "
            "use the properties of the v1 controllers"
        )
    writes: list[Write] = []
    cpu = resources.get("cpu") or {}
    for member in ("cpus", "mems"):
        if cpu.get(member):
            writes.append(("cpuset", f"cpuset.{member}", cpu[member]))
    if cpu.get("realtimePeriod"):
        writes.append(("cpu", "cpu.rt_period_us", str(cpu["realtimePeriod"])))
    if cpu.get("realtimeRuntime"):
        writes.append(("cpu", "cpu.rt_runtime_us", str(cpu["realtimeRuntime"])))
    writes += _block_io(resources.get("blockIO") or {})
    for limit in resources.get("hugepageLimits") or ():
        size, value = limit["pageSize"], str(limit["limit"])
        writes.append(("hugetlb", f"hugetlb.{size}.limit_in_bytes", value))
        writes.append(("hugetlb", f"hugetlb.{size}.rsvd.limit_in_bytes?", value))
    network = resources.get("network") or {}
    if network.get("classID"):
        writes.append(("net_cls", "net_cls.classid", str(network["classID"])))
    for priority in network.get("priorities") or ():
        value = f"{priority['name']} {priority['priority']}"
        writes.append(("net_prio", "net_prio.ifpriomap", value))
    for device, limits in (resources.get("rdma") or {}).items():
        value = " ".join(
            f"{name}={limits[member]}"
            for member, name in (("hcaHandles", "hca_handle"), ("hcaObjects", "hca_object"))
            if limits.get(member) is not None
        )
        writes.append(("rdma", "rdma.max", f"{device} {value}"))
    return writes


def late_writes(resources: Mapping[str, Any]) -> list[Write]:
    """memory, cpu and pids."""
    writes = _memory(resources.get("memory") or {})
    writes += _cpu(resources.get("cpu") or {})
    limit = (resources.get("pids") or {}).get("limit")
    if limit is not None:
        # 0 is a limit like any other (config-linux.md, "PIDs").
        writes.append(("pids", "pids.max", str(limit) if limit >= 0 else "max"))
    return writes


def _memory(memory: Mapping[str, Any]) -> list[Write]:
    """Limit and swap come together: the driver puts them in the order that the kernel needs."""
    writes: list[Write] = []
    limit, swap = memory.get("limit"), memory.get("swap")
    if limit == UNLIMITED and swap is None:
        # No limit on memory but one on memory and swap cannot be: it goes as well.
        swap = UNLIMITED
    for name, value in (("memory.limit_in_bytes", limit), ("memory.memsw.limit_in_bytes", swap)):
        if value:
            writes.append(("memory", name, str(value)))
    for member, name in (
        # Without effect since Linux 5.16 (cgroup-v1/memory.rst).
        ("kernel", "memory.kmem.limit_in_bytes!"),
        ("reservation", "memory.soft_limit_in_bytes"),
        ("kernelTCP", "memory.kmem.tcp.limit_in_bytes"),
    ):
        if memory.get(member):
            writes.append(("memory", name, str(memory[member])))
    if memory.get("disableOOMKiller"):
        writes.append(("memory", "memory.oom_control", "1"))
    if (swappiness := memory.get("swappiness")) is not None:
        writes.append(("memory", "memory.swappiness", str(swappiness)))
    return writes


def _cpu(cpu: Mapping[str, Any]) -> list[Write]:
    writes: list[Write] = []
    if shares := cpu.get("shares"):
        refuse_odd_shares("cpu.shares", shares)
        writes.append(("cpu", "cpu.shares", str(shares)))
    if cpu.get("period"):
        writes.append(("cpu", "cpu.cfs_period_us", str(cpu["period"])))
    # A burst must not exceed the quota, so its place depends on which of them grows: the
    # driver tries again in the other order.
    if cpu.get("quota"):
        writes.append(("cpu", _MICROSECONDS, str(cpu["quota"])))
    if cpu.get("burst") is not None:
        writes.append(("cpu", "cpu.cfs_burst_us", str(cpu["burst"])))
    if cpu.get("idle") is not None:
        writes.append(("cpu", "cpu.idle", str(cpu["idle"])))
    return writes


def _block_io(block: Mapping[str, Any]) -> list[Write]:
    writes: list[Write] = []
    if block.get("weight"):
        writes.append(("blkio", "blkio.weight|blkio.bfq.weight", str(block["weight"])))
    if block.get("leafWeight"):
        writes.append(("blkio", "blkio.leaf_weight", str(block["leafWeight"])))
    for device in block.get("weightDevice") or ():
        number = f"{device['major']}:{device['minor']}"
        if device.get("weight"):
            name = "blkio.weight_device|blkio.bfq.weight_device"
            writes.append(("blkio", name, f"{number} {device['weight']}"))
        if device.get("leafWeight"):
            writes.append(("blkio", "blkio.leaf_weight_device", f"{number} {device['leafWeight']}"))
    for member, name in (
        ("throttleReadBpsDevice", "read_bps_device"),
        ("throttleWriteBpsDevice", "write_bps_device"),
        ("throttleReadIOPSDevice", "read_iops_device"),
        ("throttleWriteIOPSDevice", "write_iops_device"),
    ):
        for device in block.get(member) or ():
            value = f"{device['major']}:{device['minor']} {device['rate']}"
            writes.append(("blkio", f"blkio.throttle.{name}", value))
    return writes
