"""Unpacking a layer into a root, by descriptors: whatever is in it, nothing outside is touched.

Each name is resolved by the kernel below the root, where links lead as they would inside. What is
made is made anew, in place of what was there, and never through a link. Devices and sockets are
left out, and so are set-id bits: nothing in a sandbox could use them.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tarfile
import zlib
from typing import IO, TYPE_CHECKING, Any, cast

from pyrunc.errors import Error, reason
from pyrunc.images.errors import ImageInvalid
from pyrunc.linux import files

if TYPE_CHECKING:
    from pyrunc.images.sources import Digested

_WHITEOUT, _OPAQUE = ".wh.", ".wh..wh..opq"
_AT_ONCE = 1 << 20


class Unpacking:
    """One root that layers are unpacked into, from the lowest up."""

    def __init__(self, root: str, *, owns: bool) -> None:
        """Begin.

        :param owns: whether what is made belongs to whom the layers say.
        """
        self._root = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._owns = owns
        #: What the present layer has made, which an opaque mark leaves alone.
        self._made: set[str] = set()

    def close(self) -> None:
        """Be done."""
        os.close(self._root)

    def unpack(self, layer: Digested) -> None:
        """Unpack one layer.

        :raises ImageInvalid: when it is damaged, or has a name that leads out of the root.
        """
        self._made = set()
        directories: list[tuple[str, tarfile.TarInfo]] = []
        try:
            with tarfile.open(fileobj=cast("IO[bytes]", layer), mode="r|") as archive:
                for member in archive:
                    path = _clean(member.name)
                    self._unpack(archive, member, path)
                    if member.isdir():
                        directories.append((path, member))
        except (tarfile.TarError, EOFError, zlib.error, UnicodeError) as error:
            raise ImageInvalid(f"a layer is damaged: {error}") from None
        # Last, as what was made in a directory has changed its times.
        for path, member in reversed(directories):
            self._set_times(path, member)

    def _unpack(self, archive: tarfile.TarFile, member: tarfile.TarInfo, path: str) -> None:
        parent_path, _, name = path.rpartition("/")
        if not name:
            self._adopt_root(member)
            return
        parent = -1
        try:
            parent = files.ensure_directory(self._root, parent_path or "/")
            if name == _OPAQUE:
                self._empty(parent, parent_path)
            elif name.startswith(_WHITEOUT):
                _remove(parent, name.removeprefix(_WHITEOUT))
            else:
                self._make(archive, member, parent, name)
                self._made.add(path)
        except OSError as error:
            raise ImageInvalid(f"cannot unpack {path}: {error.strerror}") from None
        finally:
            if parent >= 0:
                os.close(parent)

    def _make(
        self, archive: tarfile.TarFile, member: tarfile.TarInfo, parent: int, name: str
    ) -> None:
        if member.isdir():
            self._make_directory(member, parent, name)
        elif member.isreg():
            _remove(parent, name)
            self._make_file(archive, member, parent, name)
        elif member.issym():
            _remove(parent, name)
            os.symlink(member.linkname, name, dir_fd=parent)
            self._give(member, name, dir_fd=parent, follow_symlinks=False)
        elif member.islnk():
            self._make_hard_link(member, parent, name)
        elif member.isfifo():
            _remove(parent, name)
            os.mkfifo(name, 0o600, dir_fd=parent)

    def _make_directory(self, member: tarfile.TarInfo, parent: int, name: str) -> None:
        try:
            os.mkdir(name, 0o700, dir_fd=parent)
        except FileExistsError:
            mode = os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode
            if not stat.S_ISDIR(mode):
                _remove(parent, name)
                os.mkdir(name, 0o700, dir_fd=parent)
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        made = os.open(name, flags, dir_fd=parent)
        try:
            self._own(made, member, 0o3777)
        finally:
            os.close(made)

    def _make_file(
        self, archive: tarfile.TarFile, member: tarfile.TarInfo, parent: int, name: str
    ) -> None:
        content = archive.extractfile(member)
        assert content is not None
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(os.open(name, flags, 0o600, dir_fd=parent), "wb") as file:
            shutil.copyfileobj(content, file, _AT_ONCE)
            file.flush()
            self._own(file.fileno(), member, 0o1777)
            os.utime(file.fileno(), (member.mtime, member.mtime))

    def _make_hard_link(self, member: tarfile.TarInfo, parent: int, name: str) -> None:
        target = _clean(member.linkname)
        directory_path, _, base = target.rpartition("/")
        directory = files.open_in_root(
            self._root, directory_path or "/", os.O_PATH | os.O_DIRECTORY
        )
        try:
            if (directory_path, base) == (_clean(member.name).rpartition("/")[0], name):
                # To itself: it is there already.
                return
            _remove(parent, name)
            os.link(base, name, src_dir_fd=directory, dst_dir_fd=parent, follow_symlinks=False)
        finally:
            os.close(directory)

    def _adopt_root(self, member: tarfile.TarInfo) -> None:
        if member.isdir():
            self._own(self._root, member, 0o1777)

    def _own(self, descriptor: int, member: tarfile.TarInfo, kept: int) -> None:
        self._give(member, descriptor)
        # Who owns all of it must be able to get in, and to take it away again.
        least = 0 if self._owns else 0o700 if member.isdir() else 0o600
        os.fchmod(descriptor, member.mode & kept | least)

    def _give(self, member: tarfile.TarInfo, what: int | str, **where: Any) -> None:
        """Give something to whom it belongs in the image.

        :raises Error: when that cannot be here.
        """
        if not self._owns:
            return
        try:
            os.chown(what, member.uid, member.gid, **where)
        except OSError as error:
            why = reason(error)
            if error.errno == errno.EINVAL:
                why = (
                    "they are not among the ids that this user has; /etc/subuid and /etc/subgid"
                    " would have to give more"
                )
            elif error.errno == errno.EPERM:
                why += "; the file system of XDG_CACHE_HOME may not know of subordinate ids"
            owner = f"user {member.uid} and group {member.gid}"
            raise Error(f"cannot give {member.name} to {owner}: {why}") from None

    def _set_times(self, path: str, member: tarfile.TarInfo) -> None:
        try:
            found = files.open_in_root(self._root, path, os.O_RDONLY | os.O_DIRECTORY)
        except OSError:
            # Replaced by what came later.
            return
        try:
            os.utime(found, (member.mtime, member.mtime))
        finally:
            os.close(found)

    def _empty(self, parent: int, parent_path: str) -> None:
        """Remove what layers below have in a directory."""
        opened = os.open(f"/proc/self/fd/{parent}", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            names = os.listdir(opened)
        finally:
            os.close(opened)
        for name in names:
            if f"{parent_path}/{name}" not in self._made:
                _remove(parent, name)


def _clean(name: str) -> str:
    """Return a member's path below the root, "" for the root itself.

    :raises ImageInvalid: for one that leads upwards.
    """
    parts = [part for part in name.split("/") if part and part != "."]
    if ".." in parts:
        raise ImageInvalid(f"a layer has the name {name!r}, which leads out of the root")
    return "".join(f"/{part}" for part in parts)


def _remove(parent: int, name: str) -> None:
    """Remove what has this name, with all below it; nothing is followed."""
    if name in ("", ".", ".."):
        raise ImageInvalid(f"a layer removes {name!r}")
    try:
        os.unlink(name, dir_fd=parent)
    except FileNotFoundError:
        return
    except (IsADirectoryError, PermissionError):
        shutil.rmtree(name, dir_fd=parent)
