"""The root file system as CRIU wants it for a restore: a mount, with a place for each other mount.

It is bound in a mount namespace that only CRIU has, and is gone with that, whatever becomes of us.
"""

from __future__ import annotations

import posix

from pyrunc.checkpoint import yard
from pyrunc.checkpoint.manifest import namespaces_of
from pyrunc.checkpoint.mounts import binds
from pyrunc.errors import Error, reason
from pyrunc.linux import files, mounts
from pyrunc.linux.files import clean_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.cgroups.host import Layout
    from pyrunc.spec.types import Spec

#: Directories of the container's own directory.
ROOT, IMAGES, YARD = "criu-root", "criu-images", "criu-yard"


def make_places(root: str, bundle: str, spec: Spec) -> None:
    """Make what is missing of the config's mount points in the root file system.

    It may be a fresh copy of the one that the saved container had, which got them at its making.
    Those on another mount of the container are in the images, or outside. In a root that is not to
    be written to CRIU needs a directory /tmp as well: to put the old root on, when it changes that.

    :raises Error: naming the mount point that cannot be made.
    """
    bound = {destination: entry.get("source", "") for destination, entry in binds(spec)}
    destinations = {clean_path(entry["destination"]) for entry in spec.get("mounts", ())}
    if spec["root"].get("readonly"):
        destinations.add("/tmp")
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


class PrivateMounts:
    """What only CRIU sees: the root on one directory, and in another the cgroup v2 hierarchy where
    it is the only one; for a user namespace, the images on a third.

    Processes of a user namespace read the images themselves, and have no rights to a directory that
    is for root alone, as it should be: all that was in the container's memory is in there.
    """

    __slots__ = ("_directory", "_images", "_root", "_shows_images", "_unified")

    def __init__(self, root: str, images: str, directory: str, spec: Spec, layout: Layout) -> None:
        """The directory is the path of the container's own."""
        self._unified = layout.unified if layout.version == 2 else ""
        self._root = root
        self._images = images
        self._directory = directory
        self._shows_images = namespaces_of(spec).get("user") == "new"

    @property
    def root(self) -> str:
        """Where the root is."""
        return f"{self._directory}/{ROOT}"

    @property
    def images(self) -> str:
        """Where the images are."""
        return f"{self._directory}/{IMAGES}" if self._shows_images else self._images

    @property
    def yard(self) -> str:
        """Where the cgroup v2 hierarchy is, for CRIU."""
        return f"{self._directory}/{YARD}"

    def make(self) -> None:
        """Make them, in a mount namespace that was just made.

        :raises OSError: when one cannot be made.
        """
        # What the host mounts later still arrives.
        mounts.set_root_propagation(mounts.MS_SLAVE | mounts.MS_REC)
        _bind(self._root, self.root, recursive=True)
        if self._shows_images:
            _show(self._images, self.images)
        if self._unified:
            yard.show(self._unified, self.yard)


def _show(images: str, place: str) -> None:
    """Bind the images one by one into a directory through which everybody may go.

    CRIU makes them readable for all. Those of an earlier pre-dump are behind a link ``parent``.
    """
    tmpfs = mounts.new_filesystem("tmpfs", "tmpfs", ("mode=711",), 0)
    mounts.attach(tmpfs, _opened(place))
    posix.close(tmpfs)
    for name in posix.listdir(images):
        path = f"{images}/{name}"
        try:
            mode = posix.stat(path).st_mode & files.S_IFMT
        except FileNotFoundError:
            continue
        if mode == files.S_IFREG:
            posix.close(posix.open(f"{place}/{name}", posix.O_WRONLY | posix.O_CREAT, 0o600))
            _bind(path, f"{place}/{name}", recursive=False)
        elif name == "parent":
            posix.mkdir(f"{place}/{name}", 0o711)
            _show(path, f"{place}/{name}")


def _bind(source: str, place: str, *, recursive: bool) -> None:
    """The mount hears of what the host does to its source: CRIU has the container hear it too."""
    mount = mounts.clone_tree(mounts.AT_FDCWD, source, recursive=recursive)
    mounts.attach(mount, _opened(place))
    posix.close(mount)


def _opened(place: str) -> int:
    """By path: a descriptor that was opened before leads to the mounts of the host."""
    return posix.open(place, files.O_PATH | files.O_NOFOLLOW | files.O_CLOEXEC)
