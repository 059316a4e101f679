"""An engine's own namespaces: where it mounts, and without root where it may.

Root's engine has a mount namespace, in which its overlays are; everybody else's has a user
namespace beside it, in which it is root, and in which its containers have theirs.
"""

from __future__ import annotations

import os
from errno import EPERM
from functools import cache
from typing import TYPE_CHECKING

from pyrunc.engine.ids import EVERYBODY, Ids, ask
from pyrunc.errors import Error, reason
from pyrunc.linux import files, refusals
from pyrunc.linux import mounts as m
from pyrunc.linux import processes as p
from pyrunc.linux.libc import syscall
from pyrunc.linux.numbers import SYS

if TYPE_CHECKING:
    import socket

_KEYCTL_JOIN_SESSION_KEYRING = 1


def seclude(keeper: socket.socket) -> Ids:
    """Enter the engine's namespaces; return the ids that there are in them.

    :param keeper: where to ask for ids from outside; closed then.
    :raises Error: when this user, or this host, may have none.
    """
    _leave_keyring()
    with keeper:
        ids = EVERYBODY if _unshare_mounts() else _become_root(keeper)
    m.set_root_propagation(m.MS_SLAVE | m.MS_REC)
    return ids


def _leave_keyring() -> None:
    """Have one session keyring for all containers, of which a user may have 200 (keyrings(7))."""
    try:
        syscall(SYS["keyctl"], _KEYCTL_JOIN_SESSION_KEYRING, 0)
    except OSError:
        # A kernel without keys, or a sandbox around us.
        return


def _unshare_mounts() -> bool:
    try:
        p.unshare(p.CLONE_NEWNS)
    except OSError as error:
        if error.errno != EPERM:
            raise Error(f"cannot make a mount namespace: {reason(error)}") from None
        return False
    return True


def _become_root(keeper: socket.socket) -> Ids:
    uid, gid = os.geteuid(), os.getegid()
    try:
        p.unshare(p.CLONE_NEWUSER | p.CLONE_NEWNS)
        ids = ask(keeper)
        if not ids.key:
            # user_namespaces(7): without privilege, giving up setgroups comes first.
            files.write_file("/proc/self/setgroups", b"deny")
            files.write_file("/proc/self/uid_map", b"0 %d 1" % uid)
            files.write_file("/proc/self/gid_map", b"0 %d 1" % gid)
    except OSError as error:
        raise Error(
            f"cannot make a user namespace, which containers of user {uid} need: {reason(error)};"
            " see sysctl kernel.unprivileged_userns_clone, user.max_user_namespaces and"
            " kernel.apparmor_restrict_unprivileged_userns"
        ) from None
    return ids


@cache
def may_set_hostname() -> bool:
    """Tell whether containers may have a hostname of their own.

    Podman's seccomp filter refuses sethostname(2) to who has not CAP_SYS_ADMIN outside.
    """
    if not refusals.are_likely():
        return True
    pid, pidfd = p.clone(p.CLONE_NEWUTS)
    if pid == 0:
        try:
            # There is no name of that length, where one may be set.
            os._exit(refusals.refuses("sethostname", 0, refusals.EVERY_FLAG))
        finally:
            os._exit(1)
    if pidfd >= 0:
        os.close(pidfd)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
