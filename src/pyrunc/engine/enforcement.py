"""Which limits this host lets this user set: asked once by each engine, before anything is made."""

from __future__ import annotations

import os

from pyrunc.cgroups import host
from pyrunc.cgroups.cgroupfs import read_optional
from pyrunc.cgroups.paths import paths_for
from pyrunc.container.making.remembered import Remembered
from pyrunc.engine.failures import CannotEnforce

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from pyrunc.cgroups.host import Layout
    from pyrunc.spec.types import Spec

#: Limit -> controller of cgroup v1 and of v2, and a file that must be there.
_NEEDED = {
    "memory": ("memory", "memory.limit_in_bytes", "memory.max"),
    "swap": ("memory", "memory.memsw.limit_in_bytes", "memory.swap.max"),
    "pids": ("pids", "pids.max", "pids.max"),
    "cpu": ("cpu", "cpu.cfs_quota_us", "cpu.max"),
    "cpu_time": ("cpuacct", "cpuacct.usage", "cpu.stat"),
}
_DELEGATE = (
    "run as root, or in a cgroup that is delegated to this user, such as"
    " `systemd-run --user --scope -p Delegate=yes` gives"
)
#: The v1 controllers that sandboxes have cgroups of: what limits, counts, confines or stops them.
#: Each takes its time to make and to remove, that of cpuset three times as long as another.
_CONTROLLERS = frozenset(("cpu", "cpuacct", "devices", "freezer", "memory", "pids"))
#: What nobody asks for once a sandbox for one run is there; its share of the processor may be.
_LATER = frozenset(("cpu", "freezer"))


class Enforcement:
    """What the containers below one cgroup can be limited in."""

    def __init__(self, cgroup: str) -> None:
        self._cgroup = cgroup
        self._layout: Layout | None = None
        self._found: dict[str, tuple[str, str]] | None = None
        self._remembered: dict[frozenset[str], Remembered] = {}

    @property
    def _unenforceable(self) -> dict[str, tuple[str, str]]:
        if self._found is None:
            self._layout = layout = host.detect()
            self._found = unenforceable(layout, paths_for(layout, self._cgroup, ""))
        return self._found

    def remembered(self, spec: Spec, *, for_one: bool) -> Remembered:
        """Return what is remembered of containers with cgroups of the same controllers.

        :param spec: a config that :meth:`see_to` has seen.
        :param for_one: whether the container is for one run.
        """
        controllers = _CONTROLLERS
        if for_one:
            controllers -= _LATER - (spec["linux"].get("resources") or {}).keys()
        if controllers not in self._remembered:
            assert self._layout
            self._remembered[controllers] = remembered = Remembered()
            remembered.layout = self._layout.only(controllers)
        return self._remembered[controllers]

    def see_to(self, spec: Any, request: dict[str, Any]) -> list[tuple[str, str]]:
        """Take the limits out of a config that cannot be set here; return them, and why.

        :raises CannotEnforce: when one of them was asked for, and not just at best.
        """
        resources = spec["linux"].get("resources") or {}
        not_enforced = []
        for limit, (why, help_) in self._unenforceable.items():
            if limit not in request["limits"]:
                continue
            if limit in request["asked"] and not request["best_effort"]:
                raise CannotEnforce(limit, why, help_)
            without(resources, limit)
            not_enforced.append((limit, why))
        return not_enforced

    def check(self, limits: Sequence[str]) -> None:
        """See that limits can be set.

        :raises CannotEnforce: when one cannot.
        """
        for limit in limits:
            if limit in self._unenforceable:
                raise CannotEnforce(limit, *self._unenforceable[limit])


def unenforceable(layout: Layout, paths: dict[str, str]) -> dict[str, tuple[str, str]]:
    """Return the limits that cannot be set: name -> why, and what would help.

    :param paths: where the cgroup of the containers would be, by controller.
    """
    found: dict[str, tuple[str, str]] = {}
    for limit, (controller, file, unified) in _NEEDED.items():
        if layout.version == 2:
            # Time is accounted for in every cgroup, also without its controller.
            needed = "" if limit == "cpu_time" else controller
            why = _why_not_v2(paths.get("", ""), layout.unified, needed)
            probed, name = layout.unified, unified
        else:
            why = _why_not_v1(layout, paths, controller)
            probed, name = layout.mounts.get(controller, ""), file
        if not why and limit == "swap" and not _knows_swap(probed, name):
            if not _has_swap():
                # Nothing can be swapped out: the limit holds by itself.
                continue
            why = ("the kernel does not account for swap", "boot with swapaccount=1")
        if why:
            found[limit] = why
    return found


def _why_not_v1(layout: Layout, paths: dict[str, str], controller: str) -> tuple[str, str] | None:
    mount = layout.mounts.get(controller)
    if mount is None:
        return f"cgroup v1's controller {controller} is not mounted", "mount it on /sys/fs/cgroup"
    above = _existing(paths[controller])
    if os.access(above, os.W_OK, effective_ids=True):
        return None
    return f"cgroup {above} is another user's", "run as root; cgroup v1 cannot be delegated"


def _why_not_v2(path: str, mount: str, controller: str) -> tuple[str, str] | None:
    if not path:
        return "there is no cgroup hierarchy", f"mount cgroup2 on {mount}"
    above = _existing(path)
    if not os.access(above, os.W_OK, effective_ids=True):
        return f"cgroup {above} is another user's", _DELEGATE
    if not controller or controller in read_optional(above, "cgroup.subtree_control").split():
        return None
    if controller not in read_optional(above, "cgroup.controllers").split():
        return f"controller {controller} is not delegated to cgroup {above}", _DELEGATE
    if above != mount and read_optional(above, "cgroup.procs").strip():
        # No controller is ever switched on in a cgroup with processes: it would fail, or
        # make the cgroups below invalid (cgroup-v2.rst, "No Internal Process Constraint").
        return (
            f"cgroup {above} has processes in it, so it can give no controllers to those below",
            "start the program in a cgroup of its own below one that is delegated",
        )
    return None


def _existing(path: str) -> str:
    """Return the closest directory above ``path`` that is there."""
    while True:
        path = path.rpartition("/")[0]
        if os.path.isdir(path):
            return path


def _knows_swap(root: str, name: str) -> bool:
    # A v2 root has no limits; each cgroup below has the same files.
    try:
        places = [root, *(entry.path for entry in os.scandir(root) if entry.is_dir())]
    except OSError:
        return False
    return any(os.path.exists(f"{place}/{name}") for place in places)


def _has_swap() -> bool:
    with open("/proc/swaps") as file:
        return len(file.readlines()) > 1


def without(resources: dict[str, Any], limit: str) -> None:
    """Take ``limit`` out of ``linux.resources``."""
    if limit == "swap":
        resources.get("memory", {}).pop("swap", None)
    elif limit == "memory":
        resources.pop("memory", None)
    elif limit != "cpu_time":
        resources.pop(limit, None)
