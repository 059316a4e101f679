"""Whether a container's processes are stopped by their cgroup.

Every command asks, and few need more of the cgroups: the drivers stay out of it.
"""

from __future__ import annotations

import posix
from errno import ENODEV, ENOENT

from pyrunc.linux.libc import AT_FDCWD, fetch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_READ = posix.O_RDONLY | posix.O_CLOEXEC
_DIRECTORY = posix.O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC
_MOST_PARENTS = 4


def is_frozen(
    version: int, paths: Mapping[str, str], parents: dict[str, int] | None = None
) -> bool:
    """Tell whether the processes are stopped, or are being stopped.

    :param paths: the container's directory by controller, as the drivers have it.
    :param parents: for who asks for many: the first few directories above, by path, opened here
        and closed by the caller. From there the way to the next is shorter.
    :raises OSError: when the cgroup cannot be read; one that is gone is not frozen.
    """
    controller, name = ("", "cgroup.freeze") if version == 2 else ("freezer", "freezer.state")
    directory = paths.get(controller)
    if not directory:
        return False
    above, path = _nearest(parents, directory)
    # In one call: the kernel gives such a file at once.
    state = fetch(above, f"{path}/{name}".encode("utf-8", "surrogateescape"), _READ, 0, 64)
    if isinstance(state, int):
        if -state in (ENOENT, ENODEV):
            return False
        raise OSError(-state, posix.strerror(-state))
    return state.strip() in (b"1", b"FROZEN", b"FREEZING")


def _nearest(parents: dict[str, int] | None, directory: str) -> tuple[int, str]:
    """Return the descriptor that the way to a cgroup begins at, and the rest of the path."""
    if parents is None:
        return AT_FDCWD, directory
    above, _, own = directory.rpartition("/")
    if above not in parents:
        if len(parents) == _MOST_PARENTS:
            return AT_FDCWD, directory
        try:
            parents[above] = posix.open(f"{above}/", _DIRECTORY)
        except OSError:
            return AT_FDCWD, directory
    return parents[above], own


def may_be_frozen_below(version: int, paths: Mapping[str, str]) -> bool:
    """Tell whether there are v1 cgroups below the container's, which may be frozen on their own.

    Their processes cannot die before they are thawed. On v2 they can.
    """
    directory = paths.get("freezer")
    if version == 2 or not directory:
        return False
    try:
        # Its name, its "." and the ".." of each directory in it (kernfs counts like that).
        return posix.stat(directory).st_nlink > 2
    except OSError:
        return False
