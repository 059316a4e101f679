"""How a process gets into a container's cgroups by itself, without being moved.

For the first move of a process by another, or of a whole process, the kernel waits for an RCU
grace period (cgroup_threadgroup_rwsem in kernel/cgroup/cgroup.c): 6 to 15 ms on an idle machine,
a third of a whole `pyrunc run`, in which moreover nobody on the machine can fork. Two ways in
need no such wait: a single thread may write 0 to a v1 hierarchy's ``tasks`` (since Linux 5.4;
0.03 ms), and a process may be born in a v2 cgroup (clone3(2), CLONE_INTO_CGROUP, Linux 5.7).
"""

from __future__ import annotations

import posix
from errno import EINVAL

from pyrunc.errors import NEEDS_REAL_TIME, Error, reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

#: How many descriptors an operation needs besides.
_NEEDED_BESIDES = 30
#: For the kernel: whoever is writing.
MYSELF = b"0"


class Entrance:
    """Open descriptors of a container's cgroups, to be inherited by who is to get in."""

    __slots__ = ("birthplace", "later", "moved", "tasks")

    def __init__(self, birthplace: int = -1, tasks: Sequence[tuple[str, int]] = ()) -> None:
        #: Directory in the v2 hierarchy, for clone3(2), or -1.
        self.birthplace = birthplace
        #: ``(path, descriptor)`` of the ``tasks`` files of v1.
        self.tasks = list(tasks)
        #: v1 cgroups yet to be made, for :class:`pyrunc.cgroups.joining.JoinLaterCgroups`.
        self.later: list[str] = []
        #: Whether the process must be moved after all: there are too few descriptors for this.
        self.moved = False

    def give_up_if_crowded(self, limit: int) -> bool:
        """Close all and leave it to a move, if the limit on open files leaves no room for this.

        :param limit: sysconf(3)'s SC_OPEN_MAX; -1 for none.
        """
        latest = self.tasks[-1][1] if self.tasks else -1
        if 0 < limit < max(latest, self.birthplace) + _NEEDED_BESIDES:
            self.close()
            self.moved = True
        return self.moved

    def join(self) -> None:
        """Get into the v1 cgroups that are there, as a process with one thread, and close all.

        :raises Error: naming the cgroup that takes no process.
        """
        for path, descriptor in self.tasks:
            try:
                posix.write(descriptor, MYSELF)
            except OSError as error:
                raise not_joined(path, error) from None
        self.close()

    def close(self) -> None:
        """Close everything, each once: what fails to close is closed all the same (close(2))."""
        birthplace, self.birthplace = self.birthplace, -1
        if birthplace >= 0:
            posix.close(birthplace)
        while self.tasks:
            posix.close(self.tasks.pop()[1])


def not_joined(path: str, error: OSError) -> Error:
    """Return what to say of a cgroup that takes no process."""
    hint = f"; {NEEDS_REAL_TIME}" if error.errno == EINVAL else ""
    return Error(f"cannot join cgroup {path}: {reason(error)}{hint}")
