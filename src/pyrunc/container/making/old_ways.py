"""Preparing the builder for system calls that are refused where pyrunc runs.

It imports nothing, and its /proc and /tmp become the container's: what the other ways take (see
:mod:`pyrunc.linux.refusals`) is loaded and opened before the fork.
"""

from __future__ import annotations

from pyrunc.linux import resolve, unnamed_files  # noqa: F401  # resolve: for files.openat2
from pyrunc.linux.mounts_by_path import use_where_refused
from pyrunc.linux.refusals import EVERY_FLAG, NO_DESCRIPTOR, refuses
from pyrunc.linux.sockets import socket_pair
from pyrunc.process.seal import execute_by_path_where_refused
from pyrunc.security import capabilities

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.container.settings import Settings
    from pyrunc.process.namespaces import Namespaces

#: Memory files that the builder makes: two launch programs, and what hooks read and print to.
_MEMORY_FILES = 4


def prepare(settings: Settings, spaces: Namespaces) -> None:
    """Set aside what cannot be had later, and warn of what will not be.

    :raises OSError: when it cannot be had now either.
    """
    unnamed_files.set_aside(_MEMORY_FILES)
    is_ours_to_bring_up = "network" in spaces.new and not spaces.private("user")
    if is_ours_to_bring_up and not capabilities.own()[0].effective & capabilities.NET_ADMIN:
        settings.log.warn(
            "the container's loopback interface stays down: pyrunc lacks CAP_NET_ADMIN"
        )


def sockets_if_needed() -> tuple[int, int]:
    """Return the builder's end and ours of a pair that a terminal can come through, or -1 twice.

    Docker's own filter lets pidfd_getfd(2) through with CAP_SYS_PTRACE only.
    """
    if refuses("pidfd_getfd", NO_DESCRIPTOR, NO_DESCRIPTOR, EVERY_FLAG):
        return socket_pair()
    return -1, -1


def enter(proc: int) -> None:
    """Find out in the builder which calls are refused; ``proc`` is the host's procfs."""
    use_where_refused(proc)
    execute_by_path_where_refused(proc)
