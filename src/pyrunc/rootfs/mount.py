"""The steps that make the mounts of config.json inside the root file system.

Every target is opened below the root by the kernel's own rules, checked, and
then mounted on by descriptor; the mount's own descriptor is kept for whatever
comes after. A name is never resolved twice.
"""

from __future__ import annotations

import posix
from errno import EBUSY, EINVAL, ENOENT, ENOTDIR, EPERM

from pyrunc.errors import Error
from pyrunc.linux import files, mounts
from pyrunc.rootfs.options import (
    MountOptions,
    apply_propagation,
    mount_flags,
    set_attributes,
    set_recursive_attributes,
)
from pyrunc.rootfs.target import check_target, is_root, open_ordinary_directory
from pyrunc.step import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pyrunc.step import Build

#: File systems whose files carry no label of the mount's, but one of their own.
_LABELLED_LATER = ("mqueue",)
#: What a devpts gets whose entry says nothing: terminals are the user's and the group tty's to
#: write to, and anybody may open a new one. The kernel's own default is root alone.
DEVPTS_OPTIONS = ("newinstance", "ptmxmode=0666", "mode=0620", "gid=5")


class MountFilesystem(Step):
    """A new file system of some type: proc, sysfs, tmpfs, devpts, mqueue, overlay …"""

    index: int
    kind: str
    source: str
    target: str
    options: MountOptions
    #: ``tmpcopyup``: copies from the covered directory into the new mount (both descriptors),
    #: but for what the options say of its root.
    fill: Callable[[int, int, Sequence[str]], None] | None = None
    #: ``linux.mountLabel``: the SELinux context of all that is in it.
    label: str = ""
    #: What of the host's is bound where a user namespace may not mount a new proc or sysfs; "" if
    #: that would show what the container should not see.
    stand_in: str = ""
    #: Whether something must be made in it yet: :class:`MakeMountReadOnly` comes at the end.
    read_only_later: bool = False
    #: Of an overlay: its options with a layer in each, for when they are too long together.
    layer_by_layer: Callable[[Sequence[str]], tuple[str, ...]] | None = None
    #: Opens the file system for mounting, as fsopen(2) does, where that takes more.
    opener: Callable[[Build], int] | None = None

    def describe(self) -> str:
        return f"mount {self.kind} on {self.target}"

    def apply(self, build: Build) -> None:
        options = self.options
        data = options.data
        attributes = options.enable
        if self.kind in ("proc", "sysfs"):
            target = open_ordinary_directory(build.root, self.target, self.source or self.kind)
        else:
            if self.kind == "tmpfs":
                data = _with_mode_of_directory(build.root, self.target, data)
            target = files.ensure_directory(build.root, self.target)
        try:
            is_proc = self.kind == "proc"
            check_target(build.root, target, self.target, build.proc, proc_root=is_proc)
            if self.read_only_later:
                attributes &= ~mounts.MOUNT_ATTR_RDONLY
            mount = self._mount(build, target, data, attributes)
            attached = mount < 0
            if attached:
                mount = _reopen(build.root, self.target, target)
            if self.fill is not None:
                self.fill(target, mount, options.data)
            if not attached:
                if self.label and self.kind in _LABELLED_LATER:
                    mounts.label(mount, self.label)
                mounts.attach(mount, target)
                if self.kind == "sysfs":
                    _hide_cgroups_of_the_host(mount)
        finally:
            posix.close(target)
        set_recursive_attributes(mount, options, read_only=not self.read_only_later)
        apply_propagation(mount, options)
        build.mounted(self.index, mount)

    def _mount(self, build: Build, target: int, data: tuple[str, ...], attributes: int) -> int:
        """Return the new mount, or -1 when it had to be attached by mount(2) already."""
        flags = self.options.filesystem_flags
        if attributes & mounts.MOUNT_ATTR_RDONLY:
            flags += ("ro",)
        label = mounts.context_option(self.label) if self.kind not in _LABELLED_LATER else ()
        if self.opener is not None:
            context = self.opener(build)
            mount = mounts.new_filesystem(
                self.kind, self.source, flags + data + label, attributes, context
            )
            # Whoever may trace the process that opened it could have had it open another.
            if files.filesystem_magic(mount) != files.PROC_SUPER_MAGIC:
                raise Error("what was opened in the pid namespace is no procfs")
            return mount
        if self.options.iversion or not mounts.fit_fsconfig((self.source, *data, *label)):
            # mount(2) would split a label at its commas.
            whole = ",".join((*data, *(f'context="{self.label}"' for _ in label)))
            if self.layer_by_layer is None or mounts.fits_mount(whole):
                flags_of_mount = mount_flags(self.options, attributes)
                where = f"/proc/self/fd/{target}"
                mounts.mount_legacy(self.source, where, self.kind, flags_of_mount, whole)
                return -1
            data = self.layer_by_layer(data)
            if not mounts.fit_fsconfig(data):
                raise Error(
                    f"{len(whole)} bytes of options are more than mount(2) takes, and a layer's "
                    "path is too long for fsconfig(2); shorten it, by a link for instance"
                )
        try:
            return mounts.new_filesystem(self.kind, self.source, flags + data + label, attributes)
        except OSError as error:
            if error.errno == EINVAL and data == DEVPTS_OPTIONS:
                # The group of terminals is none of the ids that the user namespace has.
                return mounts.new_filesystem(self.kind, self.source, data[:-1], attributes)
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
    #: As in :class:`MountFilesystem`.
    read_only_later: bool = False

    def describe(self) -> str:
        return f"bind {self.source} to {self.target}"

    def apply(self, build: Build) -> None:
        options = self.options
        mount = build.opened.sources.pop(self.index, -1)
        tied_to_host = mount >= 0
        if mount < 0:
            mount = open_bind_source(self.source, options)
            if (holder := build.opened.holders.pop(self.index, -1)) >= 0:
                self._map_ids(mount, holder)
        target = self._open_target(build.root, posix.stat(mount).st_mode)
        try:
            is_proc = files.filesystem_magic(mount) == files.PROC_SUPER_MAGIC
            check_target(build.root, target, self.target, build.proc, proc_root=is_proc)
            mounts.attach(mount, target)
        finally:
            posix.close(target)
        if tied_to_host and self.base_propagation:
            flag = self.base_propagation & ~mounts.MS_REC
            mounts.set_attributes(mount, propagation=flag, recursive=True)
        at_once = not self.read_only_later
        set_attributes(mount, options, read_only=at_once)
        set_recursive_attributes(mount, options, read_only=at_once)
        apply_propagation(mount, options)
        build.mounted(self.index, mount)

    def _map_ids(self, mount: int, holder: int) -> None:
        try:
            mounts.map_ids(mount, holder, recursive=self.options.recursive_idmap)
        except OSError as error:
            if error.errno != EPERM:
                raise
            raise Error(
                "in a user namespace what lies in the container's own root file system cannot be "
                "id-mapped (mount_setattr: operation not permitted)"
            ) from None
        finally:
            posix.close(holder)

    def _open_target(self, root: int, source: int) -> int:
        """Open what to mount on, of the same kind as the mode ``source``; make it if missing."""
        is_directory = source & files.S_IFMT == files.S_IFDIR
        try:
            if is_directory:
                return files.ensure_directory(root, self.target)
            target = files.ensure_file(root, self.target)
        except OSError as error:
            if error.errno == ENOTDIR:
                self._refuse_other_kind(root, source)
            raise
        if posix.stat(target).st_mode & files.S_IFMT == files.S_IFDIR:
            posix.close(target)
            self._refuse_other_kind(root, source)
        return target

    def _refuse_other_kind(self, root: int, source: int) -> None:
        """:raises OSError: with the kinds of both, if there is something that can be opened."""
        try:
            target = files.open_in_root(root, self.target)
        except OSError:
            # It is a part of the way there that is no directory.
            return
        there = _kind(posix.stat(target).st_mode)
        posix.close(target)
        what = f"not a directory: {self.source} is {_kind(source)}, {self.target} is {there}"
        raise OSError(ENOTDIR, what)


def _kind(mode: int) -> str:
    return {
        files.S_IFDIR: "a directory",
        files.S_IFREG: "a file",
        files.S_IFSOCK: "a socket",
        files.S_IFIFO: "a fifo",
    }.get(mode & files.S_IFMT, "a device")


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
            if options.bind or is_root(build.root, target, build.proc):
                # The file system below the root is the host's, and not the container's to change.
                set_attributes(target, options)
            else:
                where = f"/proc/self/fd/{target}"
                mounts.mount_legacy("", where, "", flags, ",".join(options.data))
            set_recursive_attributes(target, options)
            apply_propagation(target, options)
        finally:
            posix.close(target)


class MakeMountReadOnly(Step):
    """The ``ro`` of a mount, once everything that must lie in it is made."""

    index: int
    target: str

    def describe(self) -> str:
        return f"make {self.target} read-only"

    def comes_back_to(self) -> tuple[int, ...]:
        return (self.index,)

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
