"""What may be mounted on: the checks that every mount's target goes through, on its descriptor.

A mount that has no effect, or one that covers what confines the container, is refused by name.
"""

from __future__ import annotations

import posix
from errno import ELOOP, ENOTDIR

from pyrunc.errors import Error, reason
from pyrunc.linux import files

#: Files of procfs that lxcfs and its like replace; anything else there stays as the kernel has it.
_REPLACEABLE_PROC_FILES = frozenset(
    (
        "/proc/cpuinfo",
        "/proc/diskstats",
        "/proc/loadavg",
        "/proc/meminfo",
        "/proc/net/dev",
        "/proc/slabinfo",
        "/proc/stat",
        "/proc/swaps",
        "/proc/sys/crypto/fips_enabled",
        "/proc/sys/kernel/ns_last_pid",
        "/proc/uptime",
    )
)


def is_root(root: int, target: int, proc: int) -> bool:
    """Tell whether ``target`` is the very root of the container, by whatever name it was found.

    :param proc: the host's procfs, for telling a second mount of the same directory from it.
    """
    here, there = posix.stat(target), posix.stat(root)
    if (here.st_dev, here.st_ino) != (there.st_dev, there.st_ino):
        return False
    return _mount_id(proc, target) == _mount_id(proc, root)


def _mount_id(proc: int, descriptor: int) -> bytes:
    """Return the ``mnt_id`` of proc_pid_fdinfo(5)."""
    for line in files.read_file(f"self/fdinfo/{descriptor}", proc).splitlines():
        if line.startswith(b"mnt_id:"):
            return line
    return b""


def check_target(root: int, target: int, path: str, proc: int, *, proc_root: bool = False) -> None:
    """Refuse to mount on the container's root, and on parts of a procfs.

    :param proc_root: whether the root of a procfs may be covered, as by another procfs.
    :raises Error: the mount would have no effect, or take the container's confinement away.
    """
    if is_root(root, target, proc):
        raise Error(
            f'"{path}" is the root of the container, under which the mount would be lost; '
            "mount it on the host and name it in root.path"
        )
    check_not_inside_proc(target, path, allow_root=proc_root)


def check_not_inside_proc(target: int, path: str, *, allow_root: bool) -> None:
    """Refuse to cover parts of procfs, on which the container's confinement rests.

    :raises Error: when ``target`` lies in a procfs and is not one of the few
        files that are known to be replaced safely.
    """
    if files.filesystem_magic(target) != files.PROC_SUPER_MAGIC:
        return
    if allow_root and posix.stat(target).st_ino == 1:
        return
    if files.clean_path(path) not in _REPLACEABLE_PROC_FILES:
        raise Error(f'"{path}" cannot be mounted because it is inside /proc')


def open_ordinary_directory(root: int, path: str, source: str) -> int:
    """Open (or make) the target of a proc or sysfs mount, of which no part may be a link.

    A link there would send everything the runtime and the engine expect under
    /proc and /sys somewhere else (CVE-2019-19921, CVE-2023-27561).
    """
    rules = files.RESOLVE_IN_ROOT | files.RESOLVE_NO_SYMLINKS
    try:
        posix.close(files.ensure_directory(root, path))
        return files.openat2(root, path, files.O_PATH | files.O_DIRECTORY, rules)
    except OSError as error:
        if error.errno not in (ELOOP, ENOTDIR):
            raise
        raise Error(
            f'filesystem "{source}" must be mounted on ordinary directory: {path}: {reason(error)}'
        ) from None
