"""Making a container: everything up to an init that waits for its start.

The runtime's side of the story: it checks the config and plans while nothing has changed, then
carries out the first list of the plan (container/making), and undoes it backwards should anything
fail.
"""

from __future__ import annotations

import posix

from pyrunc.container.making.create_options import CreateOptions, check_terminal
from pyrunc.container.making.interrupts import Interrupted, Interrupts
from pyrunc.container.making.making import Making
from pyrunc.container.making.runtime_plan import plan_container
from pyrunc.container.process_facts import process_facts
from pyrunc.container.record.first import first_record
from pyrunc.errors import Error, failure_of_the_machine, reason
from pyrunc.linux import files
from pyrunc.plan.facts import Facts, ProcessFacts
from pyrunc.plan.planner import root_path
from pyrunc.process.descriptors import passed
from pyrunc.spec.load import load

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.cgroups.host import Layout
    from pyrunc.container.making.remembered import Planned
    from pyrunc.container.record.record import Record
    from pyrunc.container.settings import Settings


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


class Creation(Making):
    """One container on its way from a config to a waiting init: loaded, planned, carried out."""

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
        self._plan()
        self.interrupts = Interrupts()
        try:
            self.apply(self.plan.runtime)
            if exits:
                self.interrupts.ignore()
        except BaseException as error:
            self.interrupts.ignore()
            self.undo(error)
            if isinstance(error, Interrupted):
                raise Error(f"creating container {self.id} was {error}; it is undone") from None
            if why := failure_of_the_machine(error):
                raise Error(f"cannot create container {self.id}: {why}") from None
            raise
        finally:
            if not exits:
                self.interrupts.end()

    def _plan(self) -> None:
        """Find out what must be known of the host, and plan; still nothing has changed."""
        remembered = self.options.remembered
        layout = self._open_driver()
        self.record = self._first_record()
        key, known = b"", None
        if remembered:
            from pyrunc.container.making.remembered import Planned, key_of

            remembered.layout = layout
            host = (self.settings.rootless, self.driver.needs_process)
            key = key_of(self.spec, self.options, *host)
            known = remembered.get(key)
        if known:
            self._plan_as(known)
        else:
            self._plan_anew(layout)
            if remembered:
                self.planned = Planned(self.plan, self.facts)
                remembered.put(key, self.planned)
        if self.options.network >= 0:
            self.joined["network"] = posix.dup(self.options.network)
        for warning in self.plan.warnings:
            self.settings.log.warn(warning)
        self.settings.trace.mark("plan")

    def _plan_as(self, known: Planned) -> None:
        """Plan a container like one that was planned before."""
        self.planned, self.facts = known, known.facts
        self.plan = plan_container(self.spec, self.id, self.options, b"", self.facts, known.plan)

    def _plan_anew(self, layout: Layout) -> None:
        spec = self.spec
        self.facts = facts = Facts(
            cgroup_version=layout.version,
            cgroup_mounts=layout.mounts if layout.version == 1 else {"": layout.unified},
            cgroup_paths=self.driver.paths(),
            cgroup_needs_process=self.driver.needs_process,
            rootless=self.settings.rootless,
            pivot=not self.options.no_pivot,
            new_keyring=not self.options.no_new_keyring,
            process=self._process_facts(),
            held=self.options.held,
            serves=self.options.served is not None,
            has_network=self.options.network >= 0,
            stands_still=self._can_stand_still(),
        )
        try:
            namespaces = spec.get("linux", {}).get("namespaces") or ()
            if any(namespace.get("path") for namespace in namespaces):
                from pyrunc.container.making.joined import open_joined

                named = self.options.config or f"{self.bundle}/config.json"
                self.joined, facts.own_namespaces = open_joined(spec, named)
            self.plan = plan_container(spec, self.id, self.options, self.state_json(0), facts)
        except BaseException:
            self.close_joined()
            raise

    def _can_stand_still(self) -> bool:
        """Tell whether the builder may have this process's memory."""
        if self.driver.needs_process or self.settings.trace.on:
            return False
        from pyrunc.container.making.same_memory import fits

        return fits(self.spec)

    def _open_driver(self) -> Layout:
        """Choose who makes the cgroups; return how the host's are mounted."""
        from pyrunc.cgroups import driver, host

        spec = self.spec
        linux = spec.get("linux", {})
        if linux.get("mountLabel"):
            from pyrunc.security.lsm import check_selinux

            check_selinux("linux.mountLabel")
        disabled = self.settings.no_cgroups
        remembered = self.options.remembered
        layout = remembered.layout if remembered else None
        layout = layout or host.detect(required=not disabled)
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
        return layout

    def _first_record(self) -> Record:
        remembered = self.options.remembered
        owner = remembered.owner if remembered else ""
        record = first_record(
            self.settings, self.id, self.bundle, self.spec, self.driver.to_state(), owner
        )
        if remembered:
            remembered.owner = record["owner"]
        if self.options.no_new_keyring:
            record["noNewKeyring"] = True
        return record

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
            self.resources,
            none.WHY if disabled else unkept.NO_DEVICES_HIERARCHY,
            in_user_namespace=self.settings.rootless,
            wanted=disabled,
        )
        if warning:
            self.settings.log.warn(warning)


def _check_root(path: str) -> None:
    try:
        mode = posix.stat(path).st_mode
    except OSError as error:
        raise Error(f"invalid rootfs {path}: {reason(error)}") from None
    if mode & files.S_IFMT != files.S_IFDIR:
        raise Error(f"invalid rootfs {path}: not a directory")
