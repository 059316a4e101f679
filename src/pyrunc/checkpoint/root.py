"""The root file system as CRIU wants it for a restore: a mount of its own with a place for each mount.

It is bound in a mount namespace that only CRIU has, and is gone with that, whatever becomes of us.
"""

from __future__ import annotations

import posix

from pyrunc.checkpoint.mounts import binds
from pyrunc.errors import Error, reason
from pyrunc.linux import files, mounts
from pyrunc.linux.files import clean_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.spec.types import Spec

#: In the container's directory.
NAME = "criu-root"


def make_places(root: str, bundle: str, spec: Spec) -> None:
    """Make what is missing of the config's mount points in the root file system.

    It may be a fresh copy of the one that the saved container had, which got them at its making.
    Those on another mount of the container are in the images, or outside.

    :raises Error: naming the mount point that cannot be made.
    """
    bound = {destination: entry.get("source", "") for destination, entry in binds(spec)}
    destinations = {clean_path(entry["destination"]) for entry in spec.get("mounts", ())}
    directory = posix.open(root, files.O_PATH | files.O_DIRECTORY | files.O_CLOEXEC)
    try:
        for place in sorted(destinations):
            if any(place.startswith(f"{other}/") for other in destinations):
                continue
            try:
                posix.close(files.open_in_root(directory, place))
                continue
            except OSError:
                pass
            source = bound.get(place, "/")
            source = source if source[:1] == "/" else f"{bundle}/{source}"
            try:
                is_directory = posix.stat(source).st_mode & files.S_IFMT == files.S_IFDIR
                make = files.ensure_directory if is_directory else files.ensure_file
                posix.close(make(directory, place))
            except OSError as error:
                raise Error(f"cannot make mount point {place}: {reason(error)}") from None
    finally:
        posix.close(directory)


def bind_alone(root: str, place: str) -> None:
    """In a mount namespace that was just made: bind the root on ``place``; nobody else sees it."""
    # What the host mounts later still arrives.
    mounts.set_root_propagation(mounts.MS_SLAVE | mounts.MS_REC)
    bound = mounts.clone_tree(mounts.AT_FDCWD, root, recursive=True)
    mounts.set_attributes(bound, propagation=mounts.MS_PRIVATE, recursive=True)
    # By path: a descriptor that was opened before leads to the mounts of the host.
    mounts.attach(bound, posix.open(place, files.O_PATH | files.O_DIRECTORY | files.O_NOFOLLOW))
