"""The steps of the runtime that most containers take."""

from __future__ import annotations

import posix

from pyrunc.cgroups.cgroupfs import CgroupTaken
from pyrunc.container.making.builder import Handover, build_container
from pyrunc.container.making.spawn import spawn_builder
from pyrunc.container.record import state as states
from pyrunc.container.teardown import remove_cgroup
from pyrunc.container.undertaking import RuntimeStep
from pyrunc.linux import files, refusals
from pyrunc.process import channel
from pyrunc.process.late import PAGE, RESULT, START
from pyrunc.process.seal import sealed_init
from pyrunc.process.shared_page import make_page

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.container.making.making import Making
    from pyrunc.container.making.served import Served


class ReserveId(RuntimeStep):
    """Make the container's directory, and hold its lock."""

    id: str

    def describe(self) -> str:
        return f"reserve the id {self.id}"

    def apply(self, making: Making) -> None:
        making.interrupts.hold()
        making.entry = making.store.reserve(self.id)
        making.reserved = True
        making.interrupts.let_through()

    def undo(self, making: Making) -> None:
        if making.reserved:
            making.entry.remove()


class MakeCgroups(RuntimeStep):
    """Make the container's cgroups, and open what leads into them.

    ``needs_process``: there must be a process first (systemd's scopes), and until then they only
    are found to be free. ``rest_later``: what a process need not be born in is not made yet.
    ``are_ours``: nobody else can have any of these names.
    """

    needs_process: bool
    rest_later: bool
    are_ours: bool

    undoing = "remove the container's cgroup"

    def describe(self) -> str:
        if self.needs_process:
            return "see that the container's cgroup is free"
        return f"make the {'first of the ' if self.rest_later else ''}container's cgroups"

    def apply(self, making: Making) -> None:
        if not self.are_ours:
            making.driver.check_free()
        if self.needs_process:
            return
        # On record before it is there, so that `delete` finds it whatever happens.
        making.entry.save(making.record)
        making.driver.create(making.resources, rest_later=self.rest_later)
        making.entrance = making.driver.open_entrance()

    def undo(self, making: Making) -> None:
        if not isinstance(making.error, CgroupTaken):
            remove_cgroup(making.driver)


class OpenForBuilder(RuntimeStep):
    """Open everything that the builder and init inherit.

    ``passed`` is how many of the caller's descriptors init passes on; ``notify`` whether there is
    a socket to tell of readiness; ``into_pid_namespace`` whether init goes into another's.
    """

    passed: int
    notify: bool
    into_pid_namespace: bool

    def describe(self) -> str:
        return "open what the builder gets"

    def apply(self, making: Making) -> None:
        making.handover = handover = Handover(making.plan)
        handover.trace = making.settings.trace
        handover.entrance = making.entrance
        handover.namespaces = making.joined
        handover.preserved = self.passed
        directory = making.entry.directory
        if self.notify:
            from pyrunc.process.notify import make_directory

            make_directory(directory)
        handover.proc = files.open_host_proc()
        if refusals.are_likely():
            _prepare_old_ways(making, handover)
        kept = making.settings.kept
        handover.init = posix.dup(kept.init) if kept.init >= 0 else sealed_init()
        handover.empty = kept.empty
        known = handover.known
        if making.plan.served and making.options.served:
            known[START.name] = making.options.served.take_inits_end()
            return
        for name in ("exec.fifo", "result.fifo"):
            posix.mkfifo(name, 0o600, dir_fd=directory)
        # Opened for both directions, a fifo has a reader and a writer from the start on.
        flags = posix.O_RDWR | files.O_CLOEXEC
        known[START.name] = posix.open("exec.fifo", flags, dir_fd=directory)
        # Init notices by this one that who reads from it has died: the runtime, and then `start`.
        flags = posix.O_RDONLY | posix.O_NONBLOCK | files.O_CLOEXEC
        making.keep(posix.open("result.fifo", flags, dir_fd=directory))
        flags = posix.O_WRONLY | files.O_CLOEXEC
        known[RESULT.name] = posix.open("result.fifo", flags, dir_fd=directory)
        if self.into_pid_namespace:
            # There init has nothing but the fifos. It is let live through the first.
            making.page = known[PAGE.name] = making.keep(make_page())
            making.start_fifo = making.keep(posix.dup(known[START.name]))


def _prepare_old_ways(making: Making, handover: Handover) -> None:
    from pyrunc.container.making import old_ways

    old_ways.prepare(making.settings, making.plan.namespaces)
    handover.enter_old_ways = old_ways.enter
    handover.socket, ours = old_ways.sockets_if_needed()
    making.socket = making.keep(ours)


class SpawnBuilder(RuntimeStep):
    """Fork the builder into its namespaces, and into its cgroups where that can be."""

    namespaces: tuple[str, ...]
    #: Whether it waits for the id mappings of its user namespace.
    waits_for_mappings: bool

    undoing = "end the builder"

    def describe(self) -> str:
        if not self.namespaces:
            return "fork the builder"
        return f"fork the builder into its namespaces: {', '.join(self.namespaces)}"

    def apply(self, making: Making) -> None:
        handover = making.handover
        assert handover is not None
        up, handover.up = posix.pipe2(files.O_CLOEXEC)
        making.up = making.keep(up)
        handover.down, down = posix.pipe2(files.O_CLOEXEC)
        making.down = making.keep(down)
        handover.of_runtime = (up, down, making.entry.directory, making.socket)
        if making.facts.held and (planned := making.planned) and not handover.trace.on:
            # All of its launch program is known: a copy of this process need not write it out.
            planned.filled = handover.fill_in(planned.filled)
        handover.shares_memory = making.facts.stands_still

        def write_mappings(pid: int) -> None:
            from pyrunc.container.making.idmap import write_mappings

            write_mappings(pid, making.spec, rootless=making.settings.rootless)

        # A signal between the birth and the moment when we know of it would leave a stray
        # builder; and in the builder no handler of ours may run.
        making.interrupts.hold()
        try:
            pid, pidfd, making.in_cgroup = spawn_builder(
                handover, making.spec, build_container, write_mappings
            )
            making.become(pid, pidfd)
        finally:
            making.close_the_builders()
        making.interrupts.let_through()
        making.note_process()
        if self.waits_for_mappings:
            making.let_go_on()

    def undo(self, making: Making) -> None:
        making.end_processes()


class EnterCgroups(RuntimeStep):
    """Make what is left to make of the cgroups, and move the builder in if it is not there."""

    needs_process: bool

    beside_builder = True

    def describe(self) -> str:
        return "have the builder in the container's cgroups"

    def apply(self, making: Making) -> None:
        driver = making.driver
        if self.needs_process:
            # On record before systemd makes it.
            making.entry.save(making.record)
            driver.create(making.resources)
        driver.create_rest(making.resources)
        if self.needs_process or making.entrance.moved or not making.in_cgroup:
            driver.attach(making.pid)


class SetEarlyLimits(RuntimeStep):
    """Set the limits that the builder has room in; ``let_go_on``: it waits for its cgroups."""

    let_go_on: bool

    beside_builder = True

    def describe(self) -> str:
        return "set the first limits"

    def apply(self, making: Making) -> None:
        making.driver.apply_early(making.resources)
        if self.let_go_on:
            making.let_go_on()


class WriteRecord(RuntimeStep):
    """Write down what is being made, and of which config.

    Should the runtime be killed before this, the builder dies with it, and the record of the
    beginning names the cgroup.
    """

    def describe(self) -> str:
        return "write the record"

    def apply(self, making: Making) -> None:
        making.entry.save(making.record)
        making.entry.save_config(making.spec)


class PrepareServed(RuntimeStep):
    """Find out what the one program of the container is, while init gets ready."""

    served: Served

    def describe(self) -> str:
        return "find the program that init will be told"

    def apply(self, making: Making) -> None:
        self.served.prepare(making)


class AwaitReady(RuntimeStep):
    """Wait until the builder has become init, and that is ready."""

    def describe(self) -> str:
        return "wait for the builder to become init, and for that to be ready"

    def apply(self, making: Making) -> None:
        making.hear(channel.READY)


class SetLateLimits(RuntimeStep):
    """Set the limits that only tiny init has room in."""

    def describe(self) -> str:
        return "set the last limits"

    def apply(self, making: Making) -> None:
        making.driver.apply_late(making.resources)


class RecordCreated(RuntimeStep):
    """Write down that the container is created; not ``on_disk`` where nobody else will ask for it.

    What is there for `delete` names the cgroup, and init ends with this process.
    """

    on_disk: bool

    def describe(self) -> str:
        return "write down that the container is created"

    def apply(self, making: Making) -> None:
        making.record["phase"] = states.CREATED
        making.record["cgroup"] = making.driver.to_state()
        if self.on_disk:
            making.entry.save(making.record)


class LetLive(RuntimeStep):
    """Tell init that it is on record: until now it would have died with the runtime."""

    def describe(self) -> str:
        return "let init outlive the runtime"

    def apply(self, making: Making) -> None:
        making.let_go_on(making.start_fifo)
