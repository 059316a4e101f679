"""How the host has its cgroups mounted: v1, v2, or both beside each other (hybrid)."""

from __future__ import annotations

import posix

from pyrunc.errors import Error, reason
from pyrunc.linux import files

ROOT = "/sys/fs/cgroup"
#: Files that every cgroup of one version has, and no other directory. One call for each
#: hierarchy, where statfs(2) takes three, and `_ctypes` with them.
_OF_V1, _OF_V2 = "tasks", "cgroup.controllers"


class Layout:
    """Where the hierarchies are, and where in them the caller is.

    ``version`` is 2 only when everything is on the unified hierarchy.
    """

    __slots__ = ("mounts", "own", "unified", "version")

    def __init__(
        self, version: int, mounts: dict[str, str], unified: str, own: dict[str, str]
    ) -> None:
        self.version = version
        #: v1 controller ("name=systemd" for the named one) -> mount point.
        self.mounts = mounts
        #: Mount point of the v2 hierarchy, or "".
        self.unified = unified
        #: Controller ("" for v2) -> the caller's cgroup, as /proc/self/cgroup has it.
        self.own = own

    def only(self, controllers: frozenset[str]) -> Layout:
        """Return the same without what else there is on v1: those hierarchies are left alone.

        So is the v2 one beside them, which has no controllers then.
        """
        if self.version == 2:
            return self
        mounts = {name: where for name, where in self.mounts.items() if name in controllers}
        return Layout(1, mounts, "", self.own)


def detect(*, required: bool = True) -> Layout:
    """Find out.

    /proc/self/mountinfo, which has thousands of lines on a busy host, is only read
    where the usual places do not hold what is expected.

    :raises Error: when no cgroup hierarchy can be found, and one is ``required``.
    """
    own = cgroups_of()
    if _has(ROOT, _OF_V2):
        return Layout(2, {}, ROOT, own)
    mounts: dict[str, str] = {}
    missing = False
    for controllers in own:
        if not controllers:
            continue
        where = f"{ROOT}/{controllers.removeprefix('name=')}"
        if not _has(where, _OF_V1):
            missing = True
            continue
        for controller in controllers.split(","):
            mounts[controller] = where
    unified = f"{ROOT}/unified"
    if not _has(unified, _OF_V2):
        unified = ""
    if missing:
        _find_in_mountinfo(own, mounts)
    if required and not mounts and not unified:
        raise Error(
            f"no cgroup hierarchy is mounted below {ROOT}; mount cgroup2 there, or run "
            "pyrunc where the host's is visible"
        )
    alone = {c: path for names, path in own.items() for c in (names.split(",") if names else [""])}
    return Layout(1, mounts, unified, alone)


def cgroups_of(pid: int | str = "self") -> dict[str, str]:
    """Return the lines of a process's /proc/PID/cgroup: controllers -> path.

    The controllers of a hierarchy are joined by commas; the v2 hierarchy has none (cgroups(7)).
    """
    source = f"/proc/{pid}/cgroup"
    try:
        text = files.read_file(source).decode("utf-8", "surrogateescape")
    except OSError as error:
        raise Error(f"cannot read {source}: {reason(error)}") from None
    own: dict[str, str] = {}
    for line in text.splitlines():
        _, controllers, path = line.split(":", 2)
        own[controllers] = path
    return own


def v1_directory_of(pid: int, controller: str) -> str:
    """Return the directory of the cgroup that a process is in, in one hierarchy ("" for v2).

    :raises Error: when it is in none, or the hierarchy is not mounted (any more).
    """
    layout = detect()
    for controllers, path in cgroups_of(pid).items():
        if controller in controllers.split(","):
            mount = layout.mounts.get(controller) if controller else layout.unified
            if not mount:
                hierarchy = f"the hierarchy of {controller}" if controller else "cgroup v2"
                raise Error(
                    f"process {pid} is in cgroup {path} of {hierarchy}, which is not mounted: "
                    "mount it where it was"
                )
            return f"{mount}{path}"
    raise Error(f"process {pid} is in no cgroup of controller {controller}")


def _has(path: str, name: str) -> bool:
    try:
        posix.stat(f"{path}/{name}")
    except OSError:
        return False
    return True


def _find_in_mountinfo(own: dict[str, str], mounts: dict[str, str]) -> None:
    """Fill in the controllers that are mounted elsewhere, from proc_pid_mountinfo(5)."""
    text = files.read_file("/proc/self/mountinfo").decode("utf-8", "surrogateescape")
    known = {c for names in own for c in names.split(",") if c}
    for line in text.splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        if kind == "cgroup":
            where = before.split(" ")[4]
            for option in options.split(","):
                if option in known:
                    mounts.setdefault(option, where)
