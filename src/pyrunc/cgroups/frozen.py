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
#: Since Linux 6.1 no process of a frozen v1 cgroup, whatever it was at, is shown in one of these
#: states (proc_pid_stat(5)): all are in D, and so may be others.
_FREE = (b"R", b"S")
_TOLD_BY_STATE = (6, 1)


class Many:
    """What makes it shorter for who asks about many cgroups. Close it when done."""

    __slots__ = ("_parents", "_told_by_state")

    def __init__(self) -> None:
        #: The first few directories above them, open; from there the way to the next is shorter.
        self._parents: dict[str, int] = {}
        self._told_by_state: bool | None = None

    def tells(self, version: int, state: bytes) -> bool:
        """Tell whether the state of one of its processes shows that a cgroup is not frozen."""
        if version != 1 or state not in _FREE:
            return False
        if self._told_by_state is None:
            self._told_by_state = _is_told_by_state(posix.uname().release)
        return self._told_by_state

    def nearest(self, directory: str) -> tuple[int, str]:
        """Return the descriptor that the way to a cgroup begins at, and the rest of the path."""
        above, _, own = directory.rpartition("/")
        if above not in self._parents:
            if len(self._parents) == _MOST_PARENTS:
                return AT_FDCWD, directory
            try:
                self._parents[above] = posix.open(f"{above}/", _DIRECTORY)
            except OSError:
                return AT_FDCWD, directory
        return self._parents[above], own

    def close(self) -> None:
        """Close the directories."""
        for descriptor in self._parents.values():
            posix.close(descriptor)


def _is_told_by_state(release: str) -> bool:
    """Tell it of a kernel by its release, ``6.18.44-cloud``, ``6.1-rc3`` or whatever they say."""
    numbers = [number for number in release.replace("-", ".").split(".", 2)[:2] if number.isdigit()]
    return len(numbers) == 2 and (int(numbers[0]), int(numbers[1])) >= _TOLD_BY_STATE


def is_frozen(
    version: int, paths: Mapping[str, str], many: Many | None = None, state: bytes = b""
) -> bool:
    """Tell whether the processes are stopped, or are being stopped.

    :param paths: the container's directory by controller, as the drivers have it.
    :param state: of one of the processes, where ``many`` are asked about and it is known.
    :raises OSError: when the cgroup cannot be read; one that is gone is not frozen.
    """
    if many and many.tells(version, state):
        return False
    controller, name = ("", "cgroup.freeze") if version == 2 else ("freezer", "freezer.state")
    directory = paths.get(controller)
    if not directory:
        return False
    above, path = many.nearest(directory) if many else (AT_FDCWD, directory)
    # In one call: the kernel gives such a file at once.
    told = fetch(above, f"{path}/{name}".encode("utf-8", "surrogateescape"), _READ, 0, 64)
    if isinstance(told, int):
        if -told in (ENOENT, ENODEV):
            return False
        raise OSError(-told, posix.strerror(-told))
    return told.strip() in (b"1", b"FROZEN", b"FREEZING")


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
