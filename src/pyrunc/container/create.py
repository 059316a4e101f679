"""Making a container: everything up to an init that waits for its start.

The runtime's side of the story. It checks the config and plans while nothing
has changed; then it makes the cgroup and the builder, does for the builder
what only the host may do, and ends when init reports that it is ready.
"""

from __future__ import annotations

import posix

from pyrunc.cgroups.cgroupfs import CgroupTaken
from pyrunc.cgroups.entrance import Entrance
from pyrunc.container import state as states
from pyrunc.container.builder import Handover, build_container
from pyrunc.container.create_options import CreateOptions, check_terminal
from pyrunc.container.interrupts import Interrupted, Interrupts
from pyrunc.container.process_facts import process_facts
from pyrunc.container.record import RECORD_FORMAT
from pyrunc.container.removal import remove_cgroup, run_poststop
from pyrunc.container.seen import outside
from pyrunc.container.spawn import spawn_builder
from pyrunc.container.store import Store
from pyrunc.container.timestamps import now
from pyrunc.errors import Error, failure_of_the_machine, reason
from pyrunc.linux import files, refusals
from pyrunc.linux import processes as p
from pyrunc.plan.facts import Facts, ProcessFacts
from pyrunc.plan.first_process import sets_late_scheduler, sets_rlimits
from pyrunc.plan.planner import needs_cgroup_early, plan, root_path
from pyrunc.process import channel
from pyrunc.process.attributes import set_rlimits, set_scheduler, why_no_score
from pyrunc.process.console import send_pidfd, send_to_socket
from pyrunc.process.descriptors import passed
from pyrunc.process.failure import describe_failure, parse_failure
from pyrunc.process.hooks import run_hooks, with_pid
from pyrunc.process.late import PAGE, RESULT, START
from pyrunc.process.program import give_stdio
from pyrunc.process.seal import sealed_init
from pyrunc.process.shared_page import failure_in, make_page, sibling_in
from pyrunc.spec import json_text
from pyrunc.spec.load import load

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from pyrunc.cgroups.driver import Driver
    from pyrunc.cgroups.resctrl import Group
    from pyrunc.container.net_devices import NetDevices
    from pyrunc.container.record import Record
    from pyrunc.container.settings import Settings
    from pyrunc.container.store import Entry
    from pyrunc.spec.types import Hook, IntelRdt, Spec


def create(
    settings: Settings, container_id: str, options: CreateOptions, *, exits: bool = False
) -> None:
    """Create a container from the bundle (runtime.md, "Create").

    Afterwards init waits for :func:`pyrunc.container.start.start`. On any error
    everything made so far is gone again.

    :param exits: this process ends right afterwards; a signal that comes when the container is
        complete comes too late then, and is ignored: to die of it would tell the caller that
        there is no container.
    :raises pyrunc.errors.InvalidConfig: with all mistakes of the config.
    :raises pyrunc.errors.AlreadyExists: when the id is taken.
    """
    creation = Creation(settings, container_id, options)
    creation.load()
    creation.carry_out(exits=exits)
    creation.close()


class Creation:
    """One container on its way from a config to a waiting init."""

    def __init__(self, settings: Settings, container_id: str, options: CreateOptions) -> None:
        self.settings = settings
        self.id = container_id
        self.bundle = options.bundle
        self.options = options
        self.store = Store(settings.root)
        self.spec: Spec
        self.entry: Entry
        self.record: Record
        self.driver: Driver
        self.pid = 0
        self.pidfd = -1
        #: The terminal's master, for a foreground run.
        self.master = -1
        #: What the terminal comes through, where it cannot be taken from the builder.
        self._socket = -1
        self._descriptors: list[int] = []
        #: Namespaces to join, until the builder has them.
        self._joined: dict[str, int] = {}
        self._reserved = False
        self._wrote_pid_file = False
        self._entrance = Entrance()
        #: What is being gathered for the builder, until it is born.
        self._handing: Handover | None = None
        #: What is shared with an init that goes into another's pid namespace, and its start fifo.
        self._page = self._start_fifo = -1
        self._net_devices: NetDevices | None = None
        self._resctrl: Group | None = None

    def load(self) -> None:
        """Read and check the config; nothing on the machine has changed when this fails."""
        trace = self.settings.trace
        trace.mark("load modules")
        named = self.options.config
        notes: list[str] = []
        self.spec = self.options.spec or load(
            named or f"{self.bundle}/config.json", stream=bool(named), notes=notes
        )
        for note in notes:
            self.settings.log.warn(note)
        trace.mark("load and check config.json")
        check_terminal(self.spec, self.options)
        self.passed = passed(self.options.preserve_fds)
        if posix.environ.get(b"NOTIFY_SOCKET") and self.spec.get("process"):
            from pyrunc.process import notify

            mount = notify.mount(f"{self.store.root}/{self.id}")
            self.spec["mounts"] = [*(self.spec.get("mounts") or ()), mount]
            self.options.notify_socket = True
        _check_root(root_path(self.spec, self.bundle))

    def carry_out(self, *, exits: bool = False) -> None:
        """Make the container, or leave nothing behind; ``exits`` as for :func:`create`.

        :raises Error: also when a signal interrupts it.
        """
        self._prepare()
        self._interrupts = Interrupts()
        try:
            self._interrupts.hold()
            self.entry = self.store.reserve(self.id)
            self._reserved = True
            self._interrupts.let_through()
            self.settings.trace.mark("reserve the id")
            self._build()
            self._finish()
            # What comes now is init's alone: until here it would have died with the runtime.
            self._let_live()
            if exits:
                self._interrupts.ignore()
        except BaseException as error:
            self._interrupts.ignore()
            if self._reserved:
                self._undo(keep_cgroup=isinstance(error, CgroupTaken))
            if isinstance(error, Interrupted):
                raise Error(f"creating container {self.id} was {error}; it is undone") from None
            if why := failure_of_the_machine(error):
                raise Error(f"cannot create container {self.id}: {why}") from None
            raise
        finally:
            if not exits:
                self._interrupts.end()

    def close(self) -> None:
        """Close what is open; the container lives on."""
        for descriptor in self._descriptors:
            posix.close(descriptor)
        self._descriptors.clear()
        self._close_joined()
        self._entrance.close()
        if self._net_devices:
            self._net_devices.close()
            self._net_devices = None
        self.entry.close()

    def _close_the_builders(self) -> None:
        """Close what the builder has by now, or will not get any more."""
        if handover := self._handing:
            self._handing = None
            fixed = (handover.up, handover.down, handover.init, handover.proc)
            ways = (handover.socket, *(handover.known.get(n.name, -1) for n in (START, RESULT)))
            for descriptor in (*fixed, *ways, *handover.opened.descriptors()):
                if descriptor >= 0:
                    posix.close(descriptor)
        self._close_joined()
        self._entrance.close()

    def _close_joined(self) -> None:
        while self._joined:
            posix.close(self._joined.popitem()[1])

    def _prepare(self) -> None:
        from pyrunc.cgroups import driver, host

        spec = self.spec
        linux = spec.get("linux", {})
        if linux.get("mountLabel"):
            from pyrunc.security.lsm import check_selinux

            check_selinux("linux.mountLabel")
        disabled = self.settings.no_cgroups
        layout = host.detect(required=not disabled)
        self.driver = driver.open_driver(
            layout,
            linux.get("cgroupsPath", ""),
            self.id,
            systemd=self.settings.systemd_cgroup,
            ignore_errors=self.settings.rootless,
            annotations=spec.get("annotations"),
            disabled=disabled,
        )
        if not self.driver.restricts_devices:
            self._check_device_rules()
        self.record = {
            "format": RECORD_FORMAT,
            "ociVersion": spec["ociVersion"],
            "id": self.id,
            "bundle": self.bundle,
            "rootfs": root_path(spec, self.bundle),
            "created": now(),
            "owner": states.owner_name(posix.getuid()),
            "ownerUid": posix.getuid(),
            "annotations": spec.get("annotations") or {},
            "phase": states.CREATING,
            "pid": 0,
            "startTime": 0,
            "cgroup": self.driver.to_state(),
            "rootless": self.settings.rootless,
        }
        if self.options.no_new_keyring:
            self.record["noNewKeyring"] = True
        if not any(n["type"] == "pid" and not n.get("path") for n in linux.get("namespaces") or ()):
            self.record["sharedPidNamespace"] = True
        if kept := {k: v for k, v in spec.get("hooks", {}).items() if k.startswith("post")}:
            self.record["hooks"] = kept  # type: ignore[typeddict-item]
        self._facts = facts = Facts(
            cgroup_version=layout.version,
            cgroup_mounts=layout.mounts if layout.version == 1 else {"": layout.unified},
            cgroup_paths=self.driver.paths(),
            rootless=self.settings.rootless,
            pivot=not self.options.no_pivot,
            new_keyring=not self.options.no_new_keyring,
            process=self._process_facts(),
            held=self.options.held,
        )
        if any(namespace.get("path") for namespace in linux.get("namespaces") or ()):
            from pyrunc.container.joined import open_joined

            named = self.options.config or f"{self.bundle}/config.json"
            self._joined, facts.own_namespaces = open_joined(spec, named)
        try:
            self.plan = plan(spec, self.bundle, self._state_json(0), facts)
        except BaseException:
            self._close_joined()
            raise
        for warning in self.plan.warnings:
            self.settings.log.warn(warning)
        self.settings.trace.mark("plan")

    def _process_facts(self) -> ProcessFacts:
        process = self.spec.get("process")
        if not process:
            return ProcessFacts()
        environment = [*(process.get("env") or ()), *self.passed.environment]
        if self.options.notify_socket:
            from pyrunc.process.notify import ENVIRONMENT

            environment.append(ENVIRONMENT)
        return process_facts(
            self.settings,
            self.spec,
            process,
            environment,
            self.passed,
            keyring_of="" if self.options.no_new_keyring else self.id,
        )

    def _check_device_rules(self) -> None:
        from pyrunc.cgroups import none, unkept

        disabled = self.settings.no_cgroups
        warning = unkept.check_device_rules(
            self._resources,
            none.WHY if disabled else unkept.NO_DEVICES_HIERARCHY,
            in_user_namespace=self.settings.rootless,
            wanted=disabled,
        )
        if warning:
            self.settings.log.warn(warning)

    def _state_json(self, pid: int) -> bytes:
        """Return the state that hooks get on stdin (runtime.md, "State")."""
        state = {
            "ociVersion": self.spec["ociVersion"],
            "id": self.id,
            "status": states.CREATING,
            "pid": 0,
            "bundle": self.bundle,
            "annotations": self.spec.get("annotations") or {},
        }
        return with_pid(json_text.encode(state).encode(), pid)

    def _build(self) -> None:
        trace = self.settings.trace
        self._entrance = self._open_entrance()
        handover = self._handover()
        handover.trace = trace
        trace.mark("open and compile what the builder gets")
        up, handover.up = posix.pipe2(files.O_CLOEXEC)
        self._descriptors.append(up)
        handover.down, down = posix.pipe2(files.O_CLOEXEC)
        self._descriptors.append(down)
        self._down = down
        handover.of_runtime = (up, down, self.entry.directory, self._socket)
        handover.entrance = self._entrance

        def mappings(pid: int) -> None:
            from pyrunc.container.idmap import write_mappings

            write_mappings(pid, self.spec, rootless=self.settings.rootless)

        # A signal between the birth and the moment when we know of it would leave a stray
        # builder; and in the builder no handler of ours may run.
        self._interrupts.hold()
        try:
            self.pid, self.pidfd, in_cgroup = spawn_builder(
                handover, self.spec, build_container, mappings
            )
        finally:
            self._close_the_builders()
        self._interrupts.let_through()
        trace.mark("fork the builder into its namespaces")
        if self.pidfd >= 0:
            self._descriptors.append(self.pidfd)
        self.record["pid"] = self.pid
        self.record["startTime"] = p.start_time(self.pid)
        if self.driver.needs_process:
            # On record before systemd makes it.
            self.entry.save(self.record)
        if self.plan.namespaces.is_born_inside and "user" in self.plan.namespaces.new:
            _go_on(down)
        try:
            self._enter_cgroup(down, in_cgroup=in_cgroup)
        except (OSError, Error):
            # A builder that failed in the meantime knows better what went wrong.
            if p.poll((up,), 0):
                self._converse(up, down)
            raise
        trace.mark("have the builder in its cgroup, set the first limits")
        # The builder is at work already. Should the runtime be killed before this, the builder
        # dies with it, and the record names the cgroup.
        self.entry.save(self.record)
        self.entry.save_config(self.spec)
        trace.mark("write the record")
        self._converse(up, down)
        if self._page >= 0:
            self._follow_inside()
        trace.mark("wait for the builder to become init, and for that to be ready")
        trace.collect()

    def _open_entrance(self) -> Entrance:
        """Make the cgroups, if they can do without a process, and open what leads into them."""
        self.driver.check_free()
        if self.driver.needs_process:
            return Entrance()
        # On record before it is there, so that `delete` finds it whatever happens.
        self.entry.save(self.record)
        self.driver.create(self._resources, rest_later=self._builder_can_join_later)
        self.settings.trace.mark("make the cgroup")
        return self.driver.open_entrance()

    @property
    def _builder_can_join_later(self) -> bool:
        """Whether the builder waits for its cgroup, with the host's mounts and rights until then.

        Making the v1 cgroups while it works saves a `run` 0.4 of 17 ms.
        """
        spaces = self.plan.namespaces
        if not spaces.is_born_inside or not needs_cgroup_early(self.spec, spaces):
            return False
        is_host_root = "user" not in spaces.new and not self.settings.rootless
        return is_host_root and "mount" not in spaces.joined

    def _handover(self) -> Handover:
        """Open everything that the builder inherits, compile everything that it only executes."""
        spec = self.spec
        process = spec.get("process")
        handover = Handover(self.plan)
        self._handing = handover
        if process:
            handover.preserved = self.passed.total
        if self.options.notify_socket:
            from pyrunc.process.notify import make_directory

            make_directory(self.entry.directory)
        handover.proc = files.open_host_proc()
        if refusals.are_likely():
            from pyrunc.container import old_ways

            old_ways.prepare(self.settings, self.plan.namespaces)
            handover.enter_old_ways = old_ways.enter
            handover.socket, self._socket = old_ways.sockets_if_needed()
            if self._socket >= 0:
                self._descriptors.append(self._socket)
        handover.init = sealed_init()
        for name in ("exec.fifo", "result.fifo"):
            posix.mkfifo(name, 0o600, dir_fd=self.entry.directory)
        # Opened for both directions, a fifo has a reader and a writer from the start on.
        flags = posix.O_RDWR | files.O_CLOEXEC
        known = handover.known
        known[START.name] = posix.open("exec.fifo", flags, dir_fd=self.entry.directory)
        if self.plan.namespaces.entered_by_builder:
            self._open_way_inside(known)
        else:
            known[RESULT.name] = posix.open("result.fifo", flags, dir_fd=self.entry.directory)
        handover.namespaces = self._joined
        if self.plan.namespaces.private("user") or self.plan.opened_by_runtime:
            self._do_as_host(handover)
        return handover

    def _do_as_host(self, handover: Handover) -> None:
        """Do what root of the container's user namespace has no right to."""
        from pyrunc.container.idmap import ids_of

        user_namespace = handover.namespaces.get("user", -1)
        path = self.plan.namespaces.joined.get("user", "")
        ids = ids_of(self.spec, user_namespace, path)
        if self.plan.opened_by_runtime or self.plan.devices_of_runtime:
            from pyrunc.container.opened import open_for_builder

            root = root_path(self.spec, self.bundle)
            open_for_builder(handover.opened, self.plan, self.spec, root, user_namespace, ids)
        process = self.spec.get("process")
        if process and not process.get("terminal") and self.plan.namespaces.private("user"):
            give_stdio(outside(ids.uids, (process.get("user") or {}).get("uid", 0)))

    def _open_way_inside(self, known: dict[str, int]) -> None:
        """Open what an init that goes into another's pid namespace is told and heard through.

        There it has nothing but the fifos. It is let live through the one, and notices through
        the other that the runtime, its only reader, has died.
        """
        self._page = known[PAGE.name] = make_page()
        self._start_fifo = posix.dup(known[START.name])
        directory = self.entry.directory
        flags = posix.O_RDONLY | posix.O_NONBLOCK | files.O_CLOEXEC
        reader = posix.open("result.fifo", flags, dir_fd=directory)
        self._descriptors += [self._page, self._start_fifo, reader]
        flags = posix.O_WRONLY | files.O_CLOEXEC
        known[RESULT.name] = posix.open("result.fifo", flags, dir_fd=directory)

    @property
    def _resources(self) -> Mapping[str, Any]:
        return self.spec.get("linux", {}).get("resources") or {}

    def _enter_cgroup(self, down: int, *, in_cgroup: bool) -> None:
        if self.driver.needs_process:
            self.driver.create(self._resources)
        self.driver.create_rest(self._resources)
        settings = self.spec.get("linux", {}).get("intelRdt")
        if settings is not None:
            self._join_resctrl(settings)
        if not in_cgroup or self._entrance.moved or self.driver.needs_process:
            self.driver.attach(self.pid)
        if "cgroup" in self.plan.namespaces.new and self.record["cgroup"]["version"] == 2:
            self._give_cgroup_away()
        self.driver.apply_early(self._resources)
        if needs_cgroup_early(self.spec, self.plan.namespaces):
            _go_on(down)

    def _give_cgroup_away(self) -> None:
        from pyrunc.container.cgroup_owner import give_cgroup_away

        directory = self.driver.paths().get("")
        if not directory:
            return
        try:
            give_cgroup_away(self.spec, directory, self.pid)
        except Error as error:
            # Nobody but root may give anything away; that the config allows it is no demand.
            if not self.settings.rootless:
                raise
            self.settings.log.debug(str(error))

    def _join_resctrl(self, settings: IntelRdt) -> None:
        from pyrunc.cgroups import resctrl

        self._resctrl = group = resctrl.open_group(settings, self.id)
        # On record before it is there, so that `delete` finds it whatever happens.
        self.record["intelRdt"] = group.to_state()
        self.entry.save(self.record)
        group.create(settings)
        group.attach([self.pid])

    def _converse(self, up: int, down: int) -> None:
        """Answer the builder until it has become an init that is ready."""
        while True:
            message = channel.receive(up)
            kind = message[:1]
            if kind == channel.READY:
                return
            if kind == channel.HOOKS:
                self._run_hooks()
            elif kind == channel.NET_DEVICES:
                self._move_net_devices()
            elif kind == channel.TERMINAL:
                self._take_terminal(self._fetch(message, "terminal"))
            elif kind == channel.LISTENER:
                self._send_listener(self._fetch(message, "seccomp listener"))
            else:
                raise self._failure(message)
            _go_on(down)

    def _fetch(self, message: bytes, what: str) -> int:
        """Return a copy of the descriptor that the builder, or init, tells of."""
        try:
            if self._socket >= 0 and message[:1] == channel.TERMINAL:
                from pyrunc.linux.sockets import receive_descriptor

                return receive_descriptor(self._socket)
            return p.pidfd_getfd(self.pidfd, channel.descriptor_in(message))
        except OSError as error:
            why = reason(refusals.explained(error, "pidfd_getfd(2)"))
            raise Error(f"cannot take the container's {what}: {why}") from None

    def _follow_inside(self) -> None:
        """Let init bring forth the container's process in the pid namespace, and be that from now.

        :raises Error: when it cannot.
        """
        _go_on(self._down)
        status = p.exit_status(posix.waitpid(self.pid, 0)[1])
        self._interrupts.hold()
        if self.pidfd >= 0:
            posix.close(self.pidfd)
            self._descriptors.remove(self.pidfd)
        self.pid, self.pidfd = sibling_in(self._page), -1
        if not self.pid:
            why = failure_in(self._page) or f"init died (exit status {status})"
            raise Error(f"unable to start container process: {why}")
        self.pidfd = p.pidfd_open(self.pid)
        if self.pidfd >= 0:
            self._descriptors.append(self.pidfd)
        self._interrupts.let_through()
        self.record["pid"] = self.pid
        self.record["startTime"] = p.start_time(self.pid)
        self.entry.save(self.record)

    def _let_live(self) -> None:
        """Tell init that it is on record; from now on it waits for its start."""
        _go_on(self._down if self._page < 0 else self._start_fifo)

    def _failure(self, message: bytes) -> Error:
        if message[:1] == channel.FAILED:
            return Error(f"unable to start container process: {channel.failure_text(message)}")
        failure = parse_failure(message)
        if failure is None:
            return channel.dead("the container's init")
        return Error(f"unable to start container process: {describe_failure(failure)}")

    def _run_hooks(self) -> None:
        hooks = self.spec.get("hooks", {})
        state = self._state_json(self.pid)
        for kind in ("prestart", "createRuntime"):
            entries: list[Hook] = hooks.get(kind) or []  # type: ignore[assignment]
            run_hooks(kind, entries, state, self.pidfd)

    def _move_net_devices(self) -> None:
        from pyrunc.container.net_devices import NetDevices

        self._net_devices = NetDevices(self.pid)
        self._net_devices.move(self.spec["linux"]["netDevices"])

    def _take_terminal(self, master: int) -> None:
        if self.options.foreground and not self.options.console_socket:
            self.master = master
            return
        try:
            send_to_socket(self.options.console_socket, master, b"/dev/ptmx", "the terminal")
        finally:
            posix.close(master)

    def _send_listener(self, listener: int) -> None:
        from pyrunc.container.listener import send_listener

        send_listener(self.spec, self.pid, self._state_json(self.pid), listener)

    def _finish(self) -> None:
        """Init waits: set the limits that the builder was too big for, and write things down."""
        spec = self.spec
        process = spec.get("process")
        if process and (score := process.get("oomScoreAdj")) is not None:
            self._set_oom_score(score)
        if sets_rlimits(self.plan.namespaces, self._facts) and process and process.get("rlimits"):
            set_rlimits(self.pid, process["rlimits"])
        if process and sets_late_scheduler(spec, self.plan.namespaces):
            set_scheduler(self.pid, process["scheduler"])
        self.driver.apply_late(self._resources)
        self.record["phase"] = states.CREATED
        self.record["cgroup"] = self.driver.to_state()
        self.entry.save(self.record)
        if self.options.pidfd_socket:
            send_pidfd(self.options.pidfd_socket, self.pidfd)
        if self.options.pid_file:
            from pyrunc.container.pid_file import write_pid_file

            write_pid_file(self.options.pid_file, self.pid)
            self._wrote_pid_file = True
        if self._resources.get("memory") and p.poll((self.pidfd,), 0):
            # cgroup v2 takes any limit, and kills what does not fit.
            raise Error("container init was OOM-killed (memory limit too low?)")
        self.settings.trace.mark("set the last limits, write the record")

    def _set_oom_score(self, score: int) -> None:
        try:
            files.write_file(f"/proc/{self.pid}/oom_score_adj", b"%d" % score)
        except OSError as error:
            raise Error(f"cannot set oom_score_adj to {score}: {why_no_score(error)}") from None

    def _undo(self, *, keep_cgroup: bool) -> None:
        """Leave nothing of a failed create: no process, no cgroup, no directory.

        Whatever fails here is only warned about: the error that led here matters more, and
        the rest must be undone all the same.
        """
        # An undo needs descriptors of its own, and there may be no more.
        self._close_the_builders()
        if self._net_devices:
            # Before the builder dies, and its network with it.
            for line in self._net_devices.restore():
                self.settings.log.warn(line)
        if self.pid:
            # A child that is not waited for: its number is its own, with or without a pidfd.
            posix.kill(self.pid, p.SIGKILL)
            p.reap(self.pid, self.pidfd)
        if self._page >= 0 and (inside := sibling_in(self._page)) not in (0, self.pid):
            posix.kill(inside, p.SIGKILL)
            posix.waitpid(inside, 0)
        try:
            if not keep_cgroup:
                remove_cgroup(self.driver)
        except (OSError, Error) as error:
            self.settings.log.warn(f"cannot remove the container's cgroup: {reason(error)}")
        try:
            if self._resctrl:
                self._resctrl.destroy(undo=True)
            if self._wrote_pid_file:
                posix.unlink(self.options.pid_file)
            self.entry.remove()
        except (OSError, Error) as error:
            self.settings.log.warn(f"cannot remove what was made so far: {reason(error)}")
        if self.pid:
            # runtime.md, "Lifecycle": after a failed hook it goes on at step 12.
            self._run_poststop()
        self.close()

    def _run_poststop(self) -> None:
        hooks = self.spec.get("hooks", {}).get("poststop")
        if not hooks:
            return
        try:
            self._interrupts.listen()
            run_poststop(self.settings, hooks, self._stopped())
        except Interrupted as interrupted:
            self.settings.log.warn(f"the poststop hooks were {interrupted}")
        finally:
            self._interrupts.ignore()

    def _stopped(self) -> bytes:
        return self._state_json(0).replace(b'"status":"creating"', b'"status":"stopped"')


def _go_on(down: int) -> None:
    """Let the builder go on; one that is dead has left the reason in the other pipe."""
    try:
        posix.write(down, channel.GO_ON)
    except BrokenPipeError:
        pass


def _check_root(path: str) -> None:
    try:
        mode = posix.stat(path).st_mode
    except OSError as error:
        raise Error(f"invalid rootfs {path}: {reason(error)}") from None
    if mode & files.S_IFMT != files.S_IFDIR:
        raise Error(f"invalid rootfs {path}: not a directory")
