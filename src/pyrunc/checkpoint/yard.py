"""The cgroup v2 hierarchy, where it is the only one, as CRIU is to have it.

Left alone CRIU mounts it once more, without options. These are not a mount's but the hierarchy's:
the whole host would lose those that it has (``nsdelegate``, ``memory_recursiveprot``;
cgroup-v2.rst, "Mounting"). CRIU can be given a directory instead, its "cgroup yard", with the
hierarchy in it.
"""

from __future__ import annotations

import posix

from pyrunc.linux import files, mounts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.cgroups.host import Layout
    from pyrunc.container.record.entry import Entry

#: CRIU's name for the hierarchy, in a yard.
_NAME = "unified"
#: The earliest CRIU that this was seen to work with.
_OLDEST = (4, 1)


def is_wanted(layout: Layout, criu: tuple[int, int, int]) -> bool:
    """Tell whether there is no other hierarchy, and this CRIU takes a yard of it."""
    return layout.version == 2 and bool(layout.unified) and criu[:2] >= _OLDEST


class Link:
    """A yard for a dump, which works in the host's mounts: the container's directory, with a link.

    To be used in a ``with`` statement, which gives the options for CRIU: none where it needs none.
    """

    __slots__ = ("_entry", "_target")

    def __init__(self, entry: Entry, layout: Layout, criu: tuple[int, int, int]) -> None:
        self._entry = entry
        self._target = layout.unified if is_wanted(layout, criu) else ""

    def __enter__(self) -> dict[str, str]:
        if not self._target:
            return {}
        # One may be there, of a dump that was killed.
        self._remove()
        posix.symlink(self._target, _NAME, dir_fd=self._entry.directory)
        return {"cgroup_yard": self._entry.path}

    def __exit__(self, *_: object) -> None:
        if self._target:
            self._remove()

    def _remove(self) -> None:
        try:
            posix.unlink(_NAME, dir_fd=self._entry.directory)
        except FileNotFoundError:
            pass


def show(unified: str, place: str) -> None:
    """Make a yard in a directory, in a mount namespace of CRIU's own.

    A link would not do: it is followed in the container's root as well. Processes of a user
    namespace come here too, who must be let through.

    :raises OSError: when it cannot be made.
    """
    tmpfs = mounts.new_filesystem("tmpfs", "tmpfs", ("mode=711",), 0)
    mounts.attach(tmpfs, _opened(place))
    posix.close(tmpfs)
    posix.mkdir(f"{place}/{_NAME}", 0o711)
    mount = mounts.clone_tree(mounts.AT_FDCWD, unified, recursive=False)
    mounts.attach(mount, _opened(f"{place}/{_NAME}"))
    posix.close(mount)


def _opened(place: str) -> int:
    return posix.open(place, files.O_PATH | files.O_NOFOLLOW | files.O_CLOEXEC)
