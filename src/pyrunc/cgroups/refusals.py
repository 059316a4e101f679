"""What the kernel means when it refuses a value for a cgroup's file, where its errno misleads.

Loaded only then. The sources are the kernel's cgroup-v1/*.rst and cgroup-v2.rst, and what its
files of this very cgroup and its parent hold at the moment.
"""

from __future__ import annotations

from errno import EACCES, EBUSY, EINVAL, ENOENT, ENOSPC, ERANGE

from pyrunc.linux import files

#: What to do about a limit of a user who may make no cgroup.
WITHOUT_RIGHTS = "leave the limit out, have a cgroup delegated to the user, or run pyrunc as root"
#: File, errno -> what it means; ``{own:FILE}`` and ``{parent:FILE}`` stand for what these hold.
_MEANINGS = {
    ("memory.limit_in_bytes", EBUSY): "it uses {own:memory.usage_in_bytes} bytes now",
    ("memory.memsw.limit_in_bytes", EBUSY): "it uses {own:memory.memsw.usage_in_bytes} bytes now",
    ("memory.limit_in_bytes", EINVAL): (
        "no more than memory and swap together may have, {own:memory.memsw.limit_in_bytes}"
    ),
    ("memory.memsw.limit_in_bytes", EINVAL): (
        "memory and swap together have no less than memory alone, {own:memory.limit_in_bytes}"
    ),
    ("memory.memsw.limit_in_bytes", ENOENT): "this kernel does not account for swap",
    ("cpuset.cpus", EACCES): "the cgroup above it has the CPUs {parent:cpuset.cpus}",
    ("cpuset.cpus", EINVAL): "the host has no such CPU, or it is no list of CPUs",
    ("cpuset.cpus", ERANGE): "the kernel has no CPU of such a number",
    ("cpuset.cpus", ENOSPC): "a cgroup with processes cannot be without a CPU",
    ("cpuset.mems", EACCES): "the cgroup above it has the memory nodes {parent:cpuset.mems}",
    ("cpuset.mems", EINVAL): "the host has no such memory node, or it is no list of nodes",
    ("cpuset.mems", ERANGE): "the kernel has no memory node of such a number",
    ("cpu.rt_runtime_us", EINVAL): (
        "the cgroup above it has {parent:cpu.rt_runtime_us} µs of real time, for all below it"
    ),
    ("cpu.cfs_quota_us", EINVAL): (
        "a quota has 1000 µs at least, no less than the burst, and no larger share than the "
        "cgroup above it"
    ),
    ("cpu.cfs_period_us", EINVAL): "a period has from 1000 to 1000000 µs",
    ("cpu.cfs_burst_us", EINVAL): "a burst needs a quota, and has no more than that",
    ("cpu.max", EINVAL): "a quota has 1000 µs at least, a period from 1000 to 1000000 µs",
    ("cpu.max.burst", EINVAL): "a burst needs a quota, and has no more than that",
}


def meaning(directory: str, name: str, errno: int) -> str:
    """Return what follows the errno's own text in a message: ``; why``, or nothing."""
    if name.startswith("hugetlb.") and errno == ENOENT:
        return "; the kernel has no huge pages of this size"
    words = _MEANINGS.get((name, errno), "")
    before, brace, rest = words.partition("{")
    if brace:
        place, _, after = rest.partition("}")
        whose, _, file = place.partition(":")
        holder = directory if whose == "own" else directory.rpartition("/")[0]
        try:
            held = files.read_file(f"{holder}/{file}").decode("utf-8", "replace").strip()
        except OSError:
            return ""
        words = f"{before}{held or 'none'}{after}"
    return f"; {words}" if words else ""


def without_controller(controller: str, name: str, mount: str) -> str:
    """Return why a limit of cgroup v1 has no file that it could be written to.

    :param mount: where the host has the controller's hierarchy, or "".
    """
    if not mount:
        return f"setting {name}: the cgroup controller {controller} is not mounted on this host"
    return (
        f"setting {name}: the container has no cgroup of the controller {controller}, as this user "
        f"may not make one in {mount}; {WITHOUT_RIGHTS}"
    )
