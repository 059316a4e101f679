"""`exec`: one more process in a container that runs.

No Python ever runs inside the container. The runtime looks everything up from
outside, through descriptors of the container's root; a child of it becomes
init at once, in the host's namespaces, and init enters the container, drops
what it must not have, and only then shows itself in the container's pid
namespace: with the program's own descriptors and nothing else. It has no pipe to
say how that went; process/shared_page.py tells how the runtime hears of it.
"""

from __future__ import annotations

import posix
from _struct import unpack

from pyrunc.cgroups.driver import files_driver
from pyrunc.cgroups.entrance import Entrance
from pyrunc.container import state as states
from pyrunc.container.exec_process import ExecOptions, passed_over, process_of
from pyrunc.container.pid_file import write_pid_file
from pyrunc.container.process_facts import process_facts
from pyrunc.container.seen import differing_namespaces, id_mapping, open_in_order, outside
from pyrunc.container.store import Store
from pyrunc.errors import Error, ExecFailed, WrongStatus, reason
from pyrunc.linux import files, refusals
from pyrunc.linux import processes as p
from pyrunc.plan.executed_process import plan_execution
from pyrunc.plan.process import LISTEN_PID, UNKNOWN_PID
from pyrunc.process import channel
from pyrunc.process.attributes import set_scheduler, why_no_score
from pyrunc.process.descriptors import passed
from pyrunc.process.failure import describe_failure, parse_failure
from pyrunc.process.late import (
    BIRTHPLACE,
    CONTAINER,
    CWD_BY_ROOT,
    CWD_BY_USER,
    DOWN,
    ENVIRONMENT,
    PAGE,
    PROC,
    PROGRAM,
    ROOT,
    STAMPS,
    UP,
    left_stdio,
    tasks,
    way_in,
)
from pyrunc.process.namespaces import FLAGS, flags_of
from pyrunc.process.program import can_enter, find_program, give_stdio, with_home
from pyrunc.process.seal import launch_fds, sealed_init
from pyrunc.process.shared_page import failure_in, make_page, sibling_in, why_not_executed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyrunc.container.record import Record
    from pyrunc.container.settings import Settings
    from pyrunc.container.store import Entry
    from pyrunc.plan.executed_process import ExecutionPlan
    from pyrunc.process.late import Descriptor
    from pyrunc.process.relay import Relay
    from pyrunc.spec.types import ConsoleSize, Process, Scheduler

__all__ = ["ExecOptions", "execute"]

#: How long init may take to end once it has brought forth the process, in seconds.
_LONGEST_LAST_STEP = 0.5
_NO_SIZE: ConsoleSize = {"height": 0, "width": 0}


def execute(settings: Settings, container_id: str, options: ExecOptions) -> int:
    """Run a process in the container; return its exit status, or 0 when detached.

    :raises WrongStatus: when the container is stopped or paused.
    :raises pyrunc.errors.ExecFailed: when there is no such program.
    """
    entry = Store(settings.root).open(container_id)
    execution = None
    try:
        record = entry.load()
        _check_status(entry, record, options)
        settings.trace.mark("load modules, find the container")
        execution = _Execution(settings, entry, record, options)
        return execution.carry_out()
    except ExecFailed as error:
        raise ExecFailed(f"exec failed: unable to start container process: {error}") from None
    finally:
        if execution is not None:
            execution.close()
        entry.close()


def spawn(settings: Settings, container_id: str, options: ExecOptions) -> tuple[int, int]:
    """Start a process in the container, a child of this one; return its pid and a pidfd.

    Its standard streams are this process's own. Whoever calls this waits for it.

    :raises WrongStatus: when the container is stopped or paused.
    :raises pyrunc.errors.ExecFailed: when there is no such program.
    """
    from pyrunc.process.relay import Relay

    entry = Store(settings.root).open(container_id)
    execution = None
    try:
        record = entry.load()
        _check_status(entry, record, options)
        execution = _Execution(settings, entry, record, options)
        with Relay() as relay:
            return execution.spawn(relay)
    finally:
        if execution is not None:
            execution.close()
        entry.close()


def _check_status(entry: Entry, record: Record, options: ExecOptions) -> None:
    status = states.status_of(entry, record)
    if status == states.STOPPED:
        raise WrongStatus("cannot exec in a stopped container")
    if status == states.CREATING:
        raise WrongStatus("cannot exec in a container that is still being created")
    if status == states.PAUSED and not options.ignore_paused:
        raise WrongStatus("cannot exec in a paused container (unless with --ignore-paused)")


class _Execution:
    """One process on its way into a container."""

    def __init__(
        self, settings: Settings, entry: Entry, record: Record, options: ExecOptions
    ) -> None:
        self.settings = settings
        self.entry = entry
        self.record = record
        self.options = options
        self.passed = passed(options.preserve_fds)
        self._descriptors: list[int] = []
        #: Shared with init (process/shared_page.py).
        self.page = -1
        #: What the places in the plan are filled with.
        self._known: dict[str, Any] = {}
        self.plan: ExecutionPlan
        self.spec = entry.load_config()
        notes: list[str] = []
        self.process = process_of(self.spec, options, notes)
        for note in notes:
            settings.log.warn(note)
        if without_effect := passed_over(options, self.process):
            settings.log.warn(f"{', '.join(without_effect)}: no effect beside --process")
        _check_terminal(self.process, options)
        self.cgroup = self._chosen_cgroup()
        pid = record["pid"]
        init = p.open_process(pid, record["startTime"])
        if init is None:
            raise WrongStatus("cannot exec in a stopped container")
        #: Init's, or -1 where there are no pidfds.
        self.pidfd = self._keep(init.pidfd)
        try:
            directory = files.O_PATH | files.O_DIRECTORY | files.O_CLOEXEC
            self.root = self._keep(posix.open(f"/proc/{pid}/root", directory))
            self.namespaces = differing_namespaces(pid)
            self.ways_in = self._find_ways_in(pid)
            self.uid_map = id_mapping(pid, "uid_map")
            self.gid_map = id_mapping(pid, "gid_map")
        except OSError as error:
            if p.is_running(pid, record["startTime"]):
                raise Error(f"cannot see the container's process: {reason(error)}") from None
        if not p.is_running(pid, record["startTime"]):
            # What was opened by number could be another process's.
            raise WrongStatus("cannot exec in a stopped container")

    def _keep(self, descriptor: int) -> int:
        if descriptor >= 0:
            self._descriptors.append(descriptor)
        return descriptor

    def _find_ways_in(self, pid: int) -> list[tuple[Descriptor, int]]:
        """Return what to call setns(2) with: the pidfd, or the namespaces one by one."""
        if self.pidfd >= 0:
            flags = flags_of(self.namespaces)
            return [(CONTAINER, flags)] if flags else []
        ways = []
        for kind, descriptor in open_in_order(pid, self.namespaces):
            self._known[way_in(kind).name] = self._keep(descriptor)
            ways.append((way_in(kind), FLAGS[kind]))
        return ways

    def close(self) -> None:
        """Close everything that was opened on the way."""
        for descriptor in self._descriptors:
            posix.close(descriptor)

    def spawn(self, relay: Relay) -> tuple[int, int]:
        """Return pid and pidfd of the process, which runs the program by now."""
        pid, pidfd = self._spawn(relay)
        if pidfd >= 0:
            self._descriptors.remove(pidfd)
        return pid, pidfd

    def carry_out(self) -> int:
        options = self.options
        from pyrunc.process.relay import Relay

        with Relay() as relay:
            pid, pidfd = self._spawn(relay)
            try:
                self._announce(pid, pidfd)
            except (OSError, Error):
                # Nobody would know of it.
                posix.kill(pid, p.SIGKILL)
                raise
            if options.detach:
                return 0
            status = relay.wait(pid, pidfd)
            self.settings.trace.mark("wait for the program to end")
            return status

    def _spawn(self, relay: Relay) -> tuple[int, int]:
        """Return pid and pidfd of the process, which runs the program by now."""
        up, up_write = posix.pipe2(files.O_CLOEXEC)
        down_read, down = posix.pipe2(files.O_CLOEXEC)
        self._descriptors += [up, down]
        master = slave = -1
        inherited = [up_write, down_read]
        try:
            if self.process.get("terminal"):
                master, slave = self._open_terminal()
            entrance = self._open_entrance()
            born = entrance.birthplace >= 0
            inherited += entrance.descriptors()
            self.plan = self._plan(entrance)
            self.page = self._keep(make_page())
            self._known |= {UP.name: up_write, DOWN.name: down_read, PAGE.name: self.page}
            programs = launch_fds(self.plan.init, self._known, self.settings.trace)
            inherited += programs
            init = self._keep(sealed_init())
            self.settings.trace.mark("plan, fill in the launch program")
            stdio = (slave,) * 3 if slave >= 0 else ()
            words = ["pyrunc-init", *map(str, programs)]
            stage = p.spawn(f"/proc/self/fd/{init}", words, stdio)
        finally:
            for descriptor in (*inherited, slave):
                if descriptor >= 0:
                    posix.close(descriptor)
        try:
            if master >= 0:
                self._hand_over_terminal(master, relay)
            joined = not entrance.moved
            if born:
                stage, joined = self._follow_into_cgroup(stage, up, relay)
            self._attach(stage, joined=joined)
        except BaseException:
            posix.kill(stage, p.SIGKILL)
            posix.waitpid(stage, 0)
            raise
        self.settings.trace.mark("let init enter the cgroup")
        pid = self._follow(stage, up, down, relay)
        self.settings.trace.mark("wait for init to enter the container and execute the program")
        self.settings.trace.collect()
        return pid, self._keep(p.pidfd_open(pid))

    def _follow_into_cgroup(self, stage: int, up: int, relay: Relay) -> tuple[int, bool]:
        """Return who goes on: the stage's sibling in the cgroup, or else the stage outside."""
        message = self._next(up, stage, relay)
        if len(message) != 4:
            raise _start_failed(message)
        number: int = unpack("=i", message)[0]
        if number < 0:
            return stage, False
        posix.waitpid(stage, 0)
        return number, True

    def _follow(self, stage: int, up: int, down: int, relay: Relay) -> int:
        """Answer the stage until the program is executed; return its pid."""
        _answer(down, channel.GO_ON)
        if self.plan.notifies:
            message = self._next(up, stage, relay)
            if message[:1] == channel.LISTENER:
                self._send_listener(stage, channel.descriptor_in(message))
                _answer(down, channel.GO_ON)
            elif message:
                posix.waitpid(stage, 0)
                raise _start_failed(message)
        if "pid" in self.namespaces:
            return self._follow_inside(stage, down, relay)
        message = self._next(up, stage, relay)
        if message:
            posix.waitpid(stage, 0)
            raise _start_failed(message)
        return stage

    def _follow_inside(self, stage: int, down: int, relay: Relay) -> int:
        """Wait until the stage's sibling in the pid namespace runs the program; return its pid."""
        pidfd = self._keep(p.pidfd_open(stage))
        if pidfd >= 0:
            self._wait({pidfd: p.POLLIN}, stage, relay)
        status = p.exit_status(posix.waitpid(stage, 0)[1])
        pid = sibling_in(self.page)
        if not pid:
            died = f"init died (exit status {status}; was it killed, or out of memory?)"
            raise _not_started(failure_in(self.page) or died)
        if self.plan.late_scheduler:
            self._set_scheduler(pid, self.plan.late_scheduler)
            _answer(down, channel.GO_ON)
            # Nobody reads from the pipe once it has executed or ended.
            self._wait({down: 0}, pid, relay)
        if p.has_executed(pid):
            return pid
        labels = self.plan.init[-1].filled(self._known).describe()
        if problem := why_not_executed(pid, labels):
            raise _not_started(problem)
        return pid

    def _wait(self, watched: dict[int, int], pid: int, relay: Relay) -> None:
        """Wait for what is ``watched``; a signal meanwhile (a container may freeze) ends it all."""
        while not p.poll_for({**watched, relay.signals: p.POLLIN}).keys() & watched.keys():
            if signal := relay.interrupted():
                if p.poll_for(watched, _LONGEST_LAST_STEP).keys() & watched.keys():
                    # The program may run already: it is for that.
                    relay.put_back(signal)
                    return
                for number in {pid, sibling_in(self.page)} - {0}:
                    posix.kill(number, p.SIGKILL)
                    posix.waitpid(number, 0)
                raise Error(f"exec failed: interrupted by signal {signal}")

    def _set_scheduler(self, pid: int, scheduler: Scheduler) -> None:
        try:
            set_scheduler(pid, scheduler)
        except Error as error:
            posix.kill(pid, p.SIGKILL)
            posix.waitpid(pid, 0)
            raise _not_started(str(error)) from None

    def _next(self, up: int, pid: int, relay: Relay) -> bytes:
        """Return the next message, or nothing at the end."""
        self._wait({up: p.POLLIN}, pid, relay)
        return posix.read(up, 4096)

    def _send_listener(self, stage: int, number: int) -> None:
        from pyrunc.container.listener import send_listener

        pidfd = p.pidfd_open(stage)
        try:
            listener = p.pidfd_getfd(pidfd, number)
        except OSError as error:
            why = reason(refusals.explained(error, "pidfd_open(2) and pidfd_getfd(2)"))
            posix.kill(stage, p.SIGKILL)
            posix.waitpid(stage, 0)
            raise Error(f"exec failed: cannot take the seccomp listener: {why}") from None
        finally:
            if pidfd >= 0:
                posix.close(pidfd)
        state = states.hook_state(self.record, states.RUNNING, self.record["pid"])
        try:
            send_listener(self.spec, stage, state, listener)
        except Error:
            posix.kill(stage, p.SIGKILL)
            posix.waitpid(stage, 0)
            raise

    def _plan(self, entrance: Entrance) -> ExecutionPlan:
        process = self.process
        environment = list(process.get("env") or ())
        uid = (process.get("user") or {}).get("uid", 0)
        environment = with_home(self.root, environment, uid)
        program = find_program(self.root, process["args"][0], environment, process["cwd"])
        environment += self.passed.environment
        if self.passed.announced:
            environment.append(LISTEN_PID + UNKNOWN_PID)
        facts = process_facts(
            self.settings,
            self.spec,
            process,
            environment,
            self.passed,
            keyring_of="" if self.record.get("noNewKeyring") else self.entry.id,
        )
        plan = plan_execution(self.spec, process, facts, self.namespaces, self.ways_in, entrance)
        for warning in plan.warnings:
            self.settings.log.warn(warning)
        by_root = can_enter(self.root, process["cwd"])
        self._known |= {
            PROGRAM.name: program,
            ENVIRONMENT.name: facts.environment,
            CWD_BY_ROOT.name: by_root,
            CWD_BY_USER.name: not by_root,
            CONTAINER.name: self.pidfd,
            ROOT.name: self.root,
            BIRTHPLACE.name: entrance.birthplace,
            STAMPS.name: self.settings.trace.stamps,
        }
        for path, descriptor in entrance.tasks:
            self._known[tasks(path).name] = descriptor
        if facts.label_writes:
            self._known[PROC.name] = self._keep(files.open_host_proc())
        if not process.get("terminal"):
            for descriptor in give_stdio(outside(self.uid_map, uid)):
                self._known[left_stdio(descriptor).name] = True
        return plan

    def _open_terminal(self) -> tuple[int, int]:
        from pyrunc.process.console import open_terminal
        from pyrunc.process.tty import set_window_size

        master, slave = open_terminal(self.root)
        size = self.process.get("consoleSize", _NO_SIZE)
        if size.get("height") or size.get("width"):
            set_window_size(master, size.get("height", 0), size.get("width", 0))
        # We opened it as somebody that the container may not even know.
        user = self.process.get("user") or {}
        group = posix.fstat(slave).st_gid
        known = any(first <= group < first + count for _, first, count in self.gid_map)
        posix.fchown(
            slave,
            outside(self.uid_map, user.get("uid", 0)),
            -1 if known else outside(self.gid_map, user.get("gid", 0)),
        )
        return master, slave

    def _hand_over_terminal(self, master: int, relay: Relay) -> None:
        """Send the terminal to whoever asked for it, or show it to our own caller."""
        path = self.options.console_socket
        if self.options.take_terminal is not None:
            self.options.take_terminal(master)
            return
        if not path:
            relay.show(self._keep(master))
            return
        from pyrunc.process.console import send_to_socket

        try:
            send_to_socket(path, master, b"/dev/ptmx", "the terminal")
        finally:
            posix.close(master)

    def _chosen_cgroup(self) -> dict[str, object]:
        """Return the state of a driver for the cgroups that the process goes to."""
        saved = self.record.get("cgroup") or {}
        if not saved or not self.options.cgroups:
            return saved
        from pyrunc.container.sub_cgroup import below

        return {**saved, "paths": below(saved["paths"], self.options.cgroups)}

    def _open_entrance(self) -> Entrance:
        if not self.cgroup:
            return Entrance()
        return files_driver(self.cgroup).open_entrance(beside=self._beside)

    @property
    def _beside(self) -> int:
        """Who shows the way where the container's own cgroup does not take the process.

        One that was chosen by name is that one or none.
        """
        return 0 if self.options.cgroups else self.record["pid"]

    def _attach(self, pid: int, *, joined: bool) -> None:
        if self.cgroup and not joined:
            files_driver(self.cgroup).attach(pid, beside=self._beside)
        if self.record.get("intelRdt"):
            from pyrunc.cgroups import resctrl

            resctrl.from_state(self.record["intelRdt"]).attach([pid])
        score = self.process.get("oomScoreAdj")
        if score is not None:
            try:
                files.write_file(f"/proc/{pid}/oom_score_adj", b"%d" % score)
            except OSError as error:
                raise Error(f"cannot set oom_score_adj to {score}: {why_no_score(error)}") from None

    def _announce(self, pid: int, pidfd: int) -> None:
        options = self.options
        if options.pidfd_socket:
            from pyrunc.process.console import send_pidfd

            send_pidfd(options.pidfd_socket, pidfd)
        if options.pid_file:
            write_pid_file(options.pid_file, pid)


def _start_failed(message: bytes) -> Error:
    """Return the error for init's last message, or for none."""
    failure = parse_failure(message)
    return _not_started(describe_failure(failure) if failure else "init died")


def _not_started(why: str) -> Error:
    return Error(f"exec failed: unable to start container process: {why}")


def _answer(down: int, message: bytes) -> None:
    """Write to the stage; one that is dead has left the reason in the other pipe."""
    try:
        posix.write(down, message)
    except BrokenPipeError:
        pass


def _check_terminal(process: Process, options: ExecOptions) -> None:
    terminal = bool(process.get("terminal"))
    if terminal and options.detach and not options.console_socket:
        raise Error(
            "cannot allocate tty if pyrunc will detach without setting console socket; "
            "give --console-socket"
        )
    if options.console_socket and not (terminal and options.detach):
        raise Error(
            "cannot use console socket if pyrunc will not detach or allocate tty; "
            "leave --console-socket out, or ask for a terminal and --detach"
        )
