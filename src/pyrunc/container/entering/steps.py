"""The steps of the runtime that bring a process into a container."""

from __future__ import annotations

import posix
from _struct import unpack

from pyrunc.cgroups.driver import files_driver
from pyrunc.container.entering.entering import not_started, start_failed
from pyrunc.container.undertaking import RuntimeStep
from pyrunc.linux import files, process_stat
from pyrunc.linux import processes as p
from pyrunc.process.late import DOWN, PAGE, UP, left_stdio
from pyrunc.process.program import give_stdio
from pyrunc.process.seal import launch_fds, sealed_init
from pyrunc.process.shared_page import failure_in, make_page, why_not_executed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.container.entering.entering import Entering


class GiveStdio(RuntimeStep):
    """Make the user, as the host calls it, the owner of stdin, stdout and stderr.

    What cannot be given away from here is left to init.
    """

    uid: int

    def describe(self) -> str:
        return f"give stdio to user {self.uid} of the host"

    def apply(self, doing: Entering) -> None:
        for descriptor in give_stdio(self.uid):
            doing.known[left_stdio(descriptor).name] = True


class SpawnInit(RuntimeStep):
    """Execute init, which goes on by itself until it must be in the container's cgroups."""

    undoing = "end the process"

    def describe(self) -> str:
        return "fill in the launch program, execute init"

    def apply(self, doing: Entering) -> None:
        doing.up, up = _pipe(doing)
        down, writing = posix.pipe2(files.O_CLOEXEC)
        doing.inherited.append(down)
        doing.down = doing.keep(writing)
        doing.page = doing.keep(make_page())
        doing.known |= {UP.name: up, DOWN.name: down, PAGE.name: doing.page}
        programs = launch_fds(doing.plan.init, doing.known, doing.settings.trace)
        doing.inherited += programs
        kept = doing.settings.kept.init
        init = kept if kept >= 0 else doing.keep(sealed_init())
        stdio = (doing.slave,) * 3 if doing.slave >= 0 else ()
        words = ["pyrunc-init", *map(str, programs)]
        doing.pid = p.spawn(f"/proc/self/fd/{init}", words, stdio)
        doing.close_inits()

    def undo(self, doing: Entering) -> None:
        doing.end_processes()


def _pipe(doing: Entering) -> tuple[int, int]:
    reading, writing = posix.pipe2(files.O_CLOEXEC)
    doing.inherited.append(writing)
    return doing.keep(reading), writing


class FollowIntoCgroup(RuntimeStep):
    """Learn of the sibling that init has brought forth in the container's v2 cgroup.

    Where that took none, init goes on itself, and is moved.
    """

    def describe(self) -> str:
        return "let init go on in the container's cgroup"

    def apply(self, doing: Entering) -> None:
        pidfd = doing.keep(p.pidfd_open(doing.pid))
        doing.wait({doing.up: p.POLLIN, pidfd: p.POLLIN})
        # Killed before it could tell, it leaves one behind that keeps the pipe open.
        told = p.poll((doing.up,), 0)
        message = posix.read(doing.up, 4096) if told else b""
        if len(message) != 4:
            raise start_failed(message)
        number: int = unpack("=i", message)[0]
        if number < 0:
            doing.entrance.moved = True
            return
        doing.collect()
        doing.pid = number


class AttachToCgroups(RuntimeStep):
    """Move the process into the container's cgroups, if it could not get in by itself."""

    def describe(self) -> str:
        return "have the process in the container's cgroups"

    def apply(self, doing: Entering) -> None:
        if doing.entrance.moved and doing.cgroup:
            files_driver(doing.cgroup).attach(doing.pid, beside=doing.beside)


class LetEnter(RuntimeStep):
    """Let init go on: into the container."""

    def describe(self) -> str:
        return "let init enter the container"

    def apply(self, doing: Entering) -> None:
        doing.let_go_on()


class AwaitExecution(RuntimeStep):
    """Wait until init has executed the program, which closes its pipe."""

    def describe(self) -> str:
        return "wait for init to enter the container and execute the program"

    def apply(self, doing: Entering) -> None:
        if message := doing.hear():
            raise start_failed(message)
        doing.become(doing.pid, p.pidfd_open(doing.pid))


class FollowIntoPidNamespace(RuntimeStep):
    """Wait until init's sibling in the container's pid namespace has executed the program.

    It has no pipe: nothing of ours is in a process that the container can see. With
    ``scheduler`` it waits for that, which it would lose on its way.
    """

    scheduler: bool

    def describe(self) -> str:
        return "wait for init to enter the container and execute the program"

    def apply(self, doing: Entering) -> None:
        pidfd = doing.keep(p.pidfd_open(doing.pid))
        if pidfd >= 0:
            doing.wait({pidfd: p.POLLIN})
        status = doing.collect()
        doing.pid = doing.sibling()
        if not doing.pid:
            died = f"init died (exit status {status}; was it killed, or out of memory?)"
            raise not_started(failure_in(doing.page) or died)
        if self.scheduler:
            _set_scheduler(doing)
        if not process_stat.has_executed(doing.pid):
            labels = doing.plan.init[-1].filled(doing.known).describe()
            if problem := why_not_executed(doing.pid, labels):
                # That has collected it.
                doing.pid, doing.page = 0, -1
                raise not_started(problem)
        doing.become(doing.pid, p.pidfd_open(doing.pid))


def _set_scheduler(doing: Entering) -> None:
    from pyrunc.errors import Error
    from pyrunc.process.attributes import set_scheduler

    assert doing.plan.late_scheduler
    try:
        set_scheduler(doing.pid, doing.plan.late_scheduler)
    except Error as error:
        raise not_started(str(error)) from None
    doing.let_go_on()
    # Nobody reads from the pipe once it has executed or ended.
    doing.wait({doing.down: 0})
