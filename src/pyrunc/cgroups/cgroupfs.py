"""Reading and writing the small files of a cgroup hierarchy."""

from __future__ import annotations

import posix
from errno import EACCES, EBUSY, EINVAL, ENODEV, ENOENT, EPERM, EROFS

from pyrunc.errors import Error, reason
from pyrunc.linux import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

#: What a runtime without rights may live with.
_NOT_ALLOWED = (EACCES, EPERM, EROFS, ENOENT)
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
        from pyrunc.cgroups.refusals import meaning

        self.errno = error.errno
        why = f"{reason(error)}{meaning(directory, name, error.errno or 0)}"
        super().__init__(f"setting cgroup {name} of {directory} to {value.strip()!r}: {why}")


class CgroupTaken(Error):
    """A container was to have a cgroup that others use: it is not ours to empty or to remove."""


def refuse_below_usage(directory: str, name: str, limit: int, usage: int) -> None:
    """For ``checkBeforeUpdate`` (config-linux.md, "Memory").

    :raises Error: when the container uses more memory already than the limit allows.
    """
    if limit < usage:
        raise Error(
            f"setting cgroup {name} of {directory} to {limit}: it uses {usage} bytes now "
            "(checkBeforeUpdate)"
        )


def is_no_limit(value: str) -> bool:
    """Tell whether a value lifts a limit: then there is none to keep where there is no file."""
    return value.split(" ", 1)[0] in ("max", "-1")


def refuse_without_effect(directory: str, name: str, limit: int) -> None:
    """:raises Error: when the kernel took the limit but does not keep it."""
    if 0 < limit < int(read(directory, name)):
        raise Error(
            f"setting cgroup {name} of {directory} to {limit}: this kernel takes the value and "
            "does not limit anything; leave it out"
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


def inherit_cpuset(path: str) -> None:
    """A new cpuset is empty, and nothing can join it: take over the parent's.

    One that was there may be as empty, and so may be those above it: an engine, or an
    administrator with mkdir(1), has made them. Only the root of the hierarchy never is.
    """
    parent = path.rpartition("/")[0]
    for name in ("cpuset.cpus", "cpuset.mems"):
        try:
            if read(path, name).strip():
                continue
            value = read(parent, name).strip()
            if not value:
                inherit_cpuset(parent)
                value = read(parent, name).strip()
            if value:
                write(path, name, value)
        except OSError as error:
            if error.errno not in (ENOENT, ENODEV):
                raise


class FilesDriver:
    """What the drivers of v1 and v2 do alike."""

    #: Whether the cgroups are made for a process that is there already.
    needs_process = False
    __slots__ = ("_ignore_errors",)

    if TYPE_CHECKING:
        _ignore_errors: bool
        check_before_update: Callable[[Mapping[str, Any]], None]
        apply_early: Callable[[Mapping[str, Any]], None]
        apply_late: Callable[[Mapping[str, Any]], None]
        restrict_devices: Callable[[Mapping[str, Any]], None]

    def apply(self, resources: Mapping[str, Any]) -> None:
        """Set all limits that are named; the others stay."""
        self.check_before_update(resources)
        self.apply_early(resources)
        if resources.get("devices") is not None:
            self.restrict_devices(resources)
        self.apply_late(resources)

    def _may_ignore(self, error: OSError) -> bool:
        return self._ignore_errors and error.errno in _NOT_ALLOWED


def set_in_any_order(set_one: Callable[..., None], writes: Iterable[tuple[str, ...]]) -> None:
    """Set limits of which some bound each other: memory and memsw, quota and burst or period.

    They must be raised in one order and lowered in the other, so what was refused is tried again.

    :param set_one: is given each of ``writes``.
    :raises SettingFailed: by it.
    """
    refused = []
    for write in writes:
        try:
            set_one(*write)
        except SettingFailed as error:
            if error.errno not in (EINVAL, EBUSY):
                raise
            refused.append(write)
    for write in refused:
        set_one(*write)
