"""What init does to become one more process of a container (`exec`).

It begins in the host's namespaces, enters the container, drops what it must not have, and only
then shows itself there: with the program's own descriptors and nothing else.
"""

from __future__ import annotations

from pyrunc.cgroups.entrance import MYSELF
from pyrunc.linux import processes as p
from pyrunc.plan.process import LISTEN_PID, UNKNOWN_PID, plan_last_mile
from pyrunc.process.attributes import add_cpu_affinity, lost_by_fork
from pyrunc.process.late import (
    BIRTHPLACE,
    DOWN,
    PAGE,
    ROOT,
    STAMPS,
    UP,
    cgroup,
    tasks,
)
from pyrunc.process.launch import LaunchProgram
from pyrunc.security.capabilities import SYS_PTRACE

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyrunc.cgroups.entrance import Entrance
    from pyrunc.container.undertaking import RuntimeStep
    from pyrunc.plan.facts import ProcessFacts
    from pyrunc.process.last_mile import LastMile
    from pyrunc.process.late import Descriptor
    from pyrunc.spec.types import Process, Scheduler, Spec


class ExecutionPlan:
    """What init does, and what the runtime does for it meanwhile."""

    __slots__ = ("init", "late_scheduler", "notifies", "runtime", "warnings")

    def __init__(
        self,
        init: tuple[LaunchProgram, ...],
        *,
        notifies: bool,
        late_scheduler: Scheduler | None,
        warnings: Sequence[str],
    ) -> None:
        #: Added by :func:`pyrunc.container.entering.runtime_plan.plan_entering`.
        self.runtime: tuple[RuntimeStep, ...] = ()
        #: One program, or two when the container has a pid namespace: the second is carried out
        #: by a process that can be seen there.
        self.init = init
        #: Whether there is a seccomp listener to be collected.
        self.notifies = notifies
        #: Set by the runtime, as the process would lose it on its way into the pid namespace.
        self.late_scheduler = late_scheduler
        self.warnings = warnings


def plan_execution(
    spec: Spec,
    process: Process,
    facts: ProcessFacts,
    namespaces: Sequence[str],
    ways_in: Sequence[tuple[Descriptor, int]],
    entrance: Entrance,
) -> ExecutionPlan:
    """Plan a process of a container.

    :param spec: the container's config.
    :param namespaces: the types in which the container is elsewhere than the runtime.
    :param ways_in: what to call setns(2) with to get into these, descriptors and flags.
    :param entrance: how it gets into its cgroups.
    """
    spawns = "pid" in namespaces
    last_mile, late_scheduler, warnings = _plan_last_mile(spec, process, facts, namespaces)
    launch = LaunchProgram(UP)
    _begin(launch, process, entrance, shares=spawns)
    last_mile.add_limits(launch)
    last_mile.add_labels(launch)
    _enter(launch, namespaces, ways_in)
    pipes = [UP, DOWN] if last_mile.notifies else [DOWN] if late_scheduler else []
    _close_others(launch, facts.preserved, pipes, spawns=spawns)
    last_mile.add_cwd(launch)
    last_mile.add_preparation(launch)
    last_mile.add_privileges(launch)
    last_mile.add_late_cwd(launch)
    inside = launch
    if spawns:
        inside = _inside(launch, last_mile, scheduled=bool(late_scheduler))
    if facts.announced:
        # sd_listen_fds(3): only now is there a pid.
        inside.own_pid(inside.string(LISTEN_PID + UNKNOWN_PID) + len(LISTEN_PID), b"\0")
    last_mile.add_session(inside)
    last_mile.add_execution(inside)
    return ExecutionPlan(
        (launch, inside) if spawns else (launch,),
        notifies=last_mile.notifies,
        late_scheduler=late_scheduler,
        warnings=warnings,
    )


def _plan_last_mile(
    spec: Spec, process: Process, facts: ProcessFacts, namespaces: Sequence[str]
) -> tuple[LastMile, Scheduler | None, Sequence[str]]:
    """Return the last mile of a process that comes later, its late scheduler, and warnings."""
    last_mile, sets, warnings = plan_last_mile(
        spec, process, facts, in_user_namespace="user" in namespaces
    )
    last_mile.gives_stdio = not process.get("terminal")
    # With CAP_SYS_PTRACE the container could seize a process that shows itself without
    # its filter, and be rid of the filter: it is loaded before that.
    last_mile.filter_early = bool(sets.bounding & SYS_PTRACE)
    affinity = process.get("execCPUAffinity") or {}
    # What was asked for before the transition holds after it, too (config.md, "final").
    last_mile.cpu_affinity = affinity.get("final") or (None if affinity.get("initial") else "")
    late_scheduler = None
    if "pid" in namespaces:
        if not last_mile.filter_early:
            last_mile.plan_fork(spec)
        if (scheduler := last_mile.scheduler) and lost_by_fork(scheduler):
            late_scheduler, last_mile.scheduler = scheduler, None
    return last_mile, late_scheduler, warnings


def _inside(launch: LaunchProgram, last_mile: LastMile, *, scheduled: bool) -> LaunchProgram:
    """Return what the process does that shows itself in the container's pid namespace.

    :param scheduled: it waits for the runtime to set its scheduling policy.
    """
    if last_mile.notifies:
        # The pipes are there still, as the seccomp listener went through them.
        launch.call("close the pipe", "close", UP)
        if not scheduled:
            launch.call("close the pipe", "close", DOWN)
    inside = LaunchProgram()
    inside.tell_no_more_times()
    doing = f"enter the container's pid namespace{launch.remark}"
    inside.spawn(doing, until_executed=not scheduled, fork_pass=last_mile.fork_pass)
    if scheduled:
        inside.await_byte("wait for the scheduling policy", DOWN)
    return inside


def _begin(launch: LaunchProgram, process: Process, entrance: Entrance, *, shares: bool) -> None:
    """Get into the container's cgroups; with ``shares``, map the page that tells of a sibling."""
    launch.call("become undumpable", "prctl", p.PR_SET_DUMPABLE, 0, 0, 0, 0)
    if initial := (process.get("execCPUAffinity") or {}).get("initial"):
        add_cpu_affinity(launch, initial)
    if entrance.birthplace >= 0:
        launch.spawn_into("go on in the container's cgroup", UP, BIRTHPLACE)
    if shares:
        launch.share(PAGE)
    for number in range(len(entrance.tasks)):
        label = ("join cgroup ", cgroup(number))
        launch.call(label, "write", tasks(number), MYSELF, len(MYSELF))
    launch.await_byte("wait to be in the container's cgroup", DOWN)


def _close_others(
    launch: LaunchProgram, preserved: int, pipes: Sequence[Descriptor], *, spawns: bool
) -> None:
    """From here on there are the program's descriptors, and what leads to the runtime.

    The latter goes, but for ``pipes`` that are used until then, before the container can see the
    process. Without a pid namespace of its own the container sees it all the time, as it sees
    everything of the host.
    """
    if spawns:
        launch.tell_no_more_times()
    launch.close_others(3, range(3, 3 + preserved), pipes if spawns else [UP, DOWN, STAMPS])


def _enter(
    launch: LaunchProgram, namespaces: Sequence[str], ways_in: Sequence[tuple[Descriptor, int]]
) -> None:
    # The caller's terminal is not to be reached through a process of ours.
    launch.call("leave the caller's session", "setsid", ignore=True)
    for descriptor, flags in ways_in:
        launch.call("join the container's namespaces", "setns", descriptor, flags)
    if "mount" not in namespaces:
        # Only a chroot keeps it where it is. After the user namespace, which may be what gives
        # the right to chroot(2).
        doing = "change to the container's root"
        launch.call(doing, "fchdir", ROOT)
        launch.call(doing, "chroot", ".")
