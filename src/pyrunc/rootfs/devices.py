"""Device nodes and the links that every /dev has (config-linux.md, "Default Devices")."""

from __future__ import annotations

import posix
from errno import EEXIST, ENOENT, EPERM

from pyrunc.errors import Error
from pyrunc.linux import files, mounts
from pyrunc.linux.own_directory import open_on_mount, open_own
from pyrunc.step import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.step import Build

#: Path, major, minor of what every container gets (config-linux.md).
DEFAULT_DEVICES = (
    ("/dev/null", 1, 3),
    ("/dev/random", 1, 8),
    ("/dev/full", 1, 7),
    ("/dev/tty", 5, 0),
    ("/dev/zero", 1, 5),
    ("/dev/urandom", 1, 9),
)
MULTIPLEXER = "/dev/ptmx"
#: runtime-linux.md, "Dev symbolic links"; /dev/core is what runc adds.
LINKS = (
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
)
#: Who has no name in a user namespace (/proc/sys/kernel/overflowuid).
_OVERFLOW_ID = 65534
_KIND = {"c": files.S_IFCHR, "u": files.S_IFCHR, "b": files.S_IFBLK, "p": files.S_IFIFO}


#: The name of a device in the tmpfs that the runtime has made for it.
NODE = "device"


class MakeDevice(Step):
    """A device node, made with mknod(2) or, where that is forbidden, bound from the host."""

    path: str
    kind: str
    major: int
    minor: int
    mode: int
    uid: int
    gid: int
    #: In a user namespace mknod(2) of a device always fails: the runtime's is bound, or the host's.
    bind: bool = False
    #: Of a device that the config asks for, an unfitting file there is an error.
    strict: bool = False
    #: Without a mount namespace of its own nothing may be mounted: the host would see it.
    may_bind: bool = True
    #: Number and destination of the config's mount that it lies on; -1 for the root file system.
    place: tuple[int, str] = (-1, "/")

    def comes_back_to(self) -> tuple[int, ...]:
        return self.place[:1]

    def describe(self) -> str:
        return f"make device {self.path} ({self.kind} {self.major}:{self.minor})"

    def apply(self, build: Build) -> None:
        parent_path, _, name = files.clean_path(self.path).rpartition("/")
        if not name:
            raise Error(f"device path {self.path!r} names no file")
        parent = _open_own(build, parent_path or "/", self.place)
        try:
            if self.bind and self.kind != "p":
                self._bind(build, parent, name)
            else:
                self._make(build, parent, name)
        finally:
            posix.close(parent)

    def _make(self, build: Build, parent: int, name: str) -> None:
        number = posix.makedev(self.major, self.minor) if self.kind != "p" else 0
        try:
            posix.mknod(name, _KIND[self.kind] | self.mode, number, dir_fd=parent)
        except OSError as error:
            if error.errno == EPERM and self.may_bind:
                self._bind(build, parent, name)
                return
            if error.errno != EEXIST:
                raise
            if not self._is_it(posix.stat(name, dir_fd=parent, follow_symlinks=False)):
                if self.strict or not self.may_bind:
                    raise Error(
                        f"a file that is not device {self.kind} {self.major}:{self.minor} "
                        "is there already"
                    ) from None
                self._bind(build, parent, name)
            return
        node = posix.open(name, files.O_PATH | files.O_NOFOLLOW | files.O_CLOEXEC, dir_fd=parent)
        try:
            if not self._is_it(posix.stat(node)):
                raise Error("it was replaced while it was made")
            here = f"/proc/self/fd/{node}"
            # The umask took bits from mknod's mode.
            posix.chmod(here, self.mode)
            if self.uid or self.gid:
                posix.chown(here, self.uid, self.gid)
        finally:
            posix.close(node)

    def _bind(self, build: Build, parent: int, name: str) -> None:
        made = build.opened.devices.pop(self.path, -1)
        mount = _take_node(made, parent) if made >= 0 else self._clone_of_host()
        flags = posix.O_WRONLY | posix.O_CREAT | files.O_NOFOLLOW | files.O_CLOEXEC
        try:
            posix.close(posix.open(name, flags | posix.O_EXCL, 0o644, dir_fd=parent))
        except OSError as error:
            if error.errno != EEXIST:
                raise
        target = posix.open(name, files.O_PATH | files.O_NOFOLLOW | files.O_CLOEXEC, dir_fd=parent)
        mounts.attach(mount, target)
        if made < 0 and posix.stat(mount).st_uid != _OVERFLOW_ID:
            # Its owner has a name in the container, where somebody could give the host's device
            # another owner or mode. The device itself stays writable.
            mounts.set_attributes(mount, enable=mounts.MOUNT_ATTR_RDONLY)
        posix.close(mount)
        posix.close(target)

    def _clone_of_host(self) -> int:
        source = open_on_host(self)
        try:
            return mounts.clone_tree(source, "", recursive=False)
        finally:
            posix.close(source)

    def _is_it(self, status: posix.stat_result) -> bool:
        return _is_device(status, self.kind, self.major, self.minor)


def _take_node(holder: int, place: int) -> int:
    """Return a mount of the device alone that is in the tmpfs ``holder``; that is gone then.

    Until Linux 6.15 only what is attached can be bound: so it is, to the directory ``place``.
    """
    mounts.attach(holder, place)
    try:
        node = posix.open(NODE, files.O_PATH | files.O_NOFOLLOW | files.O_CLOEXEC, dir_fd=holder)
        try:
            return mounts.clone_tree(node, "", recursive=False)
        finally:
            posix.close(node)
    finally:
        mounts.unmount(f"/proc/self/fd/{holder}")
        posix.close(holder)


def mode_of(device: MakeDevice) -> int:
    """Return type and permissions for mknod(2)."""
    return _KIND[device.kind] | device.mode


def is_on_host(device: MakeDevice) -> bool:
    """Tell whether the host has the device at the same path."""
    try:
        posix.close(_open_at(device.path, device))
    except (OSError, Error):
        return False
    return True


def open_on_host(device: MakeDevice) -> int:
    """Open (O_PATH) the host's device of this number: at the same path, or elsewhere in /dev.

    :raises Error: when there is none.
    """
    block = "block" if device.kind == "b" else "char"
    names = [device.path, f"/dev/{block}/{device.major}:{device.minor}"]
    for path in names:
        try:
            return _open_at(path, device)
        except (OSError, Error):
            continue
    for name in posix.listdir("/dev"):
        try:
            return _open_at(f"/dev/{name}", device)
        except (OSError, Error):
            continue
    raise Error(
        "in a user namespace nobody can make devices, and the host's /dev has none of this number"
    )


def _open_at(path: str, device: MakeDevice) -> int:
    """:raises OSError: also for a link to what a process has open, such as /dev/stdin."""
    found = files.openat2(mounts.AT_FDCWD, path, files.O_PATH, files.RESOLVE_NO_MAGICLINKS)
    if _is_device(posix.stat(found), device.kind, device.major, device.minor):
        return found
    posix.close(found)
    raise Error(f"{path} is another file")


class FindDevice(Step):
    """A device that must be there already: in a /dev bound from the host nothing is made."""

    path: str
    kind: str
    major: int
    minor: int

    def describe(self) -> str:
        return f"find device {self.path} ({self.kind} {self.major}:{self.minor}) in the bound /dev"

    def apply(self, build: Build) -> None:
        node = files.open_in_root(build.root, self.path)
        try:
            if not _is_device(posix.stat(node), self.kind, self.major, self.minor):
                raise Error("a file that is not that device is there")
        finally:
            posix.close(node)


def _is_device(status: posix.stat_result, kind: str, major: int, minor: int) -> bool:
    if status.st_mode & files.S_IFMT != _KIND[kind]:
        return False
    return kind == "p" or status.st_rdev == posix.makedev(major, minor)


def _open_own(build: Build, path: str, place: tuple[int, str]) -> int:
    index, destination = place
    if index < 0 and not f"{path}/".startswith("/dev/"):
        return open_on_mount(build.root, path)
    mount = build.mounts[index] if index >= 0 else build.root
    return open_own(build.root, path, mount, destination)


class MakeDeviceLinks(Step):
    """/dev/fd, /dev/stdin, /dev/stdout, /dev/stderr, /dev/core and /dev/ptmx."""

    place: tuple[int, str] = (-1, "/")

    def comes_back_to(self) -> tuple[int, ...]:
        return self.place[:1]

    def describe(self) -> str:
        return "make the links of /dev"

    def apply(self, build: Build) -> None:
        device_directory = _open_own(build, "/dev", self.place)
        try:
            for name, target in LINKS:
                _link(device_directory, name, target)
            try:
                posix.stat("kcore", dir_fd=build.proc, follow_symlinks=False)
                _link(device_directory, "core", "/proc/kcore")
            except OSError as error:
                if error.errno != ENOENT:
                    raise
            # Whatever an image has there must not be the host's multiplexer.
            try:
                posix.unlink("ptmx", dir_fd=device_directory)
            except OSError as error:
                if error.errno != ENOENT:
                    raise
            _link(device_directory, "ptmx", "pts/ptmx")
        finally:
            posix.close(device_directory)


def _link(directory: int, name: str, target: str) -> None:
    try:
        posix.symlink(target, name, dir_fd=directory)
    except OSError as error:
        if error.errno != EEXIST:
            raise
