"""Statistics of cgroup v2, in the shape of ``runc events --stats``."""

from __future__ import annotations

import posix

from pyrunc.cgroups.cgroupfs import read_optional

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_UNLIMITED = (1 << 64) - 1


def statistics(directory: str) -> dict[str, Any]:
    """Return the ``data`` of a stats event for the cgroup at ``directory``."""
    return {
        "cpu": _cpu(directory),
        "cpuset": _cpuset(directory),
        "memory": _memory(directory),
        "pids": _pids(directory),
        "blkio": _block_io(directory),
        "hugetlb": _huge_pages(directory),
        "intel_rdt": {},
        "network_interfaces": None,
    }


def _number(directory: str, name: str) -> int:
    text = read_optional(directory, name).strip()
    if text == "max":
        return _UNLIMITED
    return int(text) if text else 0


def _pairs(directory: str, name: str) -> dict[str, int]:
    lines = read_optional(directory, name).splitlines()
    return {key: int(value) for key, value in (line.split() for line in lines)}


def _pressure(directory: str, resource: str) -> dict[str, dict[str, float | int]]:
    """Pressure stall information (psi.rst); empty where the kernel has it switched off."""
    result: dict[str, dict[str, float | int]] = {}
    try:
        text = read_optional(directory, f"{resource}.pressure")
    except OSError:
        return result
    for line in text.splitlines():
        kind, *values = line.split()
        pairs = dict(value.split("=", 1) for value in values)
        result[kind] = {
            "avg10": float(pairs["avg10"]),
            "avg60": float(pairs["avg60"]),
            "avg300": float(pairs["avg300"]),
            "total": int(pairs["total"]),
        }
    return result


def _with_pressure(result: dict[str, Any], directory: str, resource: str) -> dict[str, Any]:
    pressure = _pressure(directory, resource)
    if pressure:
        result["psi"] = pressure
    return result


def _cpu(directory: str) -> dict[str, Any]:
    counted = _pairs(directory, "cpu.stat")
    usage: dict[str, Any] = {
        "total": counted.get("usage_usec", 0) * 1000,
        "kernel": counted.get("system_usec", 0) * 1000,
        "user": counted.get("user_usec", 0) * 1000,
    }
    if not usage["total"]:
        del usage["total"]
    throttling = {
        "periods": counted.get("nr_periods", 0),
        "throttledPeriods": counted.get("nr_throttled", 0),
        "throttledTime": counted.get("throttled_usec", 0) * 1000,
    }
    result = {"usage": usage, "throttling": {k: v for k, v in throttling.items() if v}}
    return _with_pressure(result, directory, "cpu")


def _cpuset(directory: str) -> dict[str, Any]:
    """What runc's structure always has; v2 has none of the v1 switches."""
    result: dict[str, Any] = {}
    for name in (
        "cpu_exclusive",
        "mem_hardwall",
        "mem_exclusive",
        "memory_migrate",
        "memory_spread_page",
        "memory_spread_slab",
        "memory_pressure",
        "sched_load_balance",
        "sched_relax_domain_level",
    ):
        result[name] = 0
    return result


def _memory(directory: str) -> dict[str, Any]:
    raw = _pairs(directory, "memory.stat")
    events = _pairs(directory, "memory.events")
    usage = _number(directory, "memory.current")
    limit = _number(directory, "memory.max")
    swap_limit = _number(directory, "memory.swap.max")
    both = _UNLIMITED if _UNLIMITED in (limit, swap_limit) else limit + swap_limit
    result: dict[str, Any] = {}
    if raw.get("file"):
        result["cache"] = raw["file"]
    result["usage"] = _entry(limit, usage, _number(directory, "memory.peak"), events.get("max", 0))
    swapped = _number(directory, "memory.swap.current")
    result["swap"] = _entry(both, usage + swapped, 0, 0)
    result["kernel"] = {"limit": 0, "failcnt": 0}
    result["kernelTCP"] = {"limit": 0, "failcnt": 0}
    if raw:
        result["raw"] = dict(sorted(raw.items()))
    return _with_pressure(result, directory, "memory")


def _entry(limit: int, usage: int, peak: int, failures: int) -> dict[str, int]:
    entry = {"limit": limit, "usage": usage, "max": peak, "failcnt": failures}
    return {k: v for k, v in entry.items() if v or k in ("limit", "failcnt")}


def _pids(directory: str) -> dict[str, int]:
    limit = _number(directory, "pids.max")
    result = {
        "current": _number(directory, "pids.current"),
        "limit": 0 if limit == _UNLIMITED else limit,
    }
    return {name: value for name, value in result.items() if value}


def _block_io(directory: str) -> dict[str, Any]:
    transferred: list[dict[str, Any]] = []
    operations: list[dict[str, Any]] = []
    for line in read_optional(directory, "io.stat").splitlines():
        number, *values = line.split()
        major, _, minor = number.partition(":")
        pairs = dict(value.split("=", 1) for value in values if "=" in value)
        for key, operation, entries in (
            ("rbytes", "Read", transferred),
            ("wbytes", "Write", transferred),
            ("rios", "Read", operations),
            ("wios", "Write", operations),
        ):
            if key in pairs:
                entry = {
                    "major": int(major),
                    "minor": int(minor),
                    "op": operation,
                    "value": int(pairs[key]),
                }
                entries.append({k: v for k, v in entry.items() if v})
    result: dict[str, Any] = {}
    if transferred:
        result["ioServiceBytesRecursive"] = transferred
    if operations:
        result["ioServicedRecursive"] = operations
    return _with_pressure(result, directory, "io")


def _huge_pages(directory: str) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name in sorted(posix.listdir(directory)):
        if name.startswith("hugetlb.") and name.endswith(".events"):
            size = name.split(".")[1]
            usage = _number(directory, f"hugetlb.{size}.rsvd.current")
            if not read_optional(directory, f"hugetlb.{size}.rsvd.current"):
                usage = _number(directory, f"hugetlb.{size}.current")
            entry = {"usage": usage, "failcnt": _pairs(directory, name).get("max", 0)}
            result[size] = {k: v for k, v in entry.items() if v or k == "failcnt"}
    return result
