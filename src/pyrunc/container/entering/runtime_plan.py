"""From what was found out to what the runtime does for a process of `exec`, in order. Pure."""

from __future__ import annotations

from pyrunc.container.entering import steps as s
from pyrunc.container.shared_steps import SendPidfd, SetOomScore, WritePidFile
from pyrunc.plan.executed_process import plan_execution
from pyrunc.process.mapped_ids import outside

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.container.entering.entering import Entering
    from pyrunc.container.undertaking import RuntimeStep
    from pyrunc.plan.executed_process import ExecutionPlan
    from pyrunc.plan.facts import ProcessFacts


def plan_entering(doing: Entering, facts: ProcessFacts) -> ExecutionPlan:
    """Plan a process: what the runtime does, and init.

    :param doing: what was looked up; nothing of it is changed.
    """
    process, options = doing.process, doing.options
    planned = plan_execution(
        doing.spec, process, facts, doing.namespaces, doing.ways_in, doing.entrance
    )
    user = process.get("user") or {}
    steps: list[RuntimeStep] = []
    if process.get("terminal"):
        from pyrunc.container.entering import seldom

        size = process.get("consoleSize") or {"height": 0, "width": 0}
        height, width = size.get("height", 0), size.get("width", 0)
        ids = (user.get("uid", 0), user.get("gid", 0))
        steps += [
            seldom.OpenTerminal(height, width, *ids),
            s.SpawnInit(),
            seldom.HandOverTerminal(options.console_socket),
        ]
    else:
        steps += [s.GiveStdio(outside(doing.uid_map, user.get("uid", 0))), s.SpawnInit()]
    if doing.entrance.birthplace >= 0:
        steps.append(s.FollowIntoCgroup())
    if doing.cgroup:
        steps.append(s.AttachToCgroups())
    if saved := doing.record.get("intelRdt"):
        from pyrunc.container.entering.seldom import JoinResctrl

        steps.append(JoinResctrl(saved))
    if (score := process.get("oomScoreAdj")) is not None:
        steps.append(SetOomScore(score))
    steps.append(s.LetEnter())
    if planned.notifies:
        from pyrunc.container.entering.seldom import SendListener

        steps.append(SendListener())
    if "pid" in doing.namespaces:
        steps.append(s.FollowIntoPidNamespace(planned.late_scheduler is not None))
    else:
        steps.append(s.AwaitExecution())
    if options.pidfd_socket:
        steps.append(SendPidfd(options.pidfd_socket))
    if options.pid_file:
        steps.append(WritePidFile(options.pid_file))
    planned.runtime = tuple(steps)
    return planned
