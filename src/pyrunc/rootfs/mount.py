"""The steps that make the mounts of config.json inside the root file system.

Every target is opened below the root by the kernel's own rules, checked, and
then mounted on by descriptor; the mount's own descriptor is kept for whatever
comes after. A name is never resolved twice.
"""

from __future__ import annotations

import posix
from errno import EBUSY, ENOENT, EPERM

from pyrunc.errors import Error, reason
from pyrunc.linux import files, mounts
from pyrunc.rootfs.options import (
    MountOptions,
    apply_propagation,
    mount_flags,
    set_attributes,
    set_recursive_attributes,
)
from pyrunc.step import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyrunc.step import Build

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
#: File systems whose files carry no label of the mount's, but one of their own.
_LABELLED_LATER = ("mqueue",)


class MountFilesystem(Step):
    """A new file system of some type: proc, sysfs, tmpfs, devpts, mqueue, overlay …"""

    index: int
    kind: str
    source: str
    target: str
    options: MountOptions
    #: ``tmpcopyup``: copies from the covered directory into the new mount (both descriptors).
    fill: Callable[[int, int], None] | None = None
    #: ``linux.mountLabel``: the SELinux context of all that is in it.
    label: str = ""
    #: What of the host's is bound where a user namespace may not mount a new proc or sysfs; "" if
    #: that would show what the container should not see.
    stand_in: str = ""

    def describe(self) -> str:
        return f"mount {self.kind} on {self.target}"

    def apply(self, build: Build) -> None:
        options = self.options
        data = options.data
        attributes = options.enable
        if self.kind in ("proc", "sysfs"):
            target = _open_ordinary_directory(build.root, self.target, self.source or self.kind)
        else:
            if self.kind == "tmpfs":
                data = _with_mode_of_directory(build.root, self.target, data)
            target = files.ensure_directory(build.root, self.target)
        try:
            check_not_inside_proc(target, self.target, allow_root=self.kind == "proc")
            if self.kind == "tmpfs":
                # Later mounts may need directories made in it: read-only comes at the end.
                attributes &= ~mounts.MOUNT_ATTR_RDONLY
            mount = self._mount(target, data, attributes)
            attached = mount < 0
            if attached:
                mount = _reopen(build.root, self.target, target)
            if self.fill is not None:
                self.fill(target, mount)
            if not attached:
                if self.label and self.kind in _LABELLED_LATER:
                    mounts.label(mount, self.label)
                mounts.attach(mount, target)
                if self.kind == "sysfs":
                    _hide_cgroups_of_the_host(mount)
        finally:
            posix.close(target)
        set_recursive_attributes(mount, options)
        apply_propagation(mount, options)
        build.mounts[self.index] = mount

    def _mount(self, target: int, data: tuple[str, ...], attributes: int) -> int:
        """Return the new mount, or -1 when it had to be attached by mount(2) already."""
        flags = self.options.filesystem_flags
        if attributes & mounts.MOUNT_ATTR_RDONLY:
            flags += ("ro",)
        label = mounts.context_option(self.label) if self.kind not in _LABELLED_LATER else ()
        given = (self.source, *data, *label)
        if self.options.iversion or any(len(x) > mounts.FSCONFIG_MAXIMUM for x in given):
            # mount(2) would split a label at its commas.
            data += tuple(f'context="{self.label}"' for _ in label)
            mounts.mount_legacy(
                self.source,
                f"/proc/self/fd/{target}",
                self.kind,
                mount_flags(self.options, attributes),
                ",".join(data),
            )
            return -1
        try:
            return mounts.new_filesystem(self.kind, self.source, flags + data + label, attributes)
        except OSError as error:
            # A user namespace that owns neither the network nor the pid namespace
            # may not make these, but it may bind the ones it sees.
            if error.errno not in (EPERM, EBUSY) or not self.stand_in:
                raise
            mount = mounts.clone_tree(mounts.AT_FDCWD, self.stand_in, recursive=True)
            mounts.set_attributes(mount, enable=attributes, recursive=True)
            return mount


class BindMount(Step):
    """A file, directory, device or socket of the host, seen in the container as well."""

    index: int
    source: str
    target: str
    options: MountOptions
    #: Id mapping of the mount, as (file of /proc/PID, content); the runtime applies it.
    mapping: tuple[tuple[str, str], ...] = ()
    #: ``MS_*`` flags of the container's mounts. A source that the runtime has opened is tied to
    #: the host's mount as the host has it, and must be brought in line.
    base_propagation: int = 0

    def describe(self) -> str:
        return f"bind {self.source} to {self.target}"

    def apply(self, build: Build) -> None:
        options = self.options
        mount = build.opened_sources.pop(self.index, -1)
        tied_to_host = mount >= 0
        if mount < 0:
            mount = open_bind_source(self.source, options)
        is_directory = posix.stat(mount).st_mode & files.S_IFMT == files.S_IFDIR
        ensure = files.ensure_directory if is_directory else files.ensure_file
        target = ensure(build.root, self.target)
        try:
            check_not_inside_proc(
                target,
                self.target,
                allow_root=files.filesystem_magic(mount) == files.PROC_SUPER_MAGIC,
            )
            mounts.attach(mount, target)
        finally:
            posix.close(target)
        if tied_to_host and self.base_propagation:
            flag = self.base_propagation & ~mounts.MS_REC
            mounts.set_attributes(mount, propagation=flag, recursive=True)
        set_attributes(mount, options)
        set_recursive_attributes(mount, options)
        apply_propagation(mount, options)
        build.mounts[self.index] = mount


class Remount(Step):
    """``remount``: change the options of something mounted before."""

    target: str
    options: MountOptions

    def describe(self) -> str:
        return f"remount {self.target}"

    def apply(self, build: Build) -> None:
        options = self.options
        target = files.open_in_root(build.root, self.target)
        try:
            flags = mounts.MS_REMOUNT | mount_flags(options, options.enable)
            if options.bind:
                set_attributes(target, options)
            else:
                where = f"/proc/self/fd/{target}"
                mounts.mount_legacy("", where, "", flags, ",".join(options.data))
            set_recursive_attributes(target, options)
            apply_propagation(target, options)
        finally:
            posix.close(target)


class MakeMountReadOnly(Step):
    """The ``ro`` of a tmpfs, once everything that must lie in it is made."""

    index: int
    target: str

    def describe(self) -> str:
        return f"make {self.target} read-only"

    def apply(self, build: Build) -> None:
        mounts.set_attributes(build.mounts[self.index], enable=mounts.MOUNT_ATTR_RDONLY)


def open_bind_source(source: str, options: MountOptions) -> int:
    """Copy the mount tree at ``source`` on the host, for a bind mount (attached nowhere yet)."""
    return mounts.clone_tree(mounts.AT_FDCWD, source, recursive=options.recursive_bind)


def _hide_cgroups_of_the_host(sysfs: int) -> None:
    """Cover what came along with the host's /sys where it stands in for a new one.

    Its cgroups may be the container's user's to write (CVE-2023-25809). In a new sysfs the
    directory is empty, and left alone.
    """
    try:
        place = files.openat2(sysfs, "fs/cgroup", files.O_PATH, files.RESOLVE_BENEATH)
    except OSError as error:
        if error.errno != ENOENT:
            raise
        return
    try:
        if files.filesystem_magic(place) != files.SYSFS_MAGIC:
            cover = mounts.new_filesystem("tmpfs", "tmpfs", ("ro",), mounts.MOUNT_ATTR_RDONLY)
            mounts.attach(cover, place)
            posix.close(cover)
    finally:
        posix.close(place)


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


def _open_ordinary_directory(root: int, path: str, source: str) -> int:
    """Open (or make) the target of a proc or sysfs mount, of which no part may be a link.

    A link there would send everything the runtime and the engine expect under
    /proc and /sys somewhere else (CVE-2019-19921, CVE-2023-27561).
    """
    rules = files.RESOLVE_IN_ROOT | files.RESOLVE_NO_SYMLINKS
    try:
        posix.close(files.ensure_directory(root, path))
        return files.openat2(root, path, files.O_PATH | files.O_DIRECTORY, rules)
    except OSError as error:
        raise Error(
            f'filesystem "{source}" must be mounted on ordinary directory: {path}: {reason(error)}'
        ) from None


def _with_mode_of_directory(root: int, path: str, data: tuple[str, ...]) -> tuple[str, ...]:
    """A tmpfs without ``mode`` takes over the mode of the directory that it covers."""
    if any(option.startswith("mode=") for option in data):
        return data
    try:
        directory = files.open_in_root(root, path, files.O_PATH | files.O_DIRECTORY)
    except OSError:
        return data
    mode = posix.stat(directory).st_mode & 0o7777
    posix.close(directory)
    return (*data, f"mode={mode:o}")


def _reopen(root: int, path: str, covered: int) -> int:
    """Open what was just mounted over ``covered`` by name, and make sure that it is that."""
    mount = files.open_in_root(root, path)
    if posix.stat(mount).st_dev == posix.stat(covered).st_dev:
        posix.close(mount)
        raise Error(f"{path} changed while it was being mounted on")
    return mount
