"""What init does as the first process of a container: the third list of its plan.

It waits for the start with the ids, capabilities and descriptors of the program that it will
become. Into another's pid namespace it goes as the last of all: who is there could see it.
"""

from __future__ import annotations

from _struct import pack

from pyrunc.linux import processes as p
from pyrunc.plan.process import LISTEN_PID, UNKNOWN_PID, plan_last_mile
from pyrunc.process.attributes import lost_by_fork
from pyrunc.process.channel import READY
from pyrunc.process.failure import NO_PROCESS
from pyrunc.process.hooks import with_pid
from pyrunc.process.late import (
    ARGUMENTS,
    DOWN,
    HERE,
    HOOK_OUTPUT,
    HOOK_STDIN,
    PAGE,
    PID_NAMESPACE,
    PID_NAMESPACE_AHEAD,
    PROC,
    RESULT,
    STAMPS,
    START,
    UP,
)
from pyrunc.process.launch import ENDING_SIGNALS, PID_WIDTH, LaunchProgram

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyrunc.plan.facts import Facts, ProcessFacts
    from pyrunc.process.last_mile import LastMile
    from pyrunc.process.late import Descriptor
    from pyrunc.process.namespaces import Namespaces
    from pyrunc.spec.types import Spec

_SIG_DFL, _SIG_IGN = 0, 1
_SIGSET_SIZE = 8


def created_state(state: bytes, pid: str) -> bytes:
    """Return the state that startContainer hooks get, from that of a container in the making."""
    return with_pid(state.replace(b'"status":"creating"', b'"status":"created"', 1), pid)


def plan_first_process(
    spec: Spec, spaces: Namespaces, facts: Facts, state: bytes
) -> tuple[tuple[LaunchProgram, ...], LaunchProgram | None, list[str]]:
    """Return what the first process of a container does, what it is yet to be told, and warnings.

    It is one program, or two when a pid namespace is joined: the second is carried out by a
    process that can be seen there. What it is told a child of it carries out.

    :param state: the state JSON for hooks, of a container in the making, with ``"pid":0``.
    """
    process = spec.get("process")
    joins = "pid" in spaces.joined
    launch = LaunchProgram(UP)
    # Everything from here on is carried out by a process that is in the pid namespace.
    inside = LaunchProgram() if joins else launch
    if joins:
        inside.tell_no_more_times()
    launch.call("become undumpable", "prctl", p.PR_SET_DUMPABLE, 0, 0, 0, 0)
    for name in ("fchdir", "close"):
        launch.call("go back to the working directory", name, HERE, only=HERE)
    # Forgotten since the effective gid changed; later, the end of the pipe tells as well.
    launch.call("die with the runtime", "prctl", p.PR_SET_PDEATHSIG, p.SIGKILL, 0, 0, 0)
    programs = (launch, inside) if joins else (launch,)
    if process is None:
        _do_without_process(launch, inside, spaces, held=facts.held)
        return programs, None, []
    last_mile, _, warnings = plan_last_mile(
        spec, process, facts.process, in_user_namespace=spaces.private("user")
    )
    _complete(last_mile, spec, spaces, facts)
    if joins:
        last_mile.plan_fork(spec)
    serves = facts.serves and not joins and _can_serve(last_mile, facts)
    if serves:
        last_mile.filter_early = _is_default_filter(spec)
    kept = [HOOK_STDIN, HOOK_OUTPUT] if last_mile.hooks else []
    if last_mile.label_writes:
        kept.append(PROC)
    _close_others(launch, facts.process.preserved, kept, joins=joins)
    last_mile.add_limits(launch)
    last_mile.add_labels(launch)
    last_mile.add_preparation(launch)
    if not joins:
        last_mile.add_session(launch)
    last_mile.add_cwd_check(launch)
    _enter_pid_namespace(launch, spaces)
    last_mile.add_privileges(launch)
    last_mile.add_late_cwd(launch)
    if not facts.held:
        last_mile.add_permission_check(launch)
    served = _plan_served(last_mile) if serves else None
    _wait_for_start(launch, inside, held=facts.held, serves=serves, fork_pass=last_mile.fork_pass)
    if joins:
        last_mile.add_session(inside)
        _tell_own_pid(inside, facts.process, state if last_mile.hooks else b"")
    if not facts.held:
        last_mile.add_execution(inside, RESULT)
    return programs, served, warnings


def _is_default_filter(spec: Spec) -> bool:
    """Tell whether the filter lets through what init does yet: so it need not be the last.

    To load it takes as long as to execute a program.
    """
    from pyrunc.security import default_filter

    return spec["linux"].get("seccomp") == default_filter.section()


def _can_serve(last_mile: LastMile, facts: Facts) -> bool:
    """Tell whether a child of the first process can become the program, of what it inherits."""
    scheduler = last_mile.scheduler
    return (
        last_mile.can_wait
        and not last_mile.hooks
        and not last_mile.label_writes
        and not facts.process.announced
        and not (scheduler and lost_by_fork(scheduler))
    )


def _plan_served(last_mile: LastMile) -> LaunchProgram:
    """Return what such a child does."""
    program = LaunchProgram()
    program.tell_no_more_times()
    _treat_ending_signals(program, _SIG_DFL)
    last_mile.add_session(program)
    last_mile.add_execution(program, args=ARGUMENTS)
    return program


def _do_without_process(
    launch: LaunchProgram, inside: LaunchProgram, spaces: Namespaces, *, held: bool
) -> None:
    """Wait for the start of a container whose config has no ``process``."""
    _close_others(launch, 0, [], joins=inside is not launch)
    launch.reset_signals()
    _enter_pid_namespace(launch, spaces)
    _wait_for_start(launch, inside, held=held)
    # What there is to execute is missing, and is said to be so.
    inside.execute(NO_PROCESS, "/nonexistent", [""], [])


def _complete(last_mile: LastMile, spec: Spec, spaces: Namespaces, facts: Facts) -> None:
    """Add what is asked of a first process only, and leave to the runtime what that must do."""
    annotations = spec.get("annotations") or {}
    last_mile.keep_groups = annotations.get("run.oci.keep_original_groups") == "1"
    last_mile.hooks = spec.get("hooks", {}).get("startContainer") or ()
    if sets_late_scheduler(spec, spaces):
        last_mile.scheduler = None
    if sets_rlimits(spaces, facts):
        last_mile.rlimits = ()


def sets_late_scheduler(spec: Spec, spaces: Namespaces) -> bool:
    """Whether the runtime sets the policy: init would lose it on its way into a pid namespace."""
    process = spec.get("process")
    scheduler = process and process.get("scheduler")
    return bool(scheduler and spaces.entered_by_builder and lost_by_fork(scheduler))


def sets_rlimits(spaces: Namespaces, facts: Facts) -> bool:
    """Whether the runtime sets the limits: root of a user namespace may not raise any."""
    return not facts.rootless and spaces.private("user")


def _tell_own_pid(inside: LaunchProgram, facts: ProcessFacts, state: bytes) -> None:
    """Fill in the number that only a process in the pid namespace knows."""
    if facts.announced:
        # sd_listen_fds(3): the descriptors are for the process with this number.
        inside.own_pid(inside.string(LISTEN_PID + UNKNOWN_PID) + len(LISTEN_PID), b"\0")
    if state:
        number = inside.blob(UNKNOWN_PID.encode())
        inside.own_pid(number, b" ")
        at = created_state(state, UNKNOWN_PID).index(UNKNOWN_PID.encode())
        inside.call("tell the hooks the pid", "pwrite64", HOOK_STDIN, number, PID_WIDTH, at)


def _close_others(
    launch: LaunchProgram, preserved: int, more: Sequence[Descriptor], *, joins: bool
) -> None:
    """Close whatever the caller had open: who waits for the start holds on to nothing of it.

    Who ``joins`` a pid namespace tells through the page from here on.
    """
    kept = [UP, DOWN, START, RESULT, STAMPS, *more, *((PAGE, PID_NAMESPACE) if joins else ())]
    launch.close_others(3, range(3, 3 + preserved), kept)
    if joins:
        launch.share(PAGE)


def _enter_pid_namespace(launch: LaunchProgram, spaces: Namespaces) -> None:
    """Let the sibling that is still to come be born in the pid namespace that is joined."""
    if path := spaces.joined.get("pid"):
        doing = f"join pid namespace {path}"
        launch.call(doing, "setns", PID_NAMESPACE, p.CLONE_NEWPID, only=PID_NAMESPACE_AHEAD)
        launch.call("close the pid namespace", "close", PID_NAMESPACE)


def _wait_for_start(
    launch: LaunchProgram,
    inside: LaunchProgram,
    *,
    held: bool,
    serves: bool = False,
    fork_pass: int = 0,
) -> None:
    """Wait until the runtime has written everything down, then for the start.

    If the runtime dies first, the pipe ends, and so does init. With its leave to go on
    the container lives on its own. What a seccomp filter forbids of this is done without.
    """
    if held and inside is launch:
        _end_with_runtime(launch, collects=serves)
    elif not held:
        # The change of ids has made the kernel forget it, but where there was none.
        launch.call("outlive the runtime", "prctl", p.PR_SET_PDEATHSIG, 0, 0, 0, 0, ignore=True)
    launch.call("report that the container is ready", "write", UP, READY, 1)
    launch.await_byte("wait until the container is on record", DOWN)
    if inside is launch:
        launch.report_to(START if serves else RESULT)
        launch.call("close the pipe", "close", UP, ignore=True)
        if not serves:
            # Else its end, of a pipe that nobody writes to any more, tells the other of init's end.
            launch.call("close the pipe", "close", DOWN, ignore=True)
    else:
        launch.tell_no_more_times()
        for descriptor in (UP, DOWN, STAMPS):
            doing = "close what leads to the runtime"
            launch.call(doing, "close", descriptor, only=descriptor)
        inside.spawn("enter the pid namespace", until_executed=False, fork_pass=fork_pass)
        doing = "wait until the container is on record"
        if held:
            _end_with_runtime(inside)
        inside.await_living(doing, START, RESULT)
        inside.report_to(RESULT)
    if serves:
        inside.serve("bring the program forth", START, DOWN)
    else:
        inside.await_byte("wait for the start", START)


def _end_with_runtime(program: LaunchProgram, *, collects: bool = False) -> None:
    """Have the kernel end it with the runtime; ``collects``: it collects orphans itself."""
    # Set anew, as the change of ids has undone it (PR_SET_PDEATHSIG(2const)).
    program.call("end with the runtime", "prctl", p.PR_SET_PDEATHSIG, p.SIGKILL, 0, 0, 0)
    if not collects:
        # The kernel collects the children of who ignores this (wait(2), NOTES).
        ignored = program.blob(pack("=4Q", _SIG_IGN, 0, 0, 0))
        label = "let the kernel collect orphans"
        program.call(label, "rt_sigaction", p.SIGCHLD, ignored, 0, _SIGSET_SIZE)
    # A process of the same user could end it, and all others with it. The kernel lets no signal
    # of the container's through to process 1 that this does not ask for: these it does.
    _treat_ending_signals(program, _SIG_IGN)


def _treat_ending_signals(program: LaunchProgram, how: int) -> None:
    action = program.blob(pack("=4Q", how, 0, 0, 0))
    for number in range(1, 32):
        if ENDING_SIGNALS >> number & 1:
            label = f"treat signal {number}"
            program.call(label, "rt_sigaction", number, action, 0, _SIGSET_SIZE)
