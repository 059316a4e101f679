"""The root file system itself: how it is brought in, and how it becomes "/"."""

from __future__ import annotations

import posix
from errno import EINVAL, EPERM

from pyrunc.errors import Error, reason
from pyrunc.linux import files, mounts
from pyrunc.step import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.step import Build


class SetPropagation(Step):
    """Cut the new mount namespace off from the host's, or leave it tied, before any mount."""

    name: str
    flags: int

    def describe(self) -> str:
        return f"make all mounts of the container's namespace {self.name}"

    def apply(self, build: Build) -> None:
        mounts.set_root_propagation(self.flags)


class BringRoot(Step):
    """Bind the root file system to itself, so that it is a mount that can become "/"."""

    path: str
    #: The parent mount is shared with the host: a pivot needs it private (pivot_root(2)).
    parent_is_shared: bool = False

    def describe(self) -> str:
        return f"bind the root file system {self.path}"

    def apply(self, build: Build) -> None:
        try:
            target = posix.open(self.path, files.O_PATH | files.O_DIRECTORY | files.O_CLOEXEC)
        except PermissionError as error:
            raise Error(
                f"{reason(error)}; root of the container's user namespace must be let through "
                "every directory that leads there"
            ) from None
        try:
            if self.parent_is_shared:
                _make_mount_private(target)
            build.root = mounts.clone_tree(target, "", recursive=True)
            if self.parent_is_shared:
                mounts.set_attributes(build.root, propagation=mounts.MS_PRIVATE)
            mounts.attach(build.root, target)
        finally:
            posix.close(target)


def _make_mount_private(directory: int) -> None:
    """Make the mount that ``directory`` lies on private, found by walking up to its root.

    Walking costs a few calls; reading mountinfo would cost milliseconds on a
    host with thousands of mounts.
    """
    here = posix.open(".", files.O_PATH | files.O_DIRECTORY | files.O_CLOEXEC, dir_fd=directory)
    while True:
        try:
            mounts.set_attributes(here, propagation=mounts.MS_PRIVATE)
            break
        except OSError as error:
            # EINVAL: not the root of a mount.
            if error.errno != EINVAL:
                raise
        above = posix.open("..", files.O_PATH | files.O_DIRECTORY | files.O_CLOEXEC, dir_fd=here)
        at_top = files.are_same(above, here)
        posix.close(here)
        here = above
        if at_top:
            break
    posix.close(here)


class UseRootInPlace(Step):
    """Without a mount namespace of its own the container is only chrooted."""

    path: str

    def describe(self) -> str:
        return f"open the root file system {self.path}"

    def apply(self, build: Build) -> None:
        flags = files.O_PATH | files.O_DIRECTORY | files.O_CLOEXEC
        build.root = posix.open(self.path, flags)


class PivotRoot(Step):
    """Make the root file system "/" and drop the host's tree."""

    def describe(self) -> str:
        return "pivot to the root file system"

    def apply(self, build: Build) -> None:
        try:
            mounts.pivot_root(build.root)
        except OSError as error:
            hint = ""
            if error.errno == EINVAL:
                hint = "; on a host that runs from its initramfs, --no-pivot is needed"
            raise Error(f"pivot_root: {reason(error)}{hint}") from None


class MoveRoot(Step):
    """What ``--no-pivot`` asks for: mount the root over "/" and chroot to it.

    Needed where the host's root is the initramfs, which cannot be pivoted away.
    The host's tree stays reachable for who can leave a chroot: less safe. Its procfs and
    sysfs must go: while whole ones are in the mount namespace, the kernel lets a user
    namespace made inside mount new ones, in which nothing is masked (mount_too_revealing).
    """

    path: str

    def describe(self) -> str:
        return "move the root file system over / and chroot to it"

    def apply(self, build: Build) -> None:
        for point in _revealing_mounts(build.proc, self.path):
            _remove_or_cover(point)
        posix.fchdir(build.root)
        mounts.mount_legacy(".", "/", "", mounts.MS_MOVE, "")
        posix.chroot(".")
        posix.chdir("/")


def _revealing_mounts(proc: int, root: str) -> list[str]:
    """Return where the host's own procfs and sysfs are mounted, innermost first."""
    found: list[str] = []
    table = files.read_file("self/mountinfo", proc).decode("utf-8", "surrogateescape")
    for line in table.splitlines():
        fields, _, kind = line.partition(" - ")
        if kind.partition(" ")[0] not in ("proc", "sysfs"):
            continue
        inside, point = fields.split(" ")[3:5]
        for code, letter in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
            point = point.replace(code, letter)
        if inside == "/" and point != root and not point.startswith(root.rstrip("/") + "/"):
            found.append(point)
    return found[::-1]


def _remove_or_cover(point: str) -> None:
    try:
        mounts.mount_legacy("", point, "", mounts.MS_SLAVE | mounts.MS_REC, "")
        mounts.unmount(point)
    except OSError as error:
        # What came with the mount namespace of another user may only be covered.
        if error.errno not in (EINVAL, EPERM):
            raise
        mounts.mount_legacy("tmpfs", point, "tmpfs", 0, "")


class ChangeRoot(Step):
    """chroot(2), for a container that has no mount namespace."""

    def describe(self) -> str:
        return "chroot to the root file system"

    def apply(self, build: Build) -> None:
        posix.fchdir(build.root)
        posix.chroot(".")
        posix.chdir("/")


class SetRootPropagation(Step):
    """Give the container's "/" the propagation that ``rootfsPropagation`` asks for."""

    name: str
    flags: int

    def describe(self) -> str:
        return f"make / {self.name}"

    def apply(self, build: Build) -> None:
        mounts.set_root_propagation(self.flags)


class MakeRootReadOnly(Step):
    """``root.readonly``: the root mount, not what is mounted below it."""

    def describe(self) -> str:
        return "make the root file system read-only"

    def apply(self, build: Build) -> None:
        mounts.set_attributes(build.root, enable=mounts.MOUNT_ATTR_RDONLY)
