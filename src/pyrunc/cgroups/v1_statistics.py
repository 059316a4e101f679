"""Statistics of cgroup v1, in the shape of ``runc events --stats``.

Members that Go leaves out when they are empty are left out here as well; callers
unmarshal into the same structures.
"""

from __future__ import annotations

import posix

from pyrunc.cgroups.cgroupfs import read_optional

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: USER_HZ is 100 on x86_64 and aarch64 (time(7)); cpuacct.stat counts in it.
_TICK = 10_000_000
_CPUSET_NUMBERS = (
    ("cpu_exclusive", "cpuset.cpu_exclusive"),
    ("mem_hardwall", "cpuset.mem_hardwall"),
    ("mem_exclusive", "cpuset.mem_exclusive"),
    ("memory_migrate", "cpuset.memory_migrate"),
    ("memory_spread_page", "cpuset.memory_spread_page"),
    ("memory_spread_slab", "cpuset.memory_spread_slab"),
    ("memory_pressure", "cpuset.memory_pressure"),
    ("sched_load_balance", "cpuset.sched_load_balance"),
    ("sched_relax_domain_level", "cpuset.sched_relax_domain_level"),
)
_BLOCK_IO = (
    (
        "ioServiceBytesRecursive",
        "io_service_bytes_recursive",
        "throttle.io_service_bytes_recursive",
    ),
    ("ioServicedRecursive", "io_serviced_recursive", "throttle.io_serviced_recursive"),
    ("ioQueueRecursive", "io_queued_recursive", ""),
    ("ioServiceTimeRecursive", "io_service_time_recursive", ""),
    ("ioWaitTimeRecursive", "io_wait_time_recursive", ""),
    ("ioMergedRecursive", "io_merged_recursive", ""),
    ("ioTimeRecursive", "time_recursive", ""),
    ("sectorsRecursive", "sectors_recursive", ""),
)


def statistics(paths: dict[str, str]) -> dict[str, Any]:
    """Return the ``data`` of a stats event for the cgroups at ``paths``."""
    return {
        "cpu": _cpu(paths),
        "cpuset": _cpuset(paths.get("cpuset", "")),
        "memory": _memory(paths.get("memory", "")),
        "pids": _pids(paths.get("pids", "")),
        "blkio": _block_io(paths.get("blkio", "")),
        "hugetlb": _huge_pages(paths.get("hugetlb", "")),
        "intel_rdt": {},
        "network_interfaces": None,
    }


def _text(path: str, name: str) -> str:
    return read_optional(path, name) if path else ""


def _number(path: str, name: str) -> int:
    text = _text(path, name).strip()
    return int(text) if text and text != "max" else 0


def _pairs(path: str, name: str) -> dict[str, int]:
    return {key: int(value) for key, value in (x.split() for x in _text(path, name).splitlines())}


def _cpu(paths: dict[str, str]) -> dict[str, Any]:
    accounting = paths.get("cpuacct", "")
    ticks = _pairs(accounting, "cpuacct.stat")
    kernel: list[int] = []
    user: list[int] = []
    for line in _text(accounting, "cpuacct.usage_all").splitlines()[1:]:
        _, in_user, in_kernel = line.split()
        user.append(int(in_user))
        kernel.append(int(in_kernel))
    usage: dict[str, Any] = {
        "total": _number(accounting, "cpuacct.usage"),
        "percpu": [int(n) for n in _text(accounting, "cpuacct.usage_percpu").split()],
        "percpu_kernel": kernel,
        "percpu_user": user,
        "kernel": ticks.get("system", 0) * _TICK,
        "user": ticks.get("user", 0) * _TICK,
    }
    throttled = _pairs(paths.get("cpu", ""), "cpu.stat")
    throttling = {
        "periods": throttled.get("nr_periods", 0),
        "throttledPeriods": throttled.get("nr_throttled", 0),
        "throttledTime": throttled.get("throttled_time", 0),
    }
    for name in ("percpu", "percpu_kernel", "percpu_user", "total"):
        if not usage[name]:
            del usage[name]
    return {"usage": usage, "throttling": {k: v for k, v in throttling.items() if v}}


def _cpuset(path: str) -> dict[str, Any]:
    from pyrunc.linux.number_lists import numbers_of

    result: dict[str, Any] = {}
    for name in ("cpus", "mems"):
        numbers = numbers_of(_text(path, f"cpuset.{name}").strip())
        if numbers:
            result[name] = numbers
    for name, file in _CPUSET_NUMBERS:
        result[name] = _number(path, file)
    order = ("cpus", "cpu_exclusive", "mems", *(name for name, _ in _CPUSET_NUMBERS[1:]))
    return {name: result[name] for name in order if name in result}


def _memory(path: str) -> dict[str, Any]:
    raw = _pairs(path, "memory.stat")
    result: dict[str, Any] = {}
    if raw.get("cache"):
        result["cache"] = raw["cache"]
    for name, prefix in (
        ("usage", "memory."),
        ("swap", "memory.memsw."),
        ("kernel", "memory.kmem."),
        ("kernelTCP", "memory.kmem.tcp."),
    ):
        entry = {
            "limit": _number(path, f"{prefix}limit_in_bytes"),
            "usage": _number(path, f"{prefix}usage_in_bytes"),
            "max": _number(path, f"{prefix}max_usage_in_bytes"),
            "failcnt": _number(path, f"{prefix}failcnt"),
        }
        result[name] = {k: v for k, v in entry.items() if v or k in ("limit", "failcnt")}
    if raw:
        result["raw"] = dict(sorted(raw.items()))
    return result


def _pids(path: str) -> dict[str, int]:
    result = {"current": _number(path, "pids.current"), "limit": _number(path, "pids.max")}
    return {name: value for name, value in result.items() if value}


def _block_io(path: str) -> dict[str, Any]:
    """BFQ's files where it is the scheduler, else those that count all I/O below a throttle."""
    result: dict[str, Any] = {}
    for name, file, fallback in _BLOCK_IO:
        for candidate in (f"bfq.{file}", file, fallback):
            entries = _block_io_entries(_text(path, f"blkio.{candidate}"))
            if entries:
                result[name] = entries
                break
    return result


def _block_io_entries(text: str) -> list[dict[str, Any]]:
    """Lines are ``MAJOR:MINOR [OPERATION] VALUE``, and a total that is left out."""
    entries = []
    for line in text.splitlines():
        fields = line.replace(":", " ").split()
        if fields[0] == "Total":
            continue
        operation = fields[2] if len(fields) == 4 else ""
        entry = {
            "major": int(fields[0]),
            "minor": int(fields[1]),
            "op": operation,
            "value": int(fields[-1]),
        }
        entries.append({k: v for k, v in entry.items() if v})
    return entries


def _huge_pages(path: str) -> dict[str, Any]:
    result: dict[str, Any] = {}
    if not path:
        return result
    for name in sorted(posix.listdir(path)):
        if name.endswith(".usage_in_bytes") and ".rsvd." not in name:
            size = name.split(".")[1]
            prefix = f"hugetlb.{size}.rsvd"
            if not read_optional(path, f"{prefix}.usage_in_bytes"):
                prefix = f"hugetlb.{size}"
            entry = {
                "usage": _number(path, f"{prefix}.usage_in_bytes"),
                "max": _number(path, f"{prefix}.max_usage_in_bytes"),
                "failcnt": _number(path, f"{prefix}.failcnt"),
            }
            result[size] = {k: v for k, v in entry.items() if v or k == "failcnt"}
    return result
