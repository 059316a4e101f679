"""Whose the container's cgroup is (config-linux.md, "Cgroup ownership")."""

from __future__ import annotations

import posix
from errno import ENOENT

from pyrunc.cgroups import cgroupfs
from pyrunc.errors import Error, reason
from pyrunc.linux import files
from pyrunc.process.mapped_ids import id_mapping, outside

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.spec.types import Spec

#: What may be given away in a cgroup, a file name a line (cgroups(7)).
_LIST = "/sys/kernel/cgroup/delegate"
#: What that is on a kernel before 4.15, which has no list.
_BASIC = ("cgroup.procs", "cgroup.subtree_control", "cgroup.threads")


def give_cgroup_away(spec: Spec, directory: str, pid: int) -> None:
    """Let the user that the container's program runs as own its cgroup.

    If, that is, the config mounts the hierarchy to be written to. Only for a container with a new
    cgroup namespace, and only on v2: on v1 it would not be safe.

    :param directory: of the cgroup.
    :param pid: of a process in the container's user namespace.
    :raises Error: when an owner cannot be changed.
    """
    process = spec.get("process")
    if not process or not _is_mounted_writable(spec):
        return
    uid = (process.get("user") or {}).get("uid", 0)
    _change_owner(directory, outside(id_mapping(pid, "uid_map"), uid))


def _is_mounted_writable(spec: Spec) -> bool:
    return any(
        mount.get("source") == "cgroup"
        and files.clean_path(mount["destination"]) == "/sys/fs/cgroup"
        and "ro" not in (mount.get("options") or ())
        for mount in spec.get("mounts") or ()
    )


def _change_owner(directory: str, uid: int) -> None:
    """Give the cgroup away, and those of its files that the kernel lists.

    The limits stay the runtime's: their files are not in the list.
    """
    try:
        holder = cgroupfs.open_directory(directory)
        try:
            posix.chown(holder, uid, -1)
            for name in _names():
                try:
                    posix.chown(name, uid, -1, dir_fd=holder, follow_symlinks=False)
                except OSError as error:
                    # Listed is what there may be, not what this cgroup has.
                    if error.errno != ENOENT:
                        raise
        finally:
            posix.close(holder)
    except OSError as error:
        raise Error(f"cannot give cgroup {directory} to user {uid}: {reason(error)}") from None


def _names() -> tuple[str, ...]:
    try:
        return tuple(files.read_file(_LIST).decode().split())
    except OSError as error:
        if error.errno != ENOENT:
            raise
        return _BASIC
