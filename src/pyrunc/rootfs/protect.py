"""``maskedPaths`` and ``readonlyPaths``: parts of /proc and /sys kept from the container."""

from __future__ import annotations

import posix
from errno import ENOENT, ENOTDIR

from pyrunc.errors import Error
from pyrunc.linux import files, mounts
from pyrunc.rootfs.target import is_root
from pyrunc.step import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.step import Build

_NULL_DEVICE = posix.makedev(1, 3)


class MaskPath(Step):
    """Cover a file with the null device, a directory with an empty read-only tmpfs."""

    path: str
    #: ``linux.mountLabel``.
    label: str = ""

    def describe(self) -> str:
        return f"mask {self.path}"

    def apply(self, build: Build) -> None:
        target = _open_if_there(build, self.path)
        if target < 0:
            return
        try:
            if posix.stat(target).st_mode & files.S_IFMT == files.S_IFDIR:
                _cover_directory(build, target, self.label)
            else:
                _cover_file(target)
        finally:
            posix.close(target)


def _cover_directory(build: Build, target: int, label: str) -> None:
    """All masked directories show one and the same empty tmpfs: it is made once, then cloned."""
    if build.null < 0:
        build.null = empty_filesystem(label)
        mounts.attach(build.null, target)
        return
    clone = mounts.clone_tree(build.null, "", recursive=False)
    mounts.attach(clone, target)
    posix.close(clone)


def empty_filesystem(label: str = "") -> int:
    """Return a mount of one, attached nowhere, that is and stays empty.

    :param label: ``linux.mountLabel``.
    """
    options = ("ro", "size=4k", "nr_inodes=1", *mounts.context_option(label))
    return mounts.new_filesystem("tmpfs", "tmpfs", options, mounts.MOUNT_ATTR_RDONLY)


def _cover_file(target: int) -> None:
    """The host's /dev/null is the cover; its identity is checked on the descriptor.

    The container's own /dev/null could be anything (CVE-2025-31133). The cover is read-only,
    which a device does not mind: else chmod(2) and chown(2) of it would reach the host's.
    """
    null = posix.open("/dev/null", files.O_PATH | files.O_CLOEXEC)
    try:
        status = posix.stat(null)
        if status.st_mode & files.S_IFMT != files.S_IFCHR or status.st_rdev != _NULL_DEVICE:
            raise Error("the host's /dev/null is not the null device")
        cover = mounts.clone_tree(null, "", recursive=False)
        mounts.attach(cover, target)
        mounts.set_attributes(cover, enable=mounts.MOUNT_ATTR_RDONLY)
        posix.close(cover)
    finally:
        posix.close(null)


class ProtectPath(Step):
    """Make what is at the path read-only by binding it to itself."""

    path: str

    def describe(self) -> str:
        return f"make {self.path} read-only"

    def apply(self, build: Build) -> None:
        target = _open_if_there(build, self.path)
        if target < 0:
            return
        try:
            cover = mounts.clone_tree(target, "", recursive=True)
            mounts.attach(cover, target)
            mounts.set_attributes(cover, enable=mounts.MOUNT_ATTR_RDONLY)
            posix.close(cover)
        finally:
            posix.close(target)


def _open_if_there(build: Build, path: str) -> int:
    """Open ``path`` below the root, or return -1: what is not there needs no protection.

    :raises Error: for the root itself: what covers it would lie under it, and do nothing.
    """
    try:
        target = files.open_in_root(build.root, path)
    except OSError as error:
        if error.errno not in (ENOENT, ENOTDIR):
            raise
        return -1
    if is_root(build.root, target, build.proc):
        posix.close(target)
        raise Error(f'"{path}" is the root of the container; see root.readonly')
    return target
