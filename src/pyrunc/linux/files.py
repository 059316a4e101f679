"""Opening and reading files when names alone cannot be trusted.

Paths of a container's root file system belong to its image, and so to whoever
made it. They are resolved by the kernel below a directory descriptor
(openat2(2) with RESOLVE_IN_ROOT), and used as descriptors afterwards.
"""

from __future__ import annotations

import posix
import time
from _struct import pack, unpack_from
from errno import EAGAIN, EEXIST, EINVAL, EISDIR, ELOOP, ENOENT, ENOSYS, ENOTDIR, EPERM, EXDEV

from pyrunc.linux.libc import cstring, syscall
from pyrunc.linux.numbers import SYS

O_PATH = posix.O_PATH
O_CLOEXEC = posix.O_CLOEXEC
O_DIRECTORY = posix.O_DIRECTORY
O_NOFOLLOW = posix.O_NOFOLLOW

RESOLVE_NO_XDEV = 0x01
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
RESOLVE_IN_ROOT = 0x10

S_IFMT = 0o170000
S_IFDIR = 0o040000
S_IFREG = 0o100000
S_IFLNK = 0o120000
S_IFCHR = 0o020000
S_IFBLK = 0o060000
S_IFIFO = 0o010000
S_IFSOCK = 0o140000

PROC_SUPER_MAGIC = 0x9FA0
SYSFS_MAGIC = 0x62656572
TMPFS_MAGIC = 0x01021994
DEVPTS_SUPER_MAGIC = 0x1CD1
CGROUP_SUPER_MAGIC = 0x27E0EB
CGROUP2_SUPER_MAGIC = 0x63677270
NSFS_MAGIC = 0x6E736673

_MFD_CLOEXEC = 1
_SIZE_OF_STATFS = 120
_ATTEMPTS, _ATTEMPTS_AT_ONCE = 300, 100
#: As many links as the kernel follows in one resolution (path_resolution(7)).
_MAXIMUM_LINKS = 40


def openat2(directory: int, path: str, flags: int, resolve: int, mode: int = 0) -> int:
    """Open ``path`` below ``directory`` under the ``RESOLVE_*`` rules of openat2(2).

    EAGAIN, which the kernel gives when a rename or a mount anywhere on the system raced
    with a ``..``, is tried again, for a second; who keeps it up for longer makes it an error.
    Where the call is refused the path is walked by hand (resolve.py).
    """
    how = pack("=QQQ", flags | O_CLOEXEC, mode, resolve)
    name = cstring(path)
    for attempt in range(_ATTEMPTS):
        try:
            return syscall(SYS["openat2"], directory, name, how, len(how))
        except OSError as error:
            if error.errno in (ENOSYS, EPERM):
                return _walk(directory, path, flags, resolve, error)
            if error.errno != EAGAIN:
                raise
        if attempt >= _ATTEMPTS_AT_ONCE:
            time.sleep(0.005)
    raise OSError(EAGAIN, posix.strerror(EAGAIN))


def _walk(directory: int, path: str, flags: int, resolve: int, refusal: OSError) -> int:
    try:
        from pyrunc.linux.resolve import Walk
    except ImportError:
        # A builder that has no filter around it, so nobody refused: it may not open this file.
        raise refusal from None
    if path.startswith("/") and not resolve & (RESOLVE_IN_ROOT | RESOLVE_BENEATH):
        top = posix.open("/", O_PATH | O_DIRECTORY | O_CLOEXEC)
        try:
            return _walk(top, path, flags, resolve | RESOLVE_IN_ROOT, refusal)
        finally:
            posix.close(top)
    walk = Walk(
        directory,
        in_root=bool(resolve & RESOLVE_IN_ROOT),
        links=not resolve & RESOLVE_NO_SYMLINKS,
        magic_links=not resolve & RESOLVE_NO_MAGICLINKS,
        one_mount=bool(resolve & RESOLVE_NO_XDEV),
        in_procfs=lambda found: filesystem_magic(found) == PROC_SUPER_MAGIC,
    )
    return walk.open(path, flags)


def open_in_root(root: int, path: str, flags: int = O_PATH, mode: int = 0) -> int:
    """Open ``path`` as a process chrooted to ``root`` would see it.

    Without O_PATH that only goes for directories: opening anything else may already do
    something (a device) or wait (a fifo). :func:`read_in_root` looks first.
    """
    return openat2(root, path, flags, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS, mode)


def reopen(descriptor: int, flags: int, proc: int | None = None) -> int:
    """Open what an O_PATH descriptor, which has been looked at, leads to: that and nothing else.

    :param proc: the host's procfs, where /proc may be the container's by now.
    """
    if proc is None:
        return posix.open(f"/proc/self/fd/{descriptor}", flags | O_CLOEXEC)
    return posix.open(f"self/fd/{descriptor}", flags | O_CLOEXEC, dir_fd=proc)


def read_in_root(root: int, path: str, limit: int, proc: int | None = None) -> bytes:
    """Read at most ``limit`` bytes of the regular file ``path`` below ``root``.

    Devices, fifos and what the kernel makes up while it is read (procfs, sysfs) are
    looked at, but not opened: with the host's rights that could do anything.

    :param proc: as :func:`reopen` takes it.
    :raises OSError: EINVAL for all that is not a regular file.
    """
    found = open_in_root(root, path)
    try:
        status = posix.stat(found)
        made_up = filesystem_magic(found) in (PROC_SUPER_MAGIC, SYSFS_MAGIC)
        if status.st_mode & S_IFMT != S_IFREG or made_up:
            raise OSError(EINVAL, "not a regular file")
        descriptor = reopen(found, posix.O_RDONLY | posix.O_NONBLOCK, proc)
    finally:
        posix.close(found)
    try:
        return read_all(descriptor, min(status.st_size, limit))
    finally:
        posix.close(descriptor)


def are_same(first: int, second: int) -> bool:
    """Tell whether two descriptors lead to one and the same file."""
    a, b = posix.stat(first), posix.stat(second)
    return (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino)


def clean_path(path: str) -> str:
    """Return the absolute path with ``.``, ``..`` and double slashes resolved by text."""
    kept: list[str] = []
    for part in path.split("/"):
        if part == "..":
            if kept:
                kept.pop()
        elif part and part != ".":
            kept.append(part)
    return "/" + "/".join(kept)


def ensure_directory(root: int, path: str, mode: int = 0o755, links: int = _MAXIMUM_LINKS) -> int:
    """Open the directory ``path`` below ``root``, making what is missing of it.

    Links inside the root are followed inside the root, also dangling ones: the
    directory is then made where they point to, which is never outside.
    """
    try:
        return open_in_root(root, path, O_PATH | O_DIRECTORY)
    except OSError as error:
        if error.errno != ENOENT:
            raise
    for _ in range(links + 1):
        parts = [part for part in clean_path(path).split("/") if part]
        directory, there = _deepest(root, parts)
        for index in range(there, len(parts)):
            above = "/" + "/".join(parts[:index])
            try:
                target = _make_directory(directory, parts[index], mode, above)
                if target:
                    # A dangling link: the same again where it leads to.
                    path = "/".join((target, *parts[index + 1 :]))
                    break
                flags = O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC
                below = posix.open(parts[index], flags, dir_fd=directory)
            finally:
                posix.close(directory)
            directory = below
        else:
            return directory
    raise OSError(ELOOP, posix.strerror(ELOOP))


def _deepest(root: int, parts: list[str]) -> tuple[int, int]:
    """Open the deepest directory that there is of a path; return how many parts it has."""
    for count in range(len(parts), 0, -1):
        try:
            return open_in_root(root, "/" + "/".join(parts[:count]), O_PATH | O_DIRECTORY), count
        except OSError as error:
            if error.errno != ENOENT:
                raise
    return open_in_root(root, "/", O_PATH | O_DIRECTORY), 0


def _make_directory(parent: int, name: str, mode: int, parent_path: str) -> str:
    """Make a directory; return where the link leads that is there instead, if one is."""
    try:
        posix.mkdir(name, mode, dir_fd=parent)
    except OSError as error:
        if error.errno != EEXIST:
            raise _cannot_make(f"{parent_path.rstrip('/')}/{name}", error) from None
        return _link_target(parent, parent_path.rstrip("/"), name)
    return ""


def make_directories(path: str, mode: int) -> list[str]:
    """Make a directory of the host and all that are missing above it; return those made.

    :raises OSError: when one cannot be made, or another kind of file is in its place.
    """
    missing = [path]
    made = []
    while missing:
        try:
            posix.mkdir(missing[-1], mode)
            made.append(missing.pop())
        except OSError as error:
            if error.errno == EEXIST:
                missing.pop()
                continue
            parent = missing[-1].rpartition("/")[0]
            if error.errno != ENOENT or not parent:
                raise
            missing.append(parent)
    return made


def ensure_file(root: int, path: str, mode: int = 0o755, links: int = _MAXIMUM_LINKS) -> int:
    """Open (O_PATH) the non-directory ``path`` below ``root``, an empty file if it was missing."""
    try:
        return open_in_root(root, path)
    except OSError as error:
        if error.errno != ENOENT:
            raise
    parent_path, _, name = clean_path(path).rpartition("/")
    parent = ensure_directory(root, parent_path or "/")
    try:
        try:
            flags = posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | O_NOFOLLOW | O_CLOEXEC
            posix.close(posix.open(name, flags, mode, dir_fd=parent))
        except OSError as error:
            if error.errno != EEXIST:
                raise _cannot_make(path, error) from None
            if links == 0:
                raise OSError(ELOOP, posix.strerror(ELOOP)) from None
            target = _link_target(parent, parent_path, name)
            if target:
                return ensure_file(root, target, mode, links - 1)
        return posix.open(name, O_PATH | O_NOFOLLOW | O_CLOEXEC, dir_fd=parent)
    finally:
        posix.close(parent)


def _cannot_make(path: str, error: OSError) -> OSError:
    """Return the error with the path: a bare "read-only file system" could be about the source."""
    why = posix.strerror(error.errno or 0).lower()
    return OSError(error.errno, f"{path} does not exist and cannot be made: {why}")


def _link_target(parent: int, parent_path: str, name: str) -> str:
    """Where the link ``name`` leads inside the root, or nothing if it is not a link."""
    try:
        link = posix.readlink(name, dir_fd=parent)
    except OSError:
        return ""
    return link if link.startswith("/") else f"{parent_path}/{link}"


def filesystem_magic(descriptor: int) -> int:
    """Return the kernel's magic number of the file system behind ``descriptor`` (statfs(2))."""
    buffer = bytearray(_SIZE_OF_STATFS)
    syscall(SYS["fstatfs"], descriptor, buffer)
    magic: int = unpack_from("=q", buffer)[0]
    return magic


def open_host_proc() -> int:
    """Open /proc and make sure that it is the root of a procfs.

    :raises OSError: ENOTDIR when something else is mounted there.
    """
    descriptor = posix.open("/proc", O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
    # The root of every procfs is inode 1 (PROC_ROOT_INO in the kernel).
    if filesystem_magic(descriptor) != PROC_SUPER_MAGIC or posix.stat(descriptor).st_ino != 1:
        posix.close(descriptor)
        raise OSError(ENOTDIR, "/proc is not a proc file system")
    return descriptor


def write_proc(proc: int, path: str, content: bytes) -> None:
    """Write to the file ``path`` below the procfs ``proc``, and to nothing else.

    Neither links nor mounts on the way are followed, so the write cannot be led
    to another file (CVE-2019-16884, CVE-2025-52881).
    """
    rules = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV
    descriptor = openat2(proc, path, posix.O_WRONLY, rules)
    try:
        write_all(descriptor, content)
    finally:
        posix.close(descriptor)


def write_all(descriptor: int, content: bytes) -> None:
    """Write all of ``content``."""
    while content:
        content = content[posix.write(descriptor, content) :]


def read_all(descriptor: int, limit: int = 1 << 30) -> bytes:
    """Read up to the end of file, or at most ``limit`` bytes."""
    pieces = []
    while limit > 0:
        piece = posix.read(descriptor, min(limit, 65536))
        if not piece:
            break
        pieces.append(piece)
        limit -= len(piece)
    return b"".join(pieces)


def read_file(path: str, directory: int | None = None) -> bytes:
    """Read a whole small file that the host is trusted for."""
    descriptor = posix.open(path, posix.O_RDONLY | O_CLOEXEC, dir_fd=directory)
    try:
        return read_all(descriptor)
    finally:
        posix.close(descriptor)


def write_file(path: str, content: bytes, directory: int | None = None) -> None:
    """Write ``content`` to an existing file that the host is trusted for, in one go."""
    descriptor = posix.open(path, posix.O_WRONLY | O_CLOEXEC, dir_fd=directory)
    try:
        posix.write(descriptor, content)
    finally:
        posix.close(descriptor)


def new_memory_file(name: str) -> int:
    """Return a descriptor (close-on-exec) of an empty memory file (memfd_create(2)).

    Where the call is refused it is a file without a name (unnamed_files.py).
    """
    try:
        return syscall(SYS["memfd_create"], cstring(name), _MFD_CLOEXEC)
    except OSError as error:
        if error.errno not in (ENOSYS, EPERM):
            raise
        from pyrunc.linux.unnamed_files import unnamed_file

        return unnamed_file()


def memory_file(name: str, content: bytes) -> int:
    """Return a descriptor (close-on-exec) of a memory file that holds ``content``, rewound."""
    descriptor = new_memory_file(name)
    write_all(descriptor, content)
    posix.lseek(descriptor, 0, 0)
    return descriptor


def is_mount_crossing(error: OSError) -> bool:
    """Tell whether openat2 refused a path since it led out of what was allowed."""
    return error.errno in (EXDEV, ELOOP)


def empty_directory(directory: int) -> None:
    """Remove everything below ``directory``, following no link."""
    for name in posix.listdir(directory):
        try:
            posix.unlink(name, dir_fd=directory)
        except OSError as error:
            if error.errno == ENOENT:
                continue
            if error.errno not in (EISDIR, EPERM):
                raise
            below = posix.open(name, O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, dir_fd=directory)
            empty_directory(below)
            posix.close(below)
            posix.rmdir(name, dir_fd=directory)
