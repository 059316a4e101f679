"""What ``rootfs=`` can be: the host's /usr, a directory, or an archive of an image."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pyrunc.sandbox.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class RootFilesystem:
    """A root that nobody changes, and what its image says about programs in it."""

    #: Empty for the host's, which the engine puts together.
    path: str
    is_image: bool = False
    user: tuple[int, int] | None = None
    cwd: str = "/"
    environment: Mapping[str, str] = field(default_factory=dict)
    #: The image's entry point and command, for a sandbox that is given no program.
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()


def root_filesystem(rootfs: str | None) -> RootFilesystem:
    """Return what ``rootfs=`` stands for; an archive is unpacked when that was not done before.

    :raises InvalidArgument: when it is none of these.
    :raises ArchiveInvalid: when it is damaged.
    """
    if rootfs is None:
        return RootFilesystem("", cwd="/tmp")
    if os.path.isdir(rootfs) and not os.path.exists(f"{rootfs}/oci-layout"):
        return RootFilesystem(rootfs, is_image=True, user=(0, 0))
    if not os.path.exists(rootfs):
        raise InvalidArgument(f"rootfs: {rootfs}: no such file or directory")
    raise InvalidArgument(f"rootfs: {rootfs}: neither a directory nor an archive of an image")
