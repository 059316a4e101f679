"""The mount system calls: fsopen(2), open_tree(2), move_mount(2), mount_setattr(2), pivot_root(2).

All of these work on descriptors, so that a mount is made on exactly the
directory that was looked at. They exist since Linux 5.2, mount_setattr since
5.12. Where one is refused :mod:`pyrunc.linux.mounts_by_path` stands in for all.
"""

from __future__ import annotations

import posix
from _struct import pack
from errno import E2BIG, ENODEV

from pyrunc.linux.libc import cstring, syscall
from pyrunc.linux.numbers import SYS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from pyrunc.linux.mounts_by_path import MountsByPath

MS_RDONLY = 0x1
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_SYNCHRONOUS = 0x10
MS_REMOUNT = 0x20
MS_MANDLOCK = 0x40
MS_DIRSYNC = 0x80
MS_NOSYMFOLLOW = 0x100
MS_NOATIME = 0x400
MS_NODIRATIME = 0x800
MS_BIND = 0x1000
MS_MOVE = 0x2000
MS_REC = 0x4000
MS_SILENT = 0x8000
MS_UNBINDABLE = 1 << 17
MS_PRIVATE = 1 << 18
MS_SLAVE = 1 << 19
MS_SHARED = 1 << 20
MS_RELATIME = 1 << 21
MS_I_VERSION = 1 << 23
MS_STRICTATIME = 1 << 24
MS_LAZYTIME = 1 << 25

MOUNT_ATTR_RDONLY = 0x1
MOUNT_ATTR_NOSUID = 0x2
MOUNT_ATTR_NODEV = 0x4
MOUNT_ATTR_NOEXEC = 0x8
MOUNT_ATTR_ATIME = 0x70
MOUNT_ATTR_NOATIME = 0x10
MOUNT_ATTR_STRICTATIME = 0x20
MOUNT_ATTR_NODIRATIME = 0x80
MOUNT_ATTR_IDMAP = 0x100000
MOUNT_ATTR_NOSYMFOLLOW = 0x200000

AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000
AT_RECURSIVE = 0x8000
OPEN_TREE_CLONE = 1
OPEN_TREE_CLOEXEC = posix.O_CLOEXEC
FSOPEN_CLOEXEC = 1
FSMOUNT_CLOEXEC = 1
FSCONFIG_SET_FLAG = 0
FSCONFIG_SET_STRING = 1
FSCONFIG_CMD_CREATE = 6
MOVE_MOUNT_F_EMPTY_PATH = 0x4
MOVE_MOUNT_T_EMPTY_PATH = 0x40
MNT_DETACH = 2

#: Who makes this process's mounts where the calls here are refused; set by mounts_by_path.
instead: MountsByPath | None = None

#: fsconfig(2) takes strings of 255 bytes at most; longer ones need mount(2).
FSCONFIG_MAXIMUM = 255
#: mount(2) takes a page of options, with the zero at the end, and cuts the rest off.
_PAGE: int = posix.sysconf("SC_PAGE_SIZE")


def new_filesystem(
    kind: str, source: str, options: tuple[str, ...], attributes: int, context: int = -1
) -> int:
    """Make a file system of type ``kind`` and return its mount, attached nowhere yet.

    :param options: ``key`` or ``key=value``, each at most FSCONFIG_MAXIMUM bytes.
    :param attributes: ``MOUNT_ATTR_*``.
    :param context: what fsopen(2) has given already; it is closed afterwards.
    :raises OSError: with the kernel's own explanation where it gives one.
    """
    if context < 0:
        if instead is not None:
            return instead.new_filesystem(kind, source, options, attributes)
        context = _open_filesystem(kind)
    try:
        try:
            if source:
                _configure(context, FSCONFIG_SET_STRING, "source", source)
            for option in options:
                key, equals, value = option.partition("=")
                if equals:
                    _configure(context, FSCONFIG_SET_STRING, key, value)
                else:
                    _configure(context, FSCONFIG_SET_FLAG, key, None)
            syscall(SYS["fsconfig"], context, FSCONFIG_CMD_CREATE)
            return syscall(SYS["fsmount"], context, FSMOUNT_CLOEXEC, attributes)
        except OSError as error:
            explanation = _kernel_explanation(context)
            if not explanation:
                raise
            raise OSError(error.errno, f"{error.strerror} ({explanation})") from None
    finally:
        posix.close(context)


def fit_fsconfig(options: Iterable[str]) -> bool:
    """Tell whether fsconfig(2) takes each of the options, ``key`` or ``key=value``."""
    return all(len(cstring(option)) <= FSCONFIG_MAXIMUM for option in options)


def fits_mount(options: str) -> bool:
    """Tell whether mount(2) takes all of the options."""
    return len(cstring(options)) <= _PAGE


def _open_filesystem(kind: str) -> int:
    try:
        return syscall(SYS["fsopen"], cstring(kind), FSOPEN_CLOEXEC)
    except OSError as error:
        if error.errno != ENODEV:
            raise
        # The errno's text, "no such device", is about something else (mount(2), ENODEV).
        why = f'the kernel knows no file system "{kind}" (a slip, or a module that is not loaded)'
        raise OSError(ENODEV, why) from None


def _configure(context: int, command: int, key: str, value: str | None) -> None:
    text = 0 if value is None else cstring(value)
    syscall(SYS["fsconfig"], context, command, cstring(key), text)


def _kernel_explanation(context: int) -> str:
    """Read what the kernel wrote to the file system context about the last failure."""
    lines: list[str] = []
    try:
        while len(lines) < 8:
            lines.append(posix.read(context, 1024).decode("utf-8", "replace").strip()[2:])
    except OSError:
        pass
    return "; ".join(lines)


def context_option(label: str) -> tuple[str, ...]:
    """Return the option of a new file system that gives all in it the SELinux ``label``."""
    return (f"context={label}",) if label else ()


def label(mount: int, label: str) -> None:
    """Give the root of a mount the SELinux ``label`` (selinux(8), xattr(7))."""
    value = label.encode("utf-8", "surrogateescape") + b"\0"
    posix.setxattr(f"/proc/self/fd/{mount}", "security.selinux", value)


def clone_tree(directory: int, path: str, *, recursive: bool) -> int:
    """Copy the mount at ``path`` (of descriptor ``directory`` itself if empty), attached nowhere.

    With ``recursive`` all mounts below come along. It is the first half of a bind mount.
    """
    if instead is not None:
        return instead.clone_tree(directory, path, recursive=recursive)
    flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | (AT_RECURSIVE if recursive else 0)
    if not path:
        flags |= AT_EMPTY_PATH
    return syscall(SYS["open_tree"], directory, cstring(path), flags)


def attach(mount: int, target: int) -> None:
    """Put the detached ``mount`` on the directory or file that ``target`` refers to."""
    if instead is not None:
        instead.attach(mount, target)
        return
    flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH
    syscall(SYS["move_mount"], mount, b"\0", target, b"\0", flags)


def set_attributes(
    mount: int,
    *,
    enable: int = 0,
    disable: int = 0,
    propagation: int = 0,
    recursive: bool = False,
    user_namespace: int = 0,
) -> None:
    """Change attributes (``MOUNT_ATTR_*``) and propagation (``MS_SHARED`` …) of a mount.

    Only the named attributes change; all others stay as they are. ``user_namespace`` is the
    descriptor of the namespace whose mapping MOUNT_ATTR_IDMAP applies.
    """
    if instead is not None:
        instead.set_attributes(
            mount, enable=enable, disable=disable, propagation=propagation, recursive=recursive
        )
        return
    change = pack("=QQQQ", enable, disable, propagation, user_namespace)
    flags = AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0)
    syscall(SYS["mount_setattr"], mount, b"\0", flags, change, len(change))


def map_ids(mount: int, user_namespace: int, *, recursive: bool) -> None:
    """Show the files of a mount that is attached nowhere with the mapping of a user namespace."""
    set_attributes(
        mount, enable=MOUNT_ATTR_IDMAP, user_namespace=user_namespace, recursive=recursive
    )


def mount_legacy(source: str, target: str, kind: str, flags: int, options: str) -> None:
    """mount(2), for what the newer calls cannot say.

    :raises OSError: also for options that the kernel would cut.
    """
    if not fits_mount(options):
        raise OSError(E2BIG, f"options of {len(options)} bytes, mount(2) takes {_PAGE - 1}")
    syscall(
        SYS["mount"],
        cstring(source or "none"),
        cstring(target),
        cstring(kind) if kind else 0,
        flags,
        cstring(options) if options else 0,
    )


def unmount(path: str) -> None:
    """Take away the mount at ``path`` and all below it, also while they are in use (MNT_DETACH)."""
    syscall(SYS["umount2"], cstring(path), MNT_DETACH)


def set_root_propagation(flags: int) -> None:
    """Set the propagation (``MS_SLAVE | MS_REC`` …) of the mount at "/"."""
    mount_legacy("", "/", "", flags, "")


def pivot_root(new_root: int) -> None:
    """Make the mount ``new_root`` the root of this mount namespace and drop the old one.

    ``pivot_root(".", ".")`` stacks the old root on top of the new one, where it
    is unmounted at once; no directory is needed for it (pivot_root(2), NOTES).
    """
    old_root = posix.open("/", posix.O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC)
    try:
        posix.fchdir(new_root)
        syscall(SYS["pivot_root"], b".\0", b".\0")
        posix.fchdir(old_root)
    finally:
        posix.close(old_root)
    # The unmount must not travel back to the host, and the host's not to us.
    mount_legacy("", ".", "", MS_SLAVE | MS_REC, "")
    syscall(SYS["umount2"], b".\0", MNT_DETACH)
    posix.chdir("/")
