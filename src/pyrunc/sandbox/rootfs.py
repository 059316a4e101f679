"""What ``rootfs=`` can be: the host's /usr, a directory, or an archive of an image."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from errno import ENOENT
from functools import lru_cache
from typing import TYPE_CHECKING

from pyrunc.errors import Error, reason
from pyrunc.sandbox.errors import ArchiveInvalid, HostFileMissing, InvalidArgument
from pyrunc.sandbox.files import read_file

if TYPE_CHECKING:
    from collections.abc import Mapping

#: How many images a program need not open again.
_REMEMBERED = 16


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


def root_filesystem(rootfs: str | None) -> RootFilesystem:
    """Return what ``rootfs=`` stands for; an archive is unpacked when that was not done before.

    :raises HostFileMissing: when it is not there.
    :raises InvalidArgument: when it is none of these.
    :raises ArchiveInvalid: when it is damaged.
    """
    if rootfs is None:
        return RootFilesystem("", cwd="/tmp")
    try:
        mode = os.stat(rootfs).st_mode
    except OSError as error:
        kind = HostFileMissing if error.errno == ENOENT else InvalidArgument
        raise kind(f"rootfs: {rootfs}: {reason(error)}") from None
    if stat.S_ISDIR(mode) and not os.path.exists(f"{rootfs}/oci-layout"):
        return RootFilesystem(rootfs, is_image=True, user=(0, 0))
    if not stat.S_ISDIR(mode) and not stat.S_ISREG(mode):
        raise InvalidArgument(f"rootfs: {rootfs}: neither a directory nor a file")
    status = os.stat(f"{rootfs}/index.json" if stat.S_ISDIR(mode) else rootfs)
    return _from_image(rootfs, (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns))


@lru_cache(_REMEMBERED)
def _from_image(path: str, _: tuple[int, ...]) -> RootFilesystem:
    """Return the image at ``path``; the rest of the arguments tells it from an earlier one."""
    from pyrunc.images.errors import ImageInvalid
    from pyrunc.images.store import unpacked

    try:
        image = unpacked(path)
    except ImageInvalid as error:
        raise ArchiveInvalid(f"rootfs: {path}: {error}") from None
    return RootFilesystem(
        image.root,
        is_image=True,
        user=_user(image.root, image.config.user),
        cwd=image.config.working_directory,
        environment=image.config.environment,
        command=(*image.config.entrypoint, *image.config.command),
    )


def _user(root: str, user: str) -> tuple[int, int]:
    """Return uid and gid for an image's ``User``: names or numbers, looked up in its /etc.

    :raises ArchiveInvalid: for a name that is not there.
    """
    name, _, group = user.partition(":")
    if not name:
        return 0, 0
    entry = _entry(root, "passwd", name)
    uid = int(name) if name.isdigit() else int(entry[2]) if entry else None
    if uid is None:
        raise ArchiveInvalid(f"the image's user {user!r} is not in its /etc/passwd")
    if not group:
        return uid, int(entry[3]) if entry else 0
    entry = _entry(root, "group", group)
    if not group.isdigit() and not entry:
        raise ArchiveInvalid(f"the image's group {group!r} is not in its /etc/group")
    return uid, int(group) if group.isdigit() else int(entry[2])


def _entry(root: str, name: str, wanted: str) -> list[str]:
    """Return the fields of a user or group, by name or number; none when it is not there."""
    directory = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        text = read_file(directory, f"/etc/{name}", 1 << 22)
    except Error:
        return []
    finally:
        os.close(directory)
    for line in text.decode("utf-8", "replace").splitlines():
        fields = line.split(":")
        numbers = fields[2:4] if name == "passwd" else fields[2:3]
        if wanted in (fields[0], *fields[2:3]) and all(n.isdigit() for n in numbers) and numbers:
            return fields
    return []
