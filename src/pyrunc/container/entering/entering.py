"""What the runtime finds out about a container, and knows while a process enters it."""

from __future__ import annotations

import posix

from pyrunc.cgroups.driver import files_driver
from pyrunc.cgroups.entrance import Entrance
from pyrunc.container.entering.namespaces import differing_namespaces, open_in_order
from pyrunc.container.process_facts import process_facts
from pyrunc.container.undertaking import Birth
from pyrunc.errors import Error, WrongStatus, reason
from pyrunc.linux import files, process_stat
from pyrunc.linux import processes as p
from pyrunc.plan.process import LISTEN_PID, UNKNOWN_PID
from pyrunc.process import late
from pyrunc.process.failure import describe_failure, parse_failure
from pyrunc.process.mapped_ids import IDENTITY, id_mapping
from pyrunc.process.namespaces import FLAGS, flags_of
from pyrunc.process.program import can_enter, find_program, with_home
from pyrunc.process.shared_page import sibling_in

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyrunc.container.entering.exec_process import ExecOptions
    from pyrunc.container.record.entry import Entry
    from pyrunc.container.record.record import Record
    from pyrunc.container.settings import Settings
    from pyrunc.plan.executed_process import ExecutionPlan
    from pyrunc.plan.facts import ProcessFacts
    from pyrunc.process.descriptors import Passed
    from pyrunc.process.foreground import Relay
    from pyrunc.spec.types import Process, Spec

#: How long init may take to end once it has brought forth the process, in seconds.
_LONGEST_LAST_STEP = 0.5


class Home:
    """What is known of the container that a process is to enter."""

    __slots__ = ("entry", "record", "spec")

    def __init__(self, entry: Entry, record: Record, spec: Spec) -> None:
        self.entry = entry
        self.record = record
        self.spec = spec


class Entering(Birth):
    """A process on its way into a container."""

    def __init__(
        self,
        settings: Settings,
        home: Home,
        options: ExecOptions,
        process: Process,
        passed: Passed,
    ) -> None:
        super().__init__(settings)
        self.entry = home.entry
        self.record = home.record
        self.options = options
        self.spec = home.spec
        self.process = process
        self.passed = passed
        self.plan: ExecutionPlan
        self.relay: Relay
        self.root = -1
        #: What the places in the plan are filled with.
        self.known: dict[str, Any] = {}
        #: What init inherits, until it has.
        self.inherited: list[int] = []
        self.entrance = Entrance()
        self.cgroup = self._chosen_cgroup()
        #: Master and slave of the terminal, while they are ours.
        self.master = self.slave = -1

    def look_up(self) -> None:
        """Open the container's root and what leads into it; by number, but for a process that is.

        :raises WrongStatus: when its process has ended.
        """
        pid, began = self.record["pid"], self.record["startTime"]
        try:
            #: Init's, or -1 where there are no pidfds.
            self.container = self.keep(p.pidfd_open(pid))
            self.open_root(pid)
            self.find_ways_in(pid)
        except OSError as error:
            if process_stat.is_running(pid, began):
                raise Error(f"cannot see the container's process: {reason(error)}") from None
        if not process_stat.is_running(pid, began):
            # What was opened by number could be another process's.
            raise WrongStatus("cannot exec in a stopped container")
        if self.cgroup:
            self.entrance = self.open_entrance()

    def open_entrance(self) -> Entrance:
        """Open what leads into the cgroups that the process goes to."""
        return files_driver(self.cgroup).open_entrance(beside=self.beside)

    def open_root(self, pid: int) -> None:
        """Open the root that the container's process sees."""
        directory = files.O_PATH | files.O_DIRECTORY | files.O_CLOEXEC
        self.root = self.keep(posix.open(f"/proc/{pid}/root", directory))

    def find_ways_in(self, pid: int) -> None:
        """See what namespaces there are to enter, and how."""
        self.namespaces = differing_namespaces(pid)
        self.ways_in = self._find_ways_in(pid)
        # Of our own namespace the kernel would tell what the ids are called outside of that.
        mapped = "user" in self.namespaces
        self.uid_map = id_mapping(pid, "uid_map") if mapped else IDENTITY
        self.gid_map = id_mapping(pid, "gid_map") if mapped else IDENTITY

    def _find_ways_in(self, pid: int) -> list[tuple[late.Descriptor, int]]:
        """Return what to call setns(2) with: the pidfd, or the namespaces one by one."""
        if self.container >= 0:
            flags = flags_of(self.namespaces)
            return [(late.CONTAINER, flags)] if flags else []
        ways = []
        for kind, descriptor in open_in_order(pid, self.namespaces):
            self.known[late.way_in(kind).name] = self.keep(descriptor)
            ways.append((late.way_in(kind), FLAGS[kind]))
        return ways

    def _chosen_cgroup(self) -> dict[str, object]:
        """Return the state of a driver for the cgroups that the process goes to."""
        saved = self.record.get("cgroup") or {}
        if not saved or not self.options.cgroups:
            return saved
        from pyrunc.container.entering.sub_cgroup import below

        return {**saved, "paths": below(saved["paths"], self.options.cgroups)}

    @property
    def beside(self) -> int:
        """Who shows the way where the container's own cgroup does not take the process.

        One that was chosen by name is that one or none.
        """
        return 0 if self.options.cgroups else self.record["pid"]

    def find_out(self) -> ProcessFacts:
        """Find the program and what else the plan names, and what the host has for the process.

        :raises pyrunc.errors.ExecFailed: when there is no such program.
        """
        process = self.process
        uid = (process.get("user") or {}).get("uid", 0)
        environment = with_home(self.root, list(process.get("env") or ()), uid)
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
        by_root = can_enter(self.root, process["cwd"])
        self.known |= {
            late.PROGRAM.name: program,
            late.ENVIRONMENT.name: facts.environment,
            late.CWD_BY_ROOT.name: by_root,
            late.CWD_BY_USER.name: not by_root,
            late.CONTAINER.name: self.container,
            late.ROOT.name: self.root,
            late.STAMPS.name: self.settings.trace.stamps,
        }
        self.known[late.BIRTHPLACE.name] = self.entrance.birthplace
        for number, (path, descriptor) in enumerate(self.entrance.tasks):
            self.known[late.tasks(number).name] = descriptor
            self.known[late.cgroup(number).name] = path
        if facts.label_writes:
            self.known[late.PROC.name] = self.keep(files.open_host_proc())
        return facts

    def hear(self) -> bytes:
        """Return init's next message, or nothing at the end of all messages."""
        self.wait({self.up: p.POLLIN})
        return posix.read(self.up, 4096)

    def wait(self, watched: dict[int, int]) -> None:
        """Wait for what is ``watched``; a signal meanwhile (a container may freeze) ends it all.

        :raises Error: when one does.
        """
        relay = self.relay
        while not p.poll_for({**watched, relay.signals: p.POLLIN}).keys() & watched.keys():
            if signal := relay.interrupted():
                if p.poll_for(watched, _LONGEST_LAST_STEP).keys() & watched.keys():
                    # The program may run already: it is for that.
                    relay.put_back(signal)
                    return
                raise Error(f"exec failed: interrupted by signal {signal}")

    def collect(self) -> int:
        """Wait for the process at work to end; return its exit status."""
        pid, self.pid = self.pid, 0
        return p.exit_status(posix.waitpid(pid, 0)[1])

    def sibling(self) -> int:
        """Return the pid of what init has brought forth in the pid namespace, or 0."""
        return sibling_in(self.page)

    def close_inits(self) -> None:
        """Close what init has by now, or will not get any more."""
        while self.inherited:
            posix.close(self.inherited.pop())
        self.entrance.close()
        if self.slave >= 0:
            posix.close(self.slave)
            self.slave = -1

    def close(self) -> None:
        """Close everything that was opened on the way."""
        self.close_inits()
        if self.master >= 0:
            posix.close(self.master)
            self.master = -1
        super().close()


def not_started(why: str) -> Error:
    """Return the error for a process that could not be started."""
    return Error(f"exec failed: unable to start container process: {why}")


def start_failed(message: bytes) -> Error:
    """Return the error for init's last message, or for none."""
    failure = parse_failure(message)
    return not_started(describe_failure(failure) if failure else "init died")
