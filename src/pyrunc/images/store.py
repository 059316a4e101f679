"""Unpacked images: each once, under the name of its content, in a directory of the user's own."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyrunc.errors import Error, reason
from pyrunc.images.errors import ImageInvalid
from pyrunc.images.manifest import Image, ImageConfig, read_image
from pyrunc.images.sources import Digested, Directory, TarFile, decompressed
from pyrunc.images.unpacking import Unpacking

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyrunc.images.sources import Source

_OF_ROOT = "/var/lib/pyrunc/images"
_NO_CONFIG = ImageConfig({}, "", "/", (), ())


@dataclass(frozen=True, slots=True)
class Unpacked:
    """An image on disk, not to be changed."""

    root: str
    config: ImageConfig


def unpacked(path: str) -> Unpacked:
    """Return the image in the file or layout at ``path``, unpacked when that was not done before.

    :raises ImageInvalid: when it is damaged; nothing is left of it then.
    :raises Error: when it cannot be written down.
    """
    source: Source = Directory(path) if os.path.isdir(path) else TarFile(path)
    image = read_image(source)
    if image is None:
        if os.path.isdir(path):
            raise ImageInvalid(f"{path}: no image in the OCI layout")
        key = _key_of_file(path)
        return Unpacked(_kept(key, lambda root: _unpack_files(path, root)), _NO_CONFIG)
    found = image
    root = _kept(image.digest.removeprefix("sha256:"), lambda root: _unpack(source, found, root))
    return Unpacked(root, image.config)


def directory() -> str:
    """Return where images are kept, made if it is missing.

    :raises Error: when it cannot be made, or others may write to it.
    """
    path = _OF_ROOT
    if os.geteuid() != 0:
        cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
        path = f"{cache}/pyrunc/images"
    try:
        os.makedirs(path, 0o700, exist_ok=True)
        status = os.lstat(path)
    except OSError as error:
        raise Error(f"cannot make directory {path} for images: {reason(error)}") from None
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise Error(f"{path} can be written to by others; give it to user {os.geteuid()} alone")
    return path


def _key_of_file(path: str) -> str:
    """Name a file by what changes with its content; reading all of it each time would take long."""
    status = os.stat(path)
    words = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    return hashlib.sha256(f"file {os.path.realpath(path)} {words}".encode()).hexdigest()


def _kept(key: str, unpack: Callable[[str], None]) -> str:
    """Return the root of this name, made by ``unpack`` when it is not there."""
    base = directory()
    root = f"{base}/{key}"
    if os.path.isdir(root):
        return root
    lock = os.open(f"{base}/.lock-{key[:16]}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        # Whoever else unpacks the same is waited for.
        fcntl.flock(lock, fcntl.LOCK_EX)
        made = f"{base}/.{key}.new"
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
    finally:
        os.close(lock)
    return root


def _unpack(source: Source, image: Image, root: str) -> None:
    unpacking = Unpacking(root)
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


def _unpack_files(path: str, root: str) -> None:
    unpacking = Unpacking(root)
    try:
        with open(path, "rb") as file:
            unpacking.unpack(Digested(decompressed(file)))
    finally:
        unpacking.close()
