"""Reading and writing the small files of a cgroup hierarchy."""

from __future__ import annotations

import posix
from errno import ENODEV, ENOENT

from pyrunc.errors import Error, reason
from pyrunc.linux import files

_HIERARCHIES = (files.CGROUP_SUPER_MAGIC, files.CGROUP2_SUPER_MAGIC)


def open_directory(path: str) -> int:
    """Open a cgroup's directory and make sure that it lies in a cgroup hierarchy.

    :raises OSError: when it is not there.
    :raises Error: when something else is mounted at the place.
    """
    descriptor = posix.open(path, posix.O_RDONLY | files.O_DIRECTORY | files.O_CLOEXEC)
    if files.filesystem_magic(descriptor) not in _HIERARCHIES:
        posix.close(descriptor)
        raise Error(f"{path} is not in a cgroup hierarchy")
    return descriptor


def write(directory: str, name: str, value: str) -> None:
    """Write ``value`` to the file ``name`` of a cgroup.

    :raises Error: with the file, the value and the kernel's reason.
    """
    try:
        holder = open_directory(directory)
        try:
            flags = posix.O_WRONLY | files.O_NOFOLLOW | files.O_CLOEXEC
            descriptor = posix.open(name, flags, dir_fd=holder)
            try:
                posix.write(descriptor, value.encode())
            finally:
                posix.close(descriptor)
        finally:
            posix.close(holder)
    except OSError as error:
        raise SettingFailed(directory, name, value, error) from None


def read(directory: str, name: str) -> str:
    """Return the contents of a cgroup's file.

    :raises OSError: when it is not there or cannot be read.
    """
    return files.read_file(f"{directory}/{name}").decode("utf-8", "replace")


def read_optional(directory: str, name: str) -> str:
    """Return the contents of a cgroup's file, or nothing when there is no such file."""
    try:
        return read(directory, name)
    except OSError as error:
        if error.errno != ENOENT:
            raise
        return ""


class SettingFailed(Error):
    """The kernel refused a value; ``errno`` says why."""

    def __init__(self, directory: str, name: str, value: str, error: OSError) -> None:
        self.errno = error.errno
        super().__init__(
            f"setting cgroup {name} of {directory} to {value.strip()!r}: {reason(error)}"
        )


class CgroupTaken(Error):
    """A container was to have a cgroup that others use: it is not ours to empty or to remove."""


def refuse_processes(path: str) -> None:
    """:raises CgroupTaken: when processes are in the cgroup or below, or it is a cgroup's file."""
    try:
        taken = bool(processes_below(path))
    except NotADirectoryError:
        raise CgroupTaken(
            f"cannot make cgroup {path}: the kernel has a file of this name; "
            "choose another linux.cgroupsPath"
        ) from None
    if taken:
        raise CgroupTaken(f"container's cgroup is not empty: {path} has processes in it")


def refuse_below_usage(directory: str, name: str, limit: int, usage: int) -> None:
    """For ``checkBeforeUpdate`` (config-linux.md, "Memory").

    :raises Error: when the container uses more memory already than the limit allows.
    """
    if limit < usage:
        raise Error(
            f"setting cgroup {name} of {directory} to {limit}: it uses {usage} bytes now "
            "(checkBeforeUpdate)"
        )


#: MIN_SHARES and MAX_SHARES of kernel/sched/sched.h: v1's kernel takes what is beyond, and means
#: these; v2's weights are reckoned from them.
_FEWEST_SHARES, _MOST_SHARES = 2, 1 << 18


def refuse_odd_shares(name: str, shares: int) -> None:
    """:raises Error: for shares that the kernel does not have; ``name`` is the file for them."""
    if not _FEWEST_SHARES <= shares <= _MOST_SHARES:
        raise Error(
            f"setting cgroup {name} for {shares} shares: there are shares from "
            f"{_FEWEST_SHARES} to {_MOST_SHARES} only"
        )


def remove_tree(path: str) -> None:
    """Remove a cgroup and all below it; what is gone already is no error.

    :raises OSError: EBUSY while processes are in it.
    """
    try:
        posix.rmdir(path)
        return
    except OSError as error:
        if error.errno == ENOENT:
            return
        first = error
    below = subdirectories(path)
    if not below:
        raise first
    for name in below:
        remove_tree(f"{path}/{name}")
    posix.rmdir(path)


def subdirectories(path: str) -> list[str]:
    """Return the names of the cgroups directly below ``path``."""
    names = []
    try:
        entries = posix.scandir(path)
    except OSError as error:
        if error.errno == ENOENT:
            return []
        raise
    with entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                names.append(entry.name)
    return names


def processes_below(path: str) -> list[int]:
    """Return the pids in the cgroup and in all below it; none when it is gone."""
    try:
        found = [int(line) for line in read(path, "cgroup.procs").split()]
    except OSError as error:
        # The second is for one that was removed (by systemd, as it empties) after the opening.
        if error.errno in (ENOENT, ENODEV):
            return []
        raise
    for name in subdirectories(path):
        found += processes_below(f"{path}/{name}")
    return found
