"""The mount calls of :mod:`pyrunc.linux.mounts` by mount(2) alone, where newer ones are refused.

mount(2) knows no mount that is attached nowhere. So a new one is made in a scratch tmpfs, which
nobody else can see or name, and moved (MS_MOVE) to where it is to be; its descriptor stays good
on the way. What a path is needed for is reached through a descriptor, by /proc/self/fd of the
host's own procfs.
"""

from __future__ import annotations

import posix
from errno import EACCES, EINVAL, EPERM

from pyrunc.linux import files
from pyrunc.linux import mounts as m
from pyrunc.linux.refusals import EVERY_FLAG, NO_DESCRIPTOR, explained, refuses

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

#: What fsconfig(2) takes as a flag and mount(2) as a bit.
_BITS = {
    "ro": m.MS_RDONLY,
    "sync": m.MS_SYNCHRONOUS,
    "dirsync": m.MS_DIRSYNC,
    "mand": m.MS_MANDLOCK,
    "lazytime": m.MS_LAZYTIME,
    "silent": m.MS_SILENT,
    "rw": 0,
    "async": 0,
}
#: Attributes of a mount, as mount_setattr(2), mount(2) and statvfs(3) name them.
_ATTRIBUTES = (
    (m.MOUNT_ATTR_RDONLY, m.MS_RDONLY, 0x1),
    (m.MOUNT_ATTR_NOSUID, m.MS_NOSUID, 0x2),
    (m.MOUNT_ATTR_NODEV, m.MS_NODEV, 0x4),
    (m.MOUNT_ATTR_NOEXEC, m.MS_NOEXEC, 0x8),
    (m.MOUNT_ATTR_NODIRATIME, m.MS_NODIRATIME, 0x800),
    (m.MOUNT_ATTR_NOSYMFOLLOW, m.MS_NOSYMFOLLOW, 0x2000),
)
_ST_NOATIME, _ST_RELATIME = 0x400, 0x1000
_LARGEST_DATA = 4095


def calls_refused() -> list[str]:
    """Return which of the newer calls this process may not make.

    Each is made with flags that do not exist: to be answered EINVAL is to be let through. In
    the mount namespace of a user namespace that this process has no rights in, all are refused.
    """
    calls = (
        ("fsopen", (0, EVERY_FLAG)),
        ("fsconfig", (NO_DESCRIPTOR, EVERY_FLAG, 0, 0, 0)),
        ("fsmount", (NO_DESCRIPTOR, EVERY_FLAG, 0)),
        ("open_tree", (NO_DESCRIPTOR, 0, EVERY_FLAG)),
        ("move_mount", (NO_DESCRIPTOR, 0, NO_DESCRIPTOR, 0, EVERY_FLAG)),
        ("mount_setattr", (NO_DESCRIPTOR, 0, EVERY_FLAG, 0, 0)),
    )
    return [name for name, arguments in calls if refuses(name, *arguments)]


class MountsByPath:
    """Makes mounts for one process, the builder, in a mount namespace of its own."""

    def __init__(self, proc: int, refused: Sequence[str]) -> None:
        """Remember the host's procfs, and who is to blame where there is no other way."""
        self._proc = proc
        self._refused = ", ".join(f"{name}(2)" for name in refused)
        self._scratch = -1
        #: How many mounts lie in the scratch tmpfs.
        self._waiting = 0
        self._number = 0

    def new_filesystem(
        self, kind: str, source: str, options: tuple[str, ...], attributes: int
    ) -> int:
        """Make a file system; as :func:`pyrunc.linux.mounts.new_filesystem`."""
        flags = _flags_of(attributes & ~m.MOUNT_ATTR_RDONLY)
        data = []
        for option in options:
            if option in _BITS:
                flags |= _BITS[option]
            elif "," in option:
                raise OSError(EINVAL, f"{option}: a comma needs fsconfig(2), which is refused here")
            else:
                data.append(option)
        text = ",".join(data)
        if len(text.encode("utf-8", "surrogateescape")) > _LARGEST_DATA:
            raise OSError(EINVAL, "options beyond a page need fsconfig(2), which is refused here")
        mount = self._made(source, kind, flags, text, directory=True)
        if attributes & m.MOUNT_ATTR_RDONLY:
            self.set_attributes(mount, enable=m.MOUNT_ATTR_RDONLY)
        return mount

    def clone_tree(self, directory: int, path: str, *, recursive: bool) -> int:
        """Bind what is there; as :func:`pyrunc.linux.mounts.clone_tree`."""
        source = directory
        if path:
            source = posix.open(path, files.O_PATH | files.O_CLOEXEC, dir_fd=_at(directory))
        try:
            is_directory = posix.stat(source).st_mode & files.S_IFMT == files.S_IFDIR
            flags = m.MS_BIND | (m.MS_REC if recursive else 0)
            return self._made(_behind(source), "", flags, "", directory=is_directory)
        finally:
            if path:
                posix.close(source)

    def attach(self, mount: int, target: int) -> None:
        """Move the mount out of the scratch; as :func:`pyrunc.linux.mounts.attach`."""
        self._mount(_behind(mount), _behind(target), "", m.MS_MOVE, "")
        self._waiting -= 1
        if self._waiting <= 0 and self._scratch >= 0:
            self._in_proc(lambda: m.unmount(_behind(self._scratch)))
            posix.close(self._scratch)
            self._scratch = -1

    def set_attributes(
        self,
        mount: int,
        *,
        enable: int = 0,
        disable: int = 0,
        propagation: int = 0,
        recursive: bool = False,
    ) -> None:
        """Remount what is there; as :func:`pyrunc.linux.mounts.set_attributes`."""
        if enable & m.MOUNT_ATTR_IDMAP:
            raise OSError(EPERM, f"id mappings of mounts need {self._refused}, refused here")
        if propagation:
            flags = propagation | (m.MS_REC if recursive else 0)
            self._mount("", _behind(mount), "", flags, "")
        if not enable and not disable:
            return
        self._remount(mount, enable, disable)
        if recursive:
            for below in self._mounts_below(mount):
                try:
                    self._remount(below, enable, disable)
                finally:
                    posix.close(below)

    def _remount(self, mount: int, enable: int, disable: int) -> None:
        now = posix.fstatvfs(mount).f_flag
        flags = 0
        for attribute, flag, shown in _ATTRIBUTES:
            if enable & attribute or (now & shown and not disable & attribute):
                flags |= flag
        flags |= _access_times(now, enable, disable)
        self._mount("", _behind(mount), "", m.MS_REMOUNT | m.MS_BIND | flags, "")

    def _mounts_below(self, mount: int) -> Iterator[int]:
        """Open every mount below one, each through the one above it.

        :raises OSError: when one is hidden below another and so cannot be reached.
        """
        table = []
        for line in files.read_file("self/mountinfo", self._proc).splitlines():
            number, parent, _, _, point = line.split(b" ")[:5]
            table.append((number, parent, unescaped(point)))
        top = self._mount_id(mount)
        points = {number: point for number, _, point in table}
        known = {top}
        for number, parent, point in table:
            if parent not in known:
                continue
            known.add(number)
            inside = point[len(points[top].rstrip(b"/")) :].strip(b"/")
            rules = files.RESOLVE_BENEATH | files.RESOLVE_NO_SYMLINKS
            below = files.openat2(
                mount, inside.decode("utf-8", "surrogateescape"), files.O_PATH, rules
            )
            if self._mount_id(below) != number:
                posix.close(below)
                raise OSError(EACCES, f"cannot reach the mount on {point.decode(errors='replace')}")
            yield below

    def _mount_id(self, descriptor: int) -> bytes:
        text = files.read_file(f"self/fdinfo/{descriptor}", self._proc)
        return next(x for x in text.split(b"\n") if x.startswith(b"mnt_id:")).split()[1]

    def _made(self, source: str, kind: str, flags: int, data: str, *, directory: bool) -> int:
        """Mount something in the scratch and return the descriptor of its root."""
        if self._scratch < 0:
            self._make_scratch()
        self._number += 1
        name = str(self._number)
        if directory:
            posix.mkdir(name, 0o700, dir_fd=self._scratch)
        else:
            flags_of_file = posix.O_CREAT | posix.O_EXCL | posix.O_WRONLY | posix.O_CLOEXEC
            posix.close(posix.open(name, flags_of_file, 0o600, dir_fd=self._scratch))
        if kind:
            # From the working directory as it is: its options may hold paths.
            self._try(source, f"/proc/{_behind(self._scratch)}/{name}", kind, flags, data)
        else:
            self._mount(source, f"{_behind(self._scratch)}/{name}", "", flags, "")
        self._waiting += 1
        return posix.open(
            name, files.O_PATH | files.O_NOFOLLOW | files.O_CLOEXEC, dir_fd=self._scratch
        )

    def _make_scratch(self) -> None:
        """Mount a tmpfs over "/", where nothing that this process looks up comes by.

        What is looked up from the root starts below it; only ".." of the root leads to it. It is
        unbindable, so that no recursive bind takes it along, and so nothing in it is shared.
        """
        if self._shares_root():
            text = f"with rootfsPropagation shared it takes {self._refused}, refused here"
            raise OSError(EPERM, text)
        below = posix.stat("/").st_dev
        self._try("tmpfs", "/", "tmpfs", m.MS_NOSUID | m.MS_NODEV | m.MS_NOEXEC, "mode=700")
        flags = files.O_PATH | files.O_DIRECTORY | files.O_CLOEXEC
        self._scratch = posix.open("/..", flags)
        status = posix.stat(self._scratch)
        if files.filesystem_magic(self._scratch) != files.TMPFS_MAGIC or status.st_dev == below:
            raise OSError(EINVAL, "cannot find the scratch tmpfs that was mounted on /")
        self._mount("", _behind(self._scratch), "", m.MS_UNBINDABLE, "")

    def _shares_root(self) -> bool:
        """Tell whether what is mounted on "/" would be mounted on the host's "/" as well."""
        root = posix.open("/", files.O_PATH | files.O_DIRECTORY | files.O_CLOEXEC)
        try:
            number = self._mount_id(root)
        finally:
            posix.close(root)
        lines = files.read_file("self/mountinfo", self._proc).splitlines()
        return any(x.startswith(number + b" ") and b" shared:" in x for x in lines)

    def _mount(self, source: str, target: str, kind: str, flags: int, data: str) -> None:
        self._in_proc(lambda: self._try(source, target, kind, flags, data))

    def _try(self, source: str, target: str, kind: str, flags: int, data: str) -> None:
        try:
            m.mount_legacy(source, target, kind, flags, data)
        except OSError as error:
            raise explained(error, f"{self._refused} and mount(2)") from None

    def _in_proc(self, action: Callable[[], None]) -> None:
        """Do something from within the host's procfs, for paths that start with self/fd/.

        By the time "/" is the container's there may be anything in its /proc.
        """
        here = posix.open(".", files.O_PATH | files.O_DIRECTORY | files.O_CLOEXEC)
        try:
            posix.fchdir(self._proc)
            action()
        finally:
            posix.fchdir(here)
            posix.close(here)


def use_where_refused(proc: int) -> None:
    """From here on make this process's mounts by mount(2) if any of the newer calls is refused.

    Some calls alone will not do: what one of them makes only another can attach.

    :param proc: the host's procfs.
    """
    if refused := calls_refused():
        m.instead = MountsByPath(proc, refused)


def unescaped(point: bytes) -> bytes:
    """Return a path of mountinfo as it is: blanks and backslashes stand there in octal."""
    for code in (b"040", b"011", b"012", b"134"):
        point = point.replace(b"\\" + code, bytes([int(code, 8)]))
    return point


def _behind(descriptor: int) -> str:
    return f"self/fd/{descriptor}"


def _at(directory: int) -> int | None:
    return None if directory == m.AT_FDCWD else directory


def _flags_of(attributes: int) -> int:
    flags = 0
    for attribute, flag, _ in _ATTRIBUTES:
        if attributes & attribute:
            flags |= flag
    return flags | _access_times(None, attributes, 0)


def _access_times(now: int | None, enable: int, disable: int) -> int:
    """Return the flag for access times: what is asked for, or else what is now.

    A remount that says nothing of them may change them (mount(2)). What is neither noatime nor
    relatime is strictatime; a field that is cleared and not set is relatime (mount_setattr(2)).
    """
    if enable & m.MOUNT_ATTR_NOATIME:
        return m.MS_NOATIME
    if enable & m.MOUNT_ATTR_STRICTATIME:
        return m.MS_STRICTATIME
    if now is None or disable & m.MOUNT_ATTR_ATIME or now & _ST_RELATIME:
        return m.MS_RELATIME
    return m.MS_NOATIME if now & _ST_NOATIME else m.MS_STRICTATIME
