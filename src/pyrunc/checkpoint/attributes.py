"""Read-only, nosuid, nodev, noexec: what mounts lack of these after a restore.

Of several binds of one source CRIU restores them for the first only, and copies the others from
that as it is then. They are set here, before anything runs.
"""

from __future__ import annotations

import posix

from pyrunc.checkpoint.mounts import binds, mounts_of
from pyrunc.errors import Error
from pyrunc.linux import files, mounts
from pyrunc.linux import processes as p
from pyrunc.linux.files import clean_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pyrunc.spec.types import Spec

_BITS = {
    "ro": mounts.MOUNT_ATTR_RDONLY,
    "nosuid": mounts.MOUNT_ATTR_NOSUID,
    "nodev": mounts.MOUNT_ATTR_NODEV,
    "noexec": mounts.MOUNT_ATTR_NOEXEC,
}
_CLONE_NEWNS = 0x20000


def restrictions(pid: int) -> dict[str, list[str]]:
    """Return which of the four each mount of a process has, by its place."""
    return {
        mount.place: [name for name in mount.attributes if name in _BITS]
        for mount in mounts_of(pid).values()
    }


def expected(spec: Spec) -> dict[str, list[str]]:
    """Return what mounts must have by the config alone: for images without a manifest."""
    wanted = {
        destination: [name for name in entry.get("options", ()) if name in _BITS]
        for destination, entry in binds(spec)
    }
    for path in spec.get("linux", {}).get("readonlyPaths") or ():
        wanted.setdefault(clean_path(path), ["ro"])
    return wanted


def set_missing(pid: int, wanted: Mapping[str, Iterable[str]]) -> None:
    """Give the mounts that a process sees what they lack.

    :raises Error: when one cannot have it: what was not to be written to must not be now.
    """
    lacking = _lacking(pid, wanted)
    if not lacking:
        return
    child, pidfd = p.clone(0)
    if child == 0:
        _set_inside(pid, lacking)
    posix.close(pidfd)
    p.wait(child)
    for place, names in _lacking(pid, wanted).items():
        raise Error(f"cannot restore the mount on {place} as {', '.join(sorted(names))}")


def _lacking(pid: int, wanted: Mapping[str, Iterable[str]]) -> dict[str, set[str]]:
    there = restrictions(pid)
    lacking = {place: set(wanted.get(place, ())) - set(names) for place, names in there.items()}
    return {place: names for place, names in lacking.items() if names}


def _set_inside(pid: int, lacking: Mapping[str, set[str]]) -> None:
    try:
        p.setns(posix.open(f"/proc/{pid}/ns/mnt", posix.O_RDONLY | files.O_CLOEXEC), _CLONE_NEWNS)
        for place, names in lacking.items():
            mount = posix.open(place, files.O_PATH | files.O_NOFOLLOW | files.O_CLOEXEC)
            mounts.set_attributes(mount, enable=sum(_BITS[name] for name in names))
    finally:
        # What could not be set is seen from outside.
        posix._exit(0)
