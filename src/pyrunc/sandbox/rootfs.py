"""What ``rootfs=`` can be: the host's /usr, a directory, or an archive of an image."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from errno import ENOENT
from typing import TYPE_CHECKING

from pyrunc.engine import client
from pyrunc.errors import reason
from pyrunc.sandbox.errors import ArchiveInvalid, HostFileMissing, InvalidArgument
from pyrunc.sandbox.requests import ask_any
from pyrunc.sandbox.waiting import InThread

if TYPE_CHECKING:
    from collections.abc import Mapping

    Key = tuple[str | int, ...]

#: How many images a program need not open again.
_MOST_REMEMBERED = 16
_remembered: dict[Key, RootFilesystem] = {}


@dataclass(frozen=True, slots=True)
class RootFilesystem:
    """A root that nobody changes, and what its image says about programs in it."""

    #: Empty for the host's, which the engine puts together.
    path: str
    is_image: bool = False
    user: tuple[int, int] | None = None
    cwd: str = "/"
    environment: Mapping[str, str] = field(default_factory=dict)
    #: The image's own program: its entry point with its command.
    command: tuple[str, ...] = ()
    #: The ids that its files belong to, by the name that the engine has for them which unpacked it.
    ids: str | None = None


async def root_filesystem(rootfs: str | None) -> RootFilesystem:
    """Return what ``rootfs=`` stands for; an archive is unpacked when that was not done before.

    :raises HostFileMissing: when it is not there.
    :raises InvalidArgument: when it is none of these.
    :raises ArchiveInvalid: when it is damaged.
    """
    if rootfs is None:
        return RootFilesystem("", cwd="/tmp")
    key = await InThread(_key_of_image, rootfs)
    if key is None:
        return RootFilesystem(rootfs, is_image=True, user=(0, 0))
    if found := _remembered.get(key):
        return found
    try:
        # An ordinary user's engine has ids that the user has not.
        found = await (InThread(_unpack, rootfs) if os.geteuid() == 0 else _have_unpacked(rootfs))
    except ArchiveInvalid as error:
        raise ArchiveInvalid(f"rootfs: {rootfs}: {error}") from None
    while len(_remembered) >= _MOST_REMEMBERED:
        _remembered.pop(next(iter(_remembered), key), None)
    _remembered[key] = found
    return found


def _key_of_image(rootfs: str) -> Key | None:
    """Return what tells an image from one that was at this path before; None for a directory."""
    try:
        mode = os.stat(rootfs).st_mode
    except OSError as error:
        kind = HostFileMissing if error.errno == ENOENT else InvalidArgument
        raise kind(f"rootfs: {rootfs}: {reason(error)}") from None
    if stat.S_ISDIR(mode) and not os.path.exists(f"{rootfs}/oci-layout"):
        return None
    if not stat.S_ISDIR(mode) and not stat.S_ISREG(mode):
        raise InvalidArgument(f"rootfs: {rootfs}: neither a directory nor a file")
    status = os.stat(f"{rootfs}/index.json" if stat.S_ISDIR(mode) else rootfs)
    return rootfs, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _unpack(path: str) -> RootFilesystem:
    from pyrunc.images import store
    from pyrunc.images.errors import ImageInvalid

    try:
        image = store.unpacked(path, store.directory(), owns=True)
    except ImageInvalid as error:
        raise ArchiveInvalid(str(error)) from None
    return RootFilesystem(is_image=True, **image.described())


async def _have_unpacked(path: str) -> RootFilesystem:
    """Have an engine do it."""
    from pyrunc.images import store

    line = await ask_any("image", {"path": path, "kept": store.directory()})
    try:
        told, _ = await line.answer("unpack")
    finally:
        line.close()
        client.engines().give_back(line.engine)
    return RootFilesystem(is_image=True, **told)
