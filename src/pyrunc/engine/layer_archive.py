"""The upper directory of an overlay as a tar archive, and one made from such an archive.

All that makes up an overlay is in it: whiteouts, as the devices that they are, and attributes
(as GNU tar has them, "SCHILY.xattr."), but for those by which overlays find inodes again.
"""

from __future__ import annotations

import os
import stat
import tarfile
from typing import IO, TYPE_CHECKING

from pyrunc.errors import Error, reason
from pyrunc.linux import files

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "layer.tar"

_ATTRIBUTE = "SCHILY.xattr."
#: What an overlay notes of inodes (overlayfs.rst): good for nothing where these are others.
_OF_INODES = tuple(
    f"{namespace}.overlay.{name}"
    for namespace in ("trusted", "user")
    for name in ("origin", "impure", "nlink", "upper", "uuid")
)
_CHUNK = 1 << 20


def save(upper: str, path: str) -> None:
    """Write an archive of what is in ``upper``, which nobody changes meanwhile.

    Sockets are left out: CRIU makes those that somebody listens at.

    :raises OSError: when it cannot be written.
    """
    with open(path, "wb", opener=_for_us) as file, _archive(file, "w") as archive:
        for name in ("", *_below(upper, "")):
            entry = archive.gettarinfo(f"{upper}/{name}", arcname=name or ".")
            if entry is None:
                continue
            entry.pax_headers = dict(_attributes(f"{upper}/{name}"))
            if entry.isreg():
                with open(f"{upper}/{name}", "rb") as content:
                    archive.addfile(entry, content)
            else:
                archive.addfile(entry)


def _for_us(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def _archive(file: IO[bytes], mode: str) -> tarfile.TarFile:
    return tarfile.TarFile.open(  # type: ignore[call-overload,no-any-return]
        fileobj=file,
        mode=mode,
        format=tarfile.PAX_FORMAT,
        encoding="utf-8",
        errors="surrogateescape",
    )


def _below(upper: str, path: str) -> Iterator[str]:
    for entry in sorted(os.scandir(f"{upper}/{path}"), key=lambda entry: entry.name):
        name = f"{path}/{entry.name}" if path else entry.name
        yield name
        if entry.is_dir(follow_symlinks=False):
            yield from _below(upper, name)


def _attributes(path: str) -> Iterator[tuple[str, str]]:
    for name in os.listxattr(path, follow_symlinks=False):
        if name not in _OF_INODES:
            value = os.getxattr(path, name, follow_symlinks=False)
            yield f"{_ATTRIBUTE}{name}", value.decode("utf-8", "surrogateescape")


def fill(upper: str, path: str) -> None:
    """Make in ``upper``, which is empty, what is in an archive. No name leads out of it.

    :raises Error: when that fails.
    """
    top = os.open(upper, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    times: list[tuple[str, float]] = []
    try:
        with open(path, "rb") as file, _archive(file, "r:") as archive:
            for entry in archive:
                _make(top, archive, entry)
                if entry.isdir():
                    times.append((entry.name, entry.mtime))
        # What was made in a directory has changed its time.
        for name, when in reversed(times):
            directory = files.open_in_root(top, name)
            os.utime(f"/proc/self/fd/{directory}", (when, when))
            os.close(directory)
    except (OSError, tarfile.TarError) as error:
        why = reason(error) if isinstance(error, OSError) else str(error)
        raise Error(f"cannot put back the sandbox's files from {path}: {why}") from None
    finally:
        os.close(top)


def _make(top: int, archive: tarfile.TarFile, entry: tarfile.TarInfo) -> None:
    parent_name, _, name = entry.name.rpartition("/")
    if name in ("", ".."):
        raise Error(f"{entry.name!r} is no name for a sandbox's file")
    parent = files.open_in_root(
        top, parent_name or "/", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    )
    try:
        if entry.islnk():
            source = files.open_in_root(top, entry.linkname)
            try:
                os.link(f"/proc/self/fd/{source}", name, dst_dir_fd=parent, follow_symlinks=True)
            finally:
                os.close(source)
            return
        if entry.issym():
            os.symlink(entry.linkname, name, dir_fd=parent)
        elif entry.isdir():
            if name != ".":
                os.mkdir(name, 0o700, dir_fd=parent)
        elif entry.isreg():
            _write(parent, name, archive, entry)
        else:
            kind = {
                tarfile.CHRTYPE: stat.S_IFCHR,
                tarfile.BLKTYPE: stat.S_IFBLK,
                tarfile.FIFOTYPE: stat.S_IFIFO,
            }[entry.type]
            device = os.makedev(entry.devmajor, entry.devminor)
            os.mknod(name, kind | 0o600, device, dir_fd=parent)
        _set_attributes(parent, name, entry)
    finally:
        os.close(parent)


def _write(parent: int, name: str, archive: tarfile.TarFile, entry: tarfile.TarInfo) -> None:
    content = archive.extractfile(entry)
    assert content is not None
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(name, flags, 0o600, dir_fd=parent), "wb") as file:
        while chunk := content.read(_CHUNK):
            file.write(chunk)


def _set_attributes(parent: int, name: str, entry: tarfile.TarInfo) -> None:
    os.chown(name, entry.uid, entry.gid, dir_fd=parent, follow_symlinks=False)
    if not entry.issym():
        # A change of owner has taken bits away.
        os.chmod(name, entry.mode, dir_fd=parent)
    path = f"/proc/self/fd/{parent}/{name}"
    for key, value in entry.pax_headers.items():
        if key.startswith(_ATTRIBUTE):
            encoded = value.encode("utf-8", "surrogateescape")
            attribute = key.removeprefix(_ATTRIBUTE)
            os.setxattr(path, attribute, encoded, follow_symlinks=False)
    if not entry.isdir():
        os.utime(name, (entry.mtime, entry.mtime), dir_fd=parent, follow_symlinks=False)
