"""Mounts of type ``cgroup``: the container's view of its own cgroups."""

from __future__ import annotations

import posix
from errno import EBUSY, EPERM

from pyrunc.linux import files, mounts
from pyrunc.rootfs.options import MountOptions, apply_propagation
from pyrunc.rootfs.target import check_target
from pyrunc.step import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.step import Build

#: These are the v2 hierarchy's, not a mount's (cgroup-v2.rst, "Mounting"): whoever mounts it
#: without them, and is in no cgroup namespace, takes them from the whole host.
_OF_THE_HIERARCHY = frozenset(
    (
        "favordynmods",
        "memory_hugetlb_accounting",
        "memory_localevents",
        "memory_recursiveprot",
        "nsdelegate",
        "pids_localevents",
    )
)
_SAFE = mounts.MOUNT_ATTR_NOSUID | mounts.MOUNT_ATTR_NODEV | mounts.MOUNT_ATTR_NOEXEC


def _open_target(build: Build, path: str) -> int:
    target = files.ensure_directory(build.root, path)
    try:
        check_target(build.root, target, path, build.proc)
    except BaseException:
        posix.close(target)
        raise
    return target


class MountCgroupV1(Step):
    """A tmpfs with a directory for each v1 hierarchy.

    In a cgroup namespace each hierarchy is mounted anew and shows the container's cgroup
    as its root; without one, the container's own directory of the host is bound.
    """

    index: int
    target: str
    options: MountOptions
    #: (directory name, controllers as cgroup mount options, the container's directory on the host,
    #: "" if it has none)
    hierarchies: tuple[tuple[str, str, str], ...]
    #: Links from a single controller's name to the directory it shares with others.
    links: tuple[tuple[str, str], ...]
    namespaced: bool
    #: ``linux.mountLabel``, for the tmpfs.
    label: str = ""

    def describe(self) -> str:
        return f"mount the cgroup hierarchies on {self.target}"

    def apply(self, build: Build) -> None:
        enable = self.options.enable | self.options.recursive_enable
        target = _open_target(build, self.target)
        attributes = enable & ~mounts.MOUNT_ATTR_RDONLY | _SAFE
        data = ("mode=755", *mounts.context_option(self.label))
        tmpfs = mounts.new_filesystem("tmpfs", "tmpfs", data, attributes)
        mounts.attach(tmpfs, target)
        posix.close(target)
        for name, controllers, host_directory in self.hierarchies:
            posix.mkdir(name, 0o755, dir_fd=tmpfs)
            where = posix.open(name, files.O_PATH | files.O_CLOEXEC, dir_fd=tmpfs)
            if not self.namespaced and not host_directory:
                posix.close(where)
                continue
            if self.namespaced:
                flags = tuple(controllers.split(","))
                mount = mounts.new_filesystem("cgroup", "cgroup", flags, enable | _SAFE)
                mounts.attach(mount, where)
            else:
                try:
                    mount = mounts.clone_tree(mounts.AT_FDCWD, host_directory, recursive=True)
                except FileNotFoundError:
                    # Without root the container may have no cgroup of its own here: then it
                    # sees an empty directory, and nothing of the host's.
                    posix.close(where)
                    continue
                mounts.attach(mount, where)
                mounts.set_attributes(mount, enable=enable | _SAFE)
            posix.close(mount)
            posix.close(where)
        for link, destination in self.links:
            posix.symlink(destination, link, dir_fd=tmpfs)
        if self.options.read_only:
            mounts.set_attributes(tmpfs, enable=mounts.MOUNT_ATTR_RDONLY)
        apply_propagation(tmpfs, self.options)
        build.mounted(self.index, tmpfs)


def _present(proc: int) -> tuple[str, ...]:
    """Return the options that the v2 hierarchy has now.

    :param proc: a descriptor of the host's /proc.
    """
    for line in files.read_file("self/mountinfo", proc).splitlines():
        kind, *_, options = line.partition(b" - ")[2].decode("utf-8", "replace").split(" ")
        if kind == "cgroup2":
            return tuple(name for name in options.split(",") if name in _OF_THE_HIERARCHY)
    return ()


class MountCgroupV2(Step):
    """The unified hierarchy, or the container's own part of it where it may not be mounted anew."""

    index: int
    target: str
    options: MountOptions
    #: The container's directory on the host; nothing when it has none of its own.
    host_directory: str
    namespaced: bool

    def describe(self) -> str:
        return f"mount the cgroup hierarchy on {self.target}"

    def apply(self, build: Build) -> None:
        enable = self.options.enable | self.options.recursive_enable
        target = _open_target(build, self.target)
        try:
            mount = self._mount(enable, () if self.namespaced else _present(build.proc))
            mounts.attach(mount, target)
        finally:
            posix.close(target)
        mounts.set_attributes(mount, enable=enable)
        apply_propagation(mount, self.options)
        build.mounted(self.index, mount)

    def _mount(self, enable: int, present: tuple[str, ...]) -> int:
        data = (*self.options.data, *present)
        try:
            return mounts.new_filesystem("cgroup2", "cgroup", data, enable)
        except OSError as error:
            # A user namespace without a cgroup namespace may not mount it. Only the
            # container's own directory is bound then, never the host's whole tree.
            if error.errno not in (EPERM, EBUSY):
                raise
        if not self.host_directory:
            return mounts.new_filesystem("tmpfs", "tmpfs", ("ro",), mounts.MOUNT_ATTR_RDONLY)
        return mounts.clone_tree(mounts.AT_FDCWD, self.host_directory, recursive=True)
