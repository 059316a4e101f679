"""Giving birth to the builder: in new namespaces, in joined ones, or in both."""

from __future__ import annotations

import posix
from _struct import pack, unpack
from errno import EPERM

from pyrunc.errors import Error, reason
from pyrunc.linux import files
from pyrunc.linux import processes as p
from pyrunc.process import channel
from pyrunc.process.namespaces import FLAGS, become_root, flags_of, owner_of, timens_offsets

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from pyrunc.container.making.builder import Handover
    from pyrunc.spec.types import Spec


def spawn_builder(
    handover: Handover,
    spec: Spec,
    run: Callable[[Handover], NoReturn],
    write_mappings: Callable[[int], None],
) -> tuple[int, int, bool]:
    """Fork the builder into its namespaces, and into its cgroup where that can be.

    :param run: what the builder does; never returns.
    :param write_mappings: writes the id mappings for a process of the new user namespace.
    :return: ``(pid, pidfd)``, and whether it is born where its entrance says.
    :raises Error: when a namespace cannot be made or joined.
    """
    spaces = handover.plan.namespaces
    if handover.shares_memory:
        from pyrunc.container.making.same_memory import spawn

        if born := spawn(handover, spaces.clone_flags()):
            return *born, True
    if not spaces.is_born_inside:
        return _spawn_outside(handover, spec, run, write_mappings)
    try:
        pid, pidfd, in_cgroup = _clone(spaces.clone_flags(), handover.entrance.birthplace)
    except OSError as error:
        raise Error(f"cannot make the container's namespaces: {reason(error)}") from None
    if pid == 0:
        run(handover)
    if "user" in spaces.new:
        try:
            write_mappings(pid)
        except BaseException:
            p.pidfd_send_signal(pidfd, p.SIGKILL)
            p.reap(pid, pidfd)
            posix.close(pidfd)
            raise
    return pid, pidfd, in_cgroup


def _clone(flags: int, cgroup: int) -> tuple[int, int, bool]:
    """Fork into namespaces and into a cgroup, if one is given; the last tells of the latter."""
    try:
        return (*p.clone(flags, cgroup), True)
    except OSError:
        if cgroup < 0:
            raise
    # A kernel before 5.7, or a cgroup that takes nobody: who moves the process there hears why.
    # Or it is the namespaces, and then the same error comes again.
    return (*p.clone(flags), False)


def _spawn_outside(
    handover: Handover,
    spec: Spec,
    run: Callable[[Handover], NoReturn],
    write_mappings: Callable[[int], None],
) -> tuple[int, int, bool]:
    """Fork a process that enters and makes the namespaces: the builder, or a stage before it.

    The stage makes the builder its sibling (CLONE_PARENT), tells its pid and ends. Cgroups are
    inherited.
    """
    up_read, up_write = posix.pipe2(files.O_CLOEXEC)
    down_read, down_write = posix.pipe2(files.O_CLOEXEC)
    try:
        child, pidfd, in_cgroup = _clone(0, handover.entrance.birthplace)
        if child == 0:
            posix.close(up_read)
            posix.close(down_write)
            _run_outside(handover, spec, run, up_write, down_read)
        posix.close(up_write)
        up_write = -1
        try:
            message = posix.read(up_read, 1)
            if message == b"U":
                write_mappings(child)
                posix.write(down_write, channel.GO_ON)
                message = posix.read(up_read, 1)
            if message == b"E":
                return child, pidfd, in_cgroup
            if message == b"P":
                builder: int = unpack("=i", posix.read(up_read, 4))[0]
                p.reap(child, pidfd)
                posix.close(pidfd)
                return builder, p.pidfd_open(builder), in_cgroup
            if message == channel.FAILED:
                raise Error(files.read_all(up_read).decode("utf-8", "replace"))
            raise channel.dead("the process that prepares the namespaces")
        except BaseException:
            p.pidfd_send_signal(pidfd, p.SIGKILL)
            p.reap(child, pidfd)
            posix.close(pidfd)
            raise
    finally:
        for descriptor in (up_read, up_write, down_read, down_write):
            if descriptor >= 0:
                posix.close(descriptor)


def _run_outside(
    handover: Handover, spec: Spec, run: Callable[[Handover], NoReturn], up: int, down: int
) -> NoReturn:
    spaces = handover.plan.namespaces
    doing = _Doing()
    try:
        handover.let_go()
        channel.die_with_runtime(down)
        _enter_namespaces(handover, spec, up, down, doing)
        doing.what = "make the container's namespaces"
        flags = flags_of(spaces.new - {"user", "cgroup", "time"})
        if spaces.entered_by_builder:
            # The caller's terminal is not to be reached through init, which can be seen.
            posix.setsid()
            p.unshare(flags)
            posix.write(up, b"E")
        else:
            pid, _ = p.clone(flags | p.CLONE_PARENT)
            if pid:
                posix.write(up, b"P" + pack("=i", pid))
                posix._exit(0)
    except BaseException as error:
        text = f"cannot {doing.what}: {reason(error)}"
        files.write_all(up, channel.FAILED + text.encode("utf-8", "replace"))
        posix._exit(1)
    posix.close(up)
    posix.close(down)
    run(handover)


class _Doing:
    """What is being done, for the error."""

    what = "prepare the namespaces"


def _enter_namespaces(handover: Handover, spec: Spec, up: int, down: int, doing: _Doing) -> None:
    """Join namespaces and make a user and a time namespace, each with the rights that it takes.

    What the host owns is entered with the host's rights, the rest with those that the user
    namespace gives.
    """
    # Cgroups are inherited; as root of a user namespace it might not be let in.
    doing.what = "get into the container's cgroup"
    handover.entrance.join()
    spaces = handover.plan.namespaces
    waiting = dict(handover.namespaces)
    user = waiting.pop("user", -1)
    has_user = user >= 0 or "user" in spaces.new
    pid_namespace = waiting.pop("pid", -1)
    has_clocks = "time" not in spaces.new
    # The mount namespace comes last: paths of the host are not found in it.
    for kind in sorted(waiting, key="mount".__eq__):
        doing.what = f"join {kind} namespace {spaces.joined[kind]}"
        if _join(waiting[kind], kind, later_on_eperm=has_user):
            del waiting[kind]
    if (
        pid_namespace >= 0
        and has_user
        and not (user >= 0 and owner_of(pid_namespace) == posix.stat(user).st_ino)
        and not spec.get("hooks", {}).get("createContainer")
    ):
        # Later it could not be entered. No builder's child may be seen there: a procfs cannot be
        # opened in it then (foreign_proc.py), and without hooks there is no other.
        doing.what = f"join pid namespace {spaces.joined['pid']}"
        handover.entered_pid_namespace = _join(pid_namespace, "pid", later_on_eperm=True)
    if user >= 0:
        # Whoever is in the user namespace must not be able to trace what comes from the host.
        # Files of /proc/self are out of reach from then on: the clocks come first, if they may.
        if not has_clocks:
            has_clocks = _set_clocks(handover, spec, doing, later_on_eperm=True)
        doing.what = f"join user namespace {spaces.joined['user']}"
        p.prctl(p.PR_SET_DUMPABLE, 0)
        p.setns(user, p.CLONE_NEWUSER)
        become_root(visible=True)
        channel.die_with_runtime(down)
    elif "user" in spaces.new:
        doing.what = "make a user namespace"
        p.unshare(p.CLONE_NEWUSER)
        posix.write(up, b"U")
        if posix.read(down, 1) != channel.GO_ON:
            posix._exit(1)
        become_root(visible=False)
        channel.die_with_runtime(down)
    for kind, descriptor in waiting.items():
        doing.what = f"join {kind} namespace {spaces.joined[kind]}"
        _join(descriptor, kind, later_on_eperm=False)
    if not has_clocks:
        _set_clocks(handover, spec, doing, later_on_eperm=False)


def _set_clocks(handover: Handover, spec: Spec, doing: _Doing, *, later_on_eperm: bool) -> bool:
    """Make a time namespace for children; returns whether that was allowed."""
    doing.what = "make a time namespace"
    try:
        p.unshare(p.CLONE_NEWTIME)
    except OSError as error:
        if later_on_eperm and error.errno == EPERM:
            return False
        raise
    offsets = spec.get("linux", {}).get("timeOffsets")
    if offsets:
        doing.what = "set the clocks of the time namespace"
        files.write_file("self/timens_offsets", timens_offsets(offsets), handover.proc)
    return True


def _join(descriptor: int, kind: str, *, later_on_eperm: bool) -> bool:
    try:
        p.setns(descriptor, FLAGS[kind])
    except OSError as error:
        if later_on_eperm and error.errno == EPERM:
            return False
        raise
    return True
