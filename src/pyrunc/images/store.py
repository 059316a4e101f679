"""Unpacked images: each once, under the name of its content, in a directory of the user's own.

Where files can be given to other users than the one who unpacks them they are the image's, by the
ids of that process's user namespace: what was unpacked in one is of no use in another that maps
other ids, and lies in another directory.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import stat
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyrunc.errors import Error, reason
from pyrunc.images.errors import ImageInvalid
from pyrunc.images.manifest import Image, ImageConfig, read_image
from pyrunc.images.sources import Digested, Directory, TarFile, decompressed
from pyrunc.images.unpacking import Unpacking
from pyrunc.images.users import user_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

    from pyrunc.images.sources import Source

_OF_ROOT = "/var/lib/pyrunc/images"
_NO_CONFIG = ImageConfig({}, "", "/", (), ())


@dataclass(frozen=True, slots=True)
class Unpacked:
    """An image on disk, not to be changed."""

    root: str
    config: ImageConfig
    #: The uid and gid of its own user.
    user: tuple[int, int]

    def described(self) -> dict[str, Any]:
        """Return what a sandbox of it is to know, of what marshal knows."""
        config = self.config
        return {
            "path": self.root,
            "user": self.user,
            "cwd": config.working_directory,
            "environment": config.environment,
            "command": (*config.entrypoint, *config.command),
        }


def unpacked(path: str, kept: str, *, owns: bool) -> Unpacked:
    """Return the image in the file or layout at ``path``, unpacked when that was not done before.

    :param kept: the directory of unpacked images.
    :param owns: whether files are to belong to whom they do in the image; else they are ours.
    :raises ImageInvalid: when it is damaged; nothing is left of it then.
    :raises Error: when it cannot be written down.
    """
    source: Source = Directory(path) if os.path.isdir(path) else TarFile(path)
    image = read_image(source)
    if image is None:
        if os.path.isdir(path):
            raise ImageInvalid(f"{path}: no image in the OCI layout")
        key = _key_of_file(path)
        root = _kept(kept, key, lambda root: _unpack_files(path, root, owns=owns))
        return Unpacked(root, _NO_CONFIG, (0, 0))
    found = image
    key = image.digest.removeprefix("sha256:")
    root = _kept(kept, key, lambda root: _unpack(source, found, root, owns=owns))
    return Unpacked(root, image.config, user_of(root, image.config.user))


def directory() -> str:
    """Return where this user's images are kept, which need not be there yet."""
    if os.geteuid() == 0:
        return _OF_ROOT
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return f"{cache}/pyrunc/images"


def make_directory(path: str) -> None:
    """Make a directory for unpacked images if it is missing: nobody else's way leads below it.

    :raises Error: when it cannot be made, or others may write to it.
    """
    try:
        os.makedirs(path, 0o700, exist_ok=True)
        status = os.lstat(path)
    except OSError as error:
        raise Error(f"cannot make directory {path} for images: {reason(error)}") from None
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise Error(f"{path} can be written to by others; give it to user {os.geteuid()} alone")


def _key_of_file(path: str) -> str:
    """Name a file by what changes with its content; reading all of it each time would take long."""
    status = os.stat(path)
    words = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    return hashlib.sha256(f"file {os.path.realpath(path)} {words}".encode()).hexdigest()


def _kept(base: str, key: str, unpack: Callable[[str], None]) -> str:
    """Return the root of this name in ``base``, made by ``unpack`` when it is not there."""
    make_directory(base)
    root = f"{base}/{key}"
    if os.path.isdir(root):
        return root
    with _locked(base, key, wait=True):
        made = f"{base}/.{key}.new"
        _remove_half_made(base, key)
        shutil.rmtree(made, ignore_errors=True)
        if not os.path.isdir(root):
            try:
                os.mkdir(made, 0o755)
                unpack(made)
                os.rename(made, root)
            except OSError as error:
                raise Error(f"cannot unpack an image to {made}: {reason(error)}") from None
            finally:
                shutil.rmtree(made, ignore_errors=True)
    return root


def _remove_half_made(base: str, but: str) -> None:
    """Remove what others have left who were killed."""
    for name in os.listdir(base):
        if name.startswith(".") and name.endswith(".new") and (key := name[1:-4]) != but:
            with _locked(base, key, wait=False) as is_ours:
                if is_ours:
                    shutil.rmtree(f"{base}/{name}", ignore_errors=True)


@contextmanager
def _locked(base: str, key: str, *, wait: bool) -> Iterator[bool]:
    """Hold the lock of those who unpack this; tell whether it is held."""
    lock = os.open(f"{base}/.lock-{key[:16]}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            is_held = True
        except BlockingIOError:
            is_held = False
        yield is_held
    finally:
        os.close(lock)


def _unpack(source: Source, image: Image, root: str, *, owns: bool) -> None:
    unpacking = Unpacking(root, owns=owns)
    try:
        for layer in image.layers:
            if layer.digest:
                _check_file(source, layer.name, layer.digest)
            with source.open(layer.name) as file:
                content = Digested(decompressed(file))
                unpacking.unpack(content)
                if content.digest() != layer.diff_id:
                    raise ImageInvalid(f"layer {layer.name}: its content is not that of its digest")
    finally:
        unpacking.close()


def _check_file(source: Source, name: str, digest: str) -> None:
    """Before anything of it is made use of."""
    with source.open(name) as file:
        if Digested(file).digest() != digest:
            raise ImageInvalid(f"{name}: its content is not that of its digest")


def _unpack_files(path: str, root: str, *, owns: bool) -> None:
    unpacking = Unpacking(root, owns=owns)
    try:
        with open(path, "rb") as file:
            unpacking.unpack(Digested(decompressed(file)))
    finally:
        unpacking.close()
