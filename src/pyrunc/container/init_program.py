"""What the builder leaves to init: the launch program of a container's first process.

It waits for the start with the ids, capabilities and descriptors of the program that it will
become. Into another's pid namespace it goes as the last of all: who is there could see it.
"""

from __future__ import annotations

import posix
from _struct import pack

from pyrunc.linux import files
from pyrunc.linux import processes as p
from pyrunc.process.channel import READY
from pyrunc.process.failure import NO_PROCESS
from pyrunc.process.hooks import with_pid
from pyrunc.process.launch import PID_WIDTH, LaunchProgram
from pyrunc.process.seal import come_back

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.container.builder import Handover
    from pyrunc.process.last_mile import LastMile

_LISTEN_PID = "LISTEN_PID="
_SIG_IGN = 1
_SIGSET_SIZE = 8
#: Stands for a pid that is not known yet.
_UNKNOWN = " " * PID_WIDTH


def compile_init(handover: Handover) -> list[LaunchProgram]:
    """Return what init is to carry out: one program, or two when it enters a pid namespace."""
    launch = LaunchProgram(handover.up)
    # Everything from here on is carried out by a process that is in the pid namespace.
    inside = launch if handover.page < 0 else LaunchProgram()
    launch.stamp_into(handover.trace.stamps)
    launch.call("become undumpable", "prctl", p.PR_SET_DUMPABLE, 0, 0, 0, 0)
    come_back(launch)
    # Forgotten since the effective gid changed; later, the end of the pipe tells as well.
    launch.call("die with the runtime", "prctl", p.PR_SET_PDEATHSIG, p.SIGKILL, 0, 0, 0)
    last_mile = handover.last_mile
    if last_mile is None:
        _close_others(launch, handover, 0)
        launch.reset_signals()
        _enter_pid_namespace(launch, handover)
        _wait_for_start(launch, inside, handover)
        # What there is to execute is missing, and is said to be so.
        inside.execute(NO_PROCESS, "/nonexistent", [""], [])
    else:
        _compile(launch, inside, handover, last_mile)
    return [launch] if inside is launch else [launch, inside]


def _compile(
    launch: LaunchProgram, inside: LaunchProgram, handover: Handover, last_mile: LastMile
) -> None:
    if last_mile.hooks:
        _open_hook_files(handover, last_mile)
    _close_others(launch, handover, last_mile.preserved)
    last_mile.proc = handover.proc
    last_mile.add_limits(launch)
    last_mile.add_labels(launch)
    last_mile.add_preparation(launch)
    if inside is launch:
        last_mile.add_session(launch)
    last_mile.add_cwd_check(launch)
    _enter_pid_namespace(launch, handover)
    last_mile.add_privileges(launch, handover.up, handover.down)
    last_mile.add_late_cwd(launch)
    if not handover.held:
        last_mile.add_permission_check(launch)
    if last_mile.preserved_listen:
        entry = _LISTEN_PID + (_UNKNOWN if inside is not launch else str(posix.getpid()))
        kept = [e for e in last_mile.environment if not e.startswith(_LISTEN_PID)]
        last_mile.environment = [*kept, entry]
    _wait_for_start(launch, inside, handover)
    if inside is not launch:
        last_mile.add_session(inside)
        _tell_own_pid(inside, handover, last_mile)
    last_mile.add_execution(inside, handover.result_fifo)


def _open_hook_files(handover: Handover, last_mile: LastMile) -> None:
    """Open what the startContainer hooks read their state from and print to."""
    number = str(posix.getpid()) if handover.page < 0 else _UNKNOWN
    state = files.memory_file("hook-stdin", _hook_state(handover, number))
    last_mile.hook_files = (state, files.memory_file("hook-output", b""))


def _hook_state(handover: Handover, pid: str) -> bytes:
    created = handover.state.replace(b'"status":"creating"', b'"status":"created"', 1)
    return with_pid(created, pid)


def _tell_own_pid(inside: LaunchProgram, handover: Handover, last_mile: LastMile) -> None:
    """Fill in the number that only a process in the pid namespace knows."""
    if last_mile.preserved_listen:
        # sd_listen_fds(3): the descriptors are for the process with this number.
        inside.own_pid(inside.string(_LISTEN_PID + _UNKNOWN) + len(_LISTEN_PID), b"\0")
    if last_mile.hooks:
        number = inside.blob(_UNKNOWN.encode())
        inside.own_pid(number, b" ")
        at = _hook_state(handover, _UNKNOWN).index(_UNKNOWN.encode())
        file = last_mile.hook_files[0]
        inside.call("tell the hooks the pid", "pwrite64", file, number, PID_WIDTH, at)


def _close_others(launch: LaunchProgram, handover: Handover, preserved: int) -> None:
    """Close whatever the caller had open: who waits for the start holds on to nothing of it."""
    own = [handover.up, handover.down, handover.start_fifo, handover.result_fifo, handover.page]
    own += [handover.trace.stamps, handover.namespaces.get("pid", -1)]
    if handover.last_mile is not None:
        own += handover.last_mile.hook_files
        if handover.last_mile.label_writes:
            own.append(handover.proc)
    for descriptor in own:
        if descriptor >= 0:
            posix.set_inheritable(descriptor, True)
    launch.close_others(3, range(3, 3 + preserved), own)
    if handover.page >= 0:
        launch.share(handover.page)


def _enter_pid_namespace(launch: LaunchProgram, handover: Handover) -> None:
    """Let the sibling that is still to come be born in the pid namespace that is joined."""
    namespace = handover.namespaces.get("pid", -1)
    if namespace < 0:
        return
    path = handover.plan.namespaces.joined["pid"]
    if not handover.entered_pid_namespace:
        launch.call(f"join pid namespace {path}", "setns", namespace, p.CLONE_NEWPID)
    launch.call("close the pid namespace", "close", namespace)


def _wait_for_start(launch: LaunchProgram, inside: LaunchProgram, handover: Handover) -> None:
    """Wait until the runtime has written everything down, then for the start.

    If the runtime dies first, the pipe ends, and so does init. With its leave to go on
    the container lives on its own. What a seccomp filter forbids of this is done without.
    """
    if handover.held and inside is launch:
        _end_with_runtime(launch)
    elif not handover.held:
        # The change of ids has made the kernel forget it, but where there was none.
        launch.call("outlive the runtime", "prctl", p.PR_SET_PDEATHSIG, 0, 0, 0, 0, ignore=True)
    launch.call("report that the container is ready", "write", handover.up, READY, 1)
    launch.await_byte("wait until the container is on record", handover.down)
    if inside is launch:
        launch.report_to(handover.result_fifo)
        launch.call("close the pipe", "close", handover.up, ignore=True)
        launch.call("close the pipe", "close", handover.down, ignore=True)
    else:
        launch.stamp_into(-1)
        for descriptor in (handover.up, handover.down, handover.trace.stamps):
            if descriptor >= 0:
                launch.call("close what leads to the runtime", "close", descriptor)
        inside.spawn("enter the pid namespace", until_executed=False)
        doing = "wait until the container is on record"
        if handover.held:
            _end_with_runtime(inside)
        inside.await_living(doing, handover.start_fifo, handover.result_fifo)
        inside.report_to(handover.result_fifo)
    inside.await_byte("wait for the start", handover.start_fifo)


def _end_with_runtime(program: LaunchProgram) -> None:
    # Set anew, as the change of ids has undone it (PR_SET_PDEATHSIG(2const)).
    program.call("end with the runtime", "prctl", p.PR_SET_PDEATHSIG, p.SIGKILL, 0, 0, 0)
    ignored = program.blob(pack("=4Q", _SIG_IGN, 0, 0, 0))
    # The kernel collects the children of who ignores this (wait(2), NOTES).
    label = "let the kernel collect orphans"
    program.call(label, "rt_sigaction", p.SIGCHLD, ignored, 0, _SIGSET_SIZE)
