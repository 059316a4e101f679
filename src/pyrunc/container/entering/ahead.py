"""A process that enters a container before it is known what it will execute.

For who makes containers for one program each, or keeps some ready: all that `exec` does up to the
moment in which the process shows itself in the container is done while the builder is at work, or
while nobody waits. Until then it is, as for every `exec`, in the host's pid namespace, where the
container cannot see it. It gets what it is to execute, and its standard streams, through a socket.
"""

from __future__ import annotations

import posix
import socket

from pyrunc.container.entering import steps as s
from pyrunc.container.entering.entering import Entering, Home
from pyrunc.container.entering.exec_process import ExecOptions
from pyrunc.container.entering.namespaces import differing_namespaces
from pyrunc.container.process_facts import process_facts
from pyrunc.container.shared_steps import SetOomScore
from pyrunc.container.undertaking import RuntimeStep
from pyrunc.errors import Error
from pyrunc.linux import processes as p
from pyrunc.plan.executed_process import plan_execution
from pyrunc.process import late
from pyrunc.process.attributes import without_repetitions
from pyrunc.process.descriptors import Passed
from pyrunc.process.mapped_ids import id_mapping, outside
from pyrunc.process.program import can_enter, find_program, give_stdio, with_home
from pyrunc.process.seal import FilledIn, filled_in

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyrunc.cgroups.entrance import Entrance
    from pyrunc.container.settings import Settings
    from pyrunc.plan.executed_process import ExecutionPlan
    from pyrunc.process.launch import LaunchProgram
    from pyrunc.spec.types import Process

    #: By the number of v1 cgroups to join, and whether there is a v2 cgroup to be born in.
    Routes = dict[tuple[int, bool], "Route"]


class Route:
    """What those have in common who are sent into containers of one config."""

    __slots__ = ("is_confirmed", "last", "namespaces", "plan")

    def __init__(self, namespaces: tuple[str, ...], plan: ExecutionPlan) -> None:
        #: The namespaces that such a container has of its own.
        self.namespaces = namespaces
        self.plan = plan
        #: Whether such a container, when it was made, was seen to have these namespaces.
        self.is_confirmed = False
        #: The second launch program, as it was last filled in. The first names each one's cgroups.
        self.last: FilledIn | None = None


def send_ahead(
    settings: Settings, home: Home, process: Process, routes: Routes, entrance: Entrance
) -> Ahead | None:
    """Send a process ahead into a container in the making; None where it has to come later.

    :param process: what it is to be like; its ``args`` matter not.
    :param routes: takes the plan for whoever is sent into another container of the same config.
    :param entrance: what the builder has entered the cgroups by, if that is left; closed here.
    """
    ahead = Ahead(settings, home, process, routes)
    ahead.entrance = entrance
    try:
        ahead.set_out()
    except (OSError, Error) as error:
        # Who comes later meets the same, and is told.
        ahead.undo(error)
        ahead.close()
        return None
    return ahead


class Ahead(Entering):
    """Such a process. It has to be closed, whatever becomes of it."""

    def __init__(self, settings: Settings, home: Home, process: Process, routes: Routes) -> None:
        super().__init__(settings, home, ExecOptions(process=process), process, Passed(0, 0, ""))
        self._routes = routes
        self._line: socket.socket | None = None
        #: Its user, as the host calls it, once it enters.
        self._user = -1

    def is_for(self, process: Process) -> bool:
        """Tell whether it is like ``process`` but for what is to be executed."""
        return {**self.process, "args": []} == {**process, "args": []}

    def set_out(self) -> None:
        """Execute init, which goes on by itself until it must be in the container."""
        pid = self.record["pid"]
        # The builder's, which has its namespaces, and its root not yet.
        self.container = p.pidfd_open(pid)
        if self.container < 0:
            raise Error("there are no pidfds here")
        self.inherited.append(self.container)
        if self.cgroup and not self.entrance.descriptors():
            self.entrance = self.open_entrance()
        self._plan(pid)
        self.known |= {late.CWD_BY_ROOT.name: True, late.CONTAINER.name: self.container}
        self.know_entrance()
        steps: list[RuntimeStep] = [s.SpawnInit()]
        if self.entrance.birthplace >= 0:
            steps.append(s.FollowIntoCgroup())
        if self.cgroup:
            steps.append(s.AttachToCgroups())
        if (score := self.process.get("oomScoreAdj")) is not None:
            steps.append(SetOomScore(score))
        self.apply(steps)
        # It stays open for long, and is for this one alone.
        posix.set_inheritable(self.page, False)

    def programs(self) -> tuple[LaunchProgram, ...]:
        """Return the first of its launch programs; the second is not known yet."""
        return self.plan.init[:1]

    def open_last_program(self) -> int:
        """Return the second of its launch programs, filled in."""
        route = self._route
        route.last = filled_in(route.last, self.plan.init[-1:], self.known)
        return route.last.open()[0]

    def _plan(self, pid: int) -> None:
        """Plan it, or take the plan of one that has entered a container of the same config."""
        shape = (len(self.entrance.tasks), self.entrance.birthplace >= 0)
        if same := self._routes.get(shape):
            self._route = same
            self.namespaces, self.plan = same.namespaces, same.plan
            return
        self.find_ways_in(pid)
        facts = process_facts(
            self.settings, self.spec, self.process, (), self.passed, keyring_of=""
        )
        if facts.label_writes:
            raise Error("a label is for one who knows what it is executed for")
        self.plan = plan_execution(
            self.spec,
            self.process,
            facts,
            self.namespaces,
            self.ways_in,
            self.entrance,
            waits=True,
        )
        self._route = self._routes[shape] = Route(self.namespaces, self.plan)

    def way_down(self) -> tuple[int, int]:
        """Return both ends of a socket: descriptors go through it."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._line = ours
        return theirs.detach(), ours.fileno()

    def enter(self) -> bool:
        """Let it enter the container, which is made by now; tell whether it may."""
        pid = self.record["pid"]
        try:
            self.open_root(pid)
            uid = (self.process.get("user") or {}).get("uid", 0)
            self._user = outside(id_mapping(pid, "uid_map"), uid)
            if not self._route.is_confirmed:
                if differing_namespaces(pid) != self.namespaces:
                    return False
                self._route.is_confirmed = True
            if not can_enter(self.root, self.process["cwd"]):
                return False
        except OSError:
            return False
        self.let_go_on()
        return True

    def execute(self, args: Sequence[str]) -> tuple[int, int] | None:
        """Have it execute its program; return its pid and a pidfd, which is the caller's.

        Its standard streams are this process's own. None where these cannot be given to its user
        from here, or where somebody has killed it meanwhile: it is gone then.

        :raises pyrunc.errors.ExecFailed: when there is no such program; it is gone then as well.
        """
        try:
            if p.has_ended(self.pid) or not self._find_out_last(args):
                self.end_processes()
                return None
            self.apply((HandOver(), s.FollowIntoPidNamespace(False)))
        except BaseException as error:
            self.undo(error)
            raise
        self.let_go(self.pidfd)
        return self.pid, self.pidfd

    def _find_out_last(self, args: Sequence[str]) -> bool:
        """Find what is still to be known; tell whether the standard streams are the user's."""
        process = self.process
        uid = (process.get("user") or {}).get("uid", 0)
        environment = with_home(self.root, list(process.get("env") or ()), uid)
        program = find_program(self.root, args[0], environment, process["cwd"])
        self.known |= {
            late.PROGRAM.name: program,
            late.ARGUMENTS.name: list(args),
            late.ENVIRONMENT.name: without_repetitions(environment),
        }
        return not give_stdio(self._user)

    def wait(self, watched: dict[int, int]) -> None:
        """Wait for what is ``watched``: who sends processes ahead relays no signals."""
        p.poll_for(watched)

    def end(self) -> None:
        """End it, which is not needed any more."""
        self.end_processes()
        self.close()

    def close(self) -> None:
        """Close what is open."""
        if self._line is not None:
            self._line.close()
            self._line = None
        super().close()


class HandOver(RuntimeStep):
    """Give init its standard streams and the launch program that brings forth the process."""

    def describe(self) -> str:
        return "hand over the program's standard streams and what it is"

    def apply(self, doing: Ahead) -> None:
        assert doing._line is not None
        program = doing.open_last_program()
        try:
            socket.send_fds(doing._line, [b"p"], [0, 1, 2, program])
        except BrokenPipeError:
            # It is dead; who waits for it says so.
            pass
        finally:
            posix.close(program)
