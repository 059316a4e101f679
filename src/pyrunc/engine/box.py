"""A container as its engine keeps it: made, never started, with processes executed in it.

Its first process is pyrunc's init, which the kernel kills when the engine ends, and with it all
the others: what runs in it is not process 1, so signals mean there what they mean elsewhere,
and orphans are collected. But for a program that is to be saved, or was: that is its first process.
"""

from __future__ import annotations

import copy
import posix
from typing import TYPE_CHECKING, Any

from pyrunc.cgroups.usage import Usage, cpu_time_of, forget_peak, sums_of, tasks_in, usage_of
from pyrunc.container.delete import remove
from pyrunc.container.entering.entering import Home
from pyrunc.container.entering.exec_process import ExecOptions
from pyrunc.container.entering.execute import spawn_in
from pyrunc.container.freeze import pause, resume
from pyrunc.container.making.create import Creation
from pyrunc.container.making.create_options import CreateOptions
from pyrunc.container.making.served import Served
from pyrunc.container.start import start
from pyrunc.container.update import update
from pyrunc.engine.networks import may_pass_on, network_of
from pyrunc.engine.prepared import has_capabilities
from pyrunc.engine.process import Running
from pyrunc.errors import WrongStatus
from pyrunc.linux import processes as p

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

    from pyrunc.checkpoint.restore import Restoration
    from pyrunc.container.making.remembered import Remembered
    from pyrunc.container.settings import Settings
    from pyrunc.engine.networks import Network, Networks
    from pyrunc.engine.roots import Layer
    from pyrunc.spec.types import Process, Spec

    _Limits = dict[str, Any]
    _Made = Creation | Restoration


class Box:
    """One container, by the id that the program knows it by."""

    def __init__(
        self,
        settings: Settings,
        remembered: Remembered,
        networks: Networks,
        box_id: str,
        spec: Spec,
        layer: Layer | None,
        cgroup: str,
        *,
        for_one: bool = False,
    ) -> None:
        self.settings = settings
        self._remembered = remembered
        self._networks = networks
        #: Its network namespace, if that may be another's when it has ended.
        self._network: Network | None = None
        self.id = box_id
        self.layer = layer
        self._spec = spec
        spec.setdefault("linux", {})["cgroupsPath"] = f"{cgroup}/{box_id}"
        self._creation: _Made | None = None
        #: Whether it is for one process, which is like the config's: its init can bring that forth.
        self._for_one = for_one
        #: How init is told what to execute, if it waits for that.
        self._served: Served | None = None
        #: What it had used before anything was asked of it, if that is known (:meth:`settle`).
        self._before: Usage | None = None
        self._killed = False
        #: Whether its init was sent SIGKILL, which :meth:`kill` need not have done.
        self._is_dying = False
        #: Whether its init is collected; after :meth:`kill` it may yet be ending.
        self._collected = False
        self.processes: list[Running] = []
        #: Limits that this host cannot set: name, and why.
        self.not_enforced: list[tuple[str, str]] = []
        #: The line of who made it, for as long as it is to live; None for a single run's.
        self.line: socket.socket | None = None

    @property
    def lives(self) -> bool:
        """Whether it is there, and its init has not ended."""
        creation = self._creation
        return creation is not None and not self._killed and not p.poll((creation.pidfd,), 0)

    def ensure(self, args: Sequence[str] = ()) -> _Made:
        """Make the container, or make it anew when its init has ended.

        :param args: what will be executed in it next, if that is known.
        :raises Error: when it cannot be made.
        """
        if self._creation is not None:
            if self.lives:
                return self._creation
            self.end()
        creation = self._create(copy.copy(self._spec), args, held=True)
        forget_peak(*self._cgroup())
        return creation

    @property
    def is_settled(self) -> bool:
        """Whether :meth:`settle` was called since it was made."""
        return self._before is not None

    def settle(self) -> None:
        """Find out what a process's start would have to find out, for when there is time."""
        self._before = self._take_sums()

    def _create(self, spec: Spec, args: Sequence[str] = (), *, held: bool) -> Creation:
        passes_on = may_pass_on(spec)
        self._network = self._networks.take() if passes_on else None
        if self._for_one and held and self._remembered.gives_stdio:
            self._served = Served(args)
        options = CreateOptions(
            "/",
            spec=spec,
            held=held,
            no_new_keyring=True,
            remembered=self._remembered,
            network=self._network.namespace if self._network else -1,
            served=self._served,
        )
        creation = Creation(self.settings, self.id, options)
        try:
            creation.load()
            creation.carry_out()
        except BaseException:
            self._let_go()
            self._give_up_network()
            raise
        if not creation.plan.served:
            self._let_go()
        self._creation = creation
        creation.entry.unlock()
        if passes_on and not self._network:
            self._network = network_of(creation.pid)
        return creation

    def _give_up_network(self) -> None:
        if self._network:
            self._network.close()
        self._network = None

    def _let_go(self) -> None:
        """Close the way to its init, which ends if it still waits there."""
        if self._served:
            self._served.close()
        self._served = None

    @property
    def init(self) -> int:
        """The pid of its first process."""
        return self.ensure().pid

    def start(self, process: Process, line: socket.socket, limits: _Limits) -> Running:
        """Execute a process in it, with this process's standard streams.

        :param limits: of the process: ``timeout`` and ``cpu_time`` in seconds; ``pids`` is the
            container's limit from now on, when that is too small for executing anything.
        :raises Error: when it cannot be executed.
        """
        self.ensure()
        if has_capabilities(process):
            # It might do in there what is not counted.
            self._give_up_network()
        running = self._start_served(process, line, limits) if self._served else None
        running = running or self._spawn(process, line, limits)
        if (pids := limits.get("pids")) is not None:
            assert self._creation
            self._creation.driver.apply({"pids": {"limit": pids}})
        return running

    def _start_served(
        self, process: Process, line: socket.socket, limits: _Limits
    ) -> Running | None:
        """Have its init execute the process; None if it has to be made anew for it."""
        creation, served = self._creation, self._served
        assert served and isinstance(creation, Creation)
        self._for_one = {**creation.spec["process"], "args": []} == {**process, "args": []}
        if self._for_one and not served.stdio_is_given(creation):
            self._for_one = self._remembered.gives_stdio = False
        before = self._take_sums()
        if self._for_one and served.execute(creation, process["args"]):
            self._let_go()
            return self._begin_with(creation, line, limits, before, creation.down)
        self._for_one = False
        self.end()
        return None

    def _spawn(self, process: Process, line: socket.socket, limits: _Limits) -> Running:
        creation, before = self.ensure(), self._take_sums()
        masters: list[int] = []
        home = Home(creation.entry, creation.record, creation.spec)
        options = ExecOptions(process=process, take_terminal=masters.append)
        try:
            pid, pidfd = spawn_in(self.settings, home, options)
        except BaseException:
            for master in masters:
                posix.close(master)
            raise
        running = Running(self, pid, pidfd, line, limits, before)
        self.processes.append(running)
        running.terminal = masters[0] if masters else -1
        return running

    def start_first(self, process: Process, line: socket.socket, limits: _Limits) -> Running:
        """Execute a process as the first one of a container made anew, which ends with it.

        A checkpoint holds nothing but this process and its descendants. That it ends when
        the engine is killed, the keeper sees to.

        :raises WrongStatus: when something runs in it.
        """
        if self.lives and self.pids():
            raise WrongStatus(
                "a program that is to be saved must be the first in its sandbox: others run there"
            )
        self.end()
        creation = self._create({**self._spec, "process": process}, held=False)
        try:
            start(self.settings, self.id)
        except BaseException:
            self.end()
            raise
        return self._begin_with(creation, line, limits, self._take_sums())

    def restore(self, options: dict[str, Any], line: socket.socket, limits: _Limits) -> Running:
        """Have CRIU make the container, and what runs in it.

        :param options: for :class:`pyrunc.checkpoint.options.RestoreOptions`.
        :raises Error: when it cannot be restored.
        """
        from pyrunc.checkpoint.options import RestoreOptions
        from pyrunc.checkpoint.restore import Restoration

        told = RestoreOptions(**options, bundle="/", spec=copy.copy(self._spec), detach=True)
        restoration = Restoration(self.settings, self.id, told)
        restoration.load()
        restoration.record["noNewKeyring"] = True
        restoration.carry_out()
        self._creation = restoration
        return self._begin_with(restoration, line, limits, self._take_sums())

    def _begin_with(
        self, made: _Made, line: socket.socket, limits: _Limits, before: Usage, sign: int = -1
    ) -> Running:
        limits, pidfd = {**limits, "first": True}, posix.dup(made.pidfd)
        running = Running(self, made.pid, pidfd, line, limits, before, sign)
        self.processes.append(running)
        return running

    @property
    def first(self) -> Running | None:
        """The process of the program's that is the container's first, if one is."""
        return next((running for running in self.processes if running.is_first), None)

    def usage(self) -> Usage:
        """Return what it has used so far."""
        return usage_of(*self._cgroup()) if self._creation else Usage()

    def _take_sums(self) -> Usage:
        before, self._before = self._before or sums_of(*self._cgroup()), None
        return before

    def cpu_time(self) -> float | None:
        """Return the processor time that it has used so far, in seconds."""
        return cpu_time_of(*self._cgroup()) if self._creation else None

    def _cgroup(self) -> tuple[dict[str, str], int]:
        assert self._creation is not None
        saved = self._creation.record["cgroup"]
        return saved["paths"], saved["version"]

    def kill(self) -> None:
        """Kill everything that runs in it; when this returns, nothing does.

        What it has used can still be asked for, until :meth:`end`.
        """
        creation = self._creation
        if creation is None or self._killed:
            return
        self._killed = True
        self._let_go()
        if (first := self.first) and first.has_ended():
            # With it, all others.
            first.reap()
            self._collected, self._is_dying = first.is_collected, True
            return
        if self._is_empty(creation):
            # There is nobody in it who could make others: its end is for when there is time.
            return
        self._kill_init(creation)
        # Ours by birth: init does not end before they are collected (zap_pid_ns_processes() of
        # kernel/pid_namespace.c waits for them).
        for running in self.processes:
            if not running.is_first:
                running.reap()
        if first := self.first:
            first.reap()
            self._collected = first.is_collected
        self._collect(creation)

    def _is_empty(self, creation: _Made) -> bool:
        """Tell whether there is nothing in it but our init; what has ended is collected then."""
        if self.first or not all(running.has_ended() for running in self.processes):
            return False
        for running in self.processes:
            running.reap()
        tasks = tasks_in(*self._cgroup())
        return creation.driver.processes() == [creation.pid] if tasks is None else tasks == 1

    def let_die(self) -> None:
        """After :meth:`kill`, have its init end as well, so that :meth:`end` need not wait."""
        if self._creation and not self._collected:
            self._kill_init(self._creation)

    def _kill_init(self, creation: _Made) -> None:
        if self._is_dying:
            return
        self._is_dying = True
        p.pidfd_send_signal(creation.pidfd, p.SIGKILL)
        if creation.driver.frozen():
            # Frozen by cgroup v1, a process takes no signal.
            creation.driver.thaw()

    def _collect(self, creation: _Made) -> None:
        """Wait for the end of its first process, unless that was done."""
        if not self._collected:
            self._collected = True
            posix.waitpid(creation.pid, 0)

    def end(self) -> None:
        """Kill everything and take the container away; :meth:`ensure` makes it anew."""
        creation = self._creation
        if creation is None:
            return
        try:
            self.kill()
            self.let_die()
            self._collect(creation)
            if self._network:
                self._networks.put_back(self._network)
                self._network = None
            if not creation.entry.locked:
                creation.entry.lock()
            remove(self.settings, creation.entry, creation.record)
        finally:
            self._give_up_network()
            self._creation = None
            self._killed = self._is_dying = self._collected = False
            self._before = None
            creation.close()

    def close(self) -> None:
        """Take it away, and its layer."""
        try:
            self.end()
        finally:
            if self.layer is not None:
                self.layer.remove()

    def pause(self) -> None:
        """Freeze it."""
        self.ensure()
        pause(self.settings, self.id)

    def resume(self) -> None:
        """Let it go on."""
        self.ensure()
        resume(self.settings, self.id)

    def update(self, resources: dict[str, Any]) -> None:
        """Change its limits, also for when it has to be made anew."""
        creation = self.ensure()
        creation.entry.save_config(creation.spec)
        update(self.settings, self.id, resources)
        kept: dict[str, Any] = self._spec["linux"].setdefault("resources", {})  # type: ignore[assignment]
        for name, value in resources.items():
            kept[name] = {**(kept.get(name) or {}), **value}

    def open_root(self) -> int:
        """Return a descriptor of the root that its processes see, with all that is mounted."""
        flags = posix.O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC
        return posix.open(f"/proc/{self.init}/root", flags)

    def pids(self) -> Sequence[int]:
        """Return the pids of its processes but for our init's."""
        creation = self.ensure()
        pids = creation.driver.processes()
        return pids if self.first else [pid for pid in pids if pid != creation.pid]
