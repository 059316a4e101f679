"""Giving birth to the builder: in new namespaces, in joined ones, or in both."""

from __future__ import annotations

import posix
from _struct import pack, unpack
from errno import EPERM

from pyrunc.errors import Error, reason
from pyrunc.linux import files
from pyrunc.linux import processes as p
from pyrunc.process import channel
from pyrunc.process.namespaces import FLAGS, become_root, flags_of, timens_offsets

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from pyrunc.container.builder import Handover
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
    if spaces.needs_stage:
        return _spawn_through_stage(handover, spec, run, write_mappings)
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


def _spawn_through_stage(
    handover: Handover,
    spec: Spec,
    run: Callable[[Handover], NoReturn],
    write_mappings: Callable[[int], None],
) -> tuple[int, int, bool]:
    """Let a process in between enter what must be entered before the builder is born.

    It makes the builder its sibling (CLONE_PARENT), tells its pid and ends. Cgroups are inherited.
    """
    up_read, up_write = posix.pipe2(files.O_CLOEXEC)
    down_read, down_write = posix.pipe2(files.O_CLOEXEC)
    try:
        stage, stage_pidfd, in_cgroup = _clone(0, handover.entrance.birthplace)
        if stage == 0:
            posix.close(up_read)
            posix.close(down_write)
            _run_stage(handover, spec, run, up_write, down_read)
        posix.close(up_write)
        up_write = -1
        try:
            message = posix.read(up_read, 1)
            if message == b"U":
                write_mappings(stage)
                posix.write(down_write, channel.GO_ON)
                message = posix.read(up_read, 1)
            if message == b"P":
                pid: int = unpack("=i", posix.read(up_read, 4))[0]
                return pid, p.pidfd_open(pid), in_cgroup
            if message == channel.FAILED:
                raise Error(files.read_all(up_read).decode("utf-8", "replace"))
            raise channel.dead("the process that prepares the namespaces")
        except BaseException:
            p.pidfd_send_signal(stage_pidfd, p.SIGKILL)
            raise
        finally:
            p.reap(stage, stage_pidfd)
            posix.close(stage_pidfd)
    finally:
        for descriptor in (up_read, up_write, down_read, down_write):
            if descriptor >= 0:
                posix.close(descriptor)


def _run_stage(
    handover: Handover, spec: Spec, run: Callable[[Handover], NoReturn], up: int, down: int
) -> NoReturn:
    doing = "prepare the namespaces"
    try:
        handover.let_go()
        channel.die_with_runtime(down)
        # Cgroups are inherited; as root of a user namespace it might not be let in.
        doing = "get into the container's cgroup"
        handover.entrance.join()
        spaces = handover.plan.namespaces
        waiting = dict(handover.namespaces)
        user = waiting.pop("user", -1)
        has_user = user >= 0 or "user" in spaces.new
        # What the host owns is entered with the host's rights, the rest with those that
        # the user namespace gives.
        # The mount namespace comes last: paths of the host are not found in it.
        for kind in sorted(waiting, key="mount".__eq__):
            doing = f"join {kind} namespace {spaces.joined[kind]}"
            if _join(waiting[kind], kind, later_on_eperm=has_user):
                del waiting[kind]
        if user >= 0:
            doing = f"join user namespace {spaces.joined['user']}"
            p.setns(user, p.CLONE_NEWUSER)
            become_root()
            channel.die_with_runtime(down)
        elif "user" in spaces.new:
            doing = "make a user namespace"
            p.unshare(p.CLONE_NEWUSER)
            posix.write(up, b"U")
            if posix.read(down, 1) != channel.GO_ON:
                posix._exit(1)
            become_root()
            channel.die_with_runtime(down)
        for kind, descriptor in waiting.items():
            doing = f"join {kind} namespace {spaces.joined[kind]}"
            _join(descriptor, kind, later_on_eperm=False)
        if "time" in spaces.new:
            doing = "make a time namespace"
            p.unshare(p.CLONE_NEWTIME)
            offsets = spec.get("linux", {}).get("timeOffsets")
            if offsets:
                doing = "set the clocks of the time namespace"
                files.write_file("self/timens_offsets", timens_offsets(offsets), handover.proc)
        doing = "make the container's namespaces"
        flags = flags_of(spaces.new - {"user", "cgroup", "time"})
        pid, _ = p.clone(flags | p.CLONE_PARENT)
        if pid == 0:
            posix.close(up)
            posix.close(down)
            run(handover)
        posix.write(up, b"P" + pack("=i", pid))
        posix._exit(0)
    except BaseException as error:
        text = f"cannot {doing}: {reason(error)}"
        files.write_all(up, channel.FAILED + text.encode("utf-8", "replace"))
    posix._exit(1)


def _join(descriptor: int, kind: str, *, later_on_eperm: bool) -> bool:
    try:
        p.setns(descriptor, FLAGS[kind])
    except OSError as error:
        if later_on_eperm and error.errno == EPERM:
            return False
        raise
    return True
