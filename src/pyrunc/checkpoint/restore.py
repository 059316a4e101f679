"""`restore`: a container from the images that `checkpoint` has made.

Record, cgroups and hooks are those of `create`; in the place of a builder there is CRIU, which
brings forth the processes as our children. Until all is done the container is `creating`.
"""

from __future__ import annotations

import posix

from pyrunc.cgroups.cgroupfs import CgroupTaken
from pyrunc.checkpoint import (
    attributes,
    fingerprint,
    labels,
    manifest,
    messages,
    mounts,
    outside,
    pages,
    root,
    yard,
)
from pyrunc.checkpoint.criu import Criu
from pyrunc.checkpoint.request import Places, common, refuse_rootless, told_by
from pyrunc.container.making.create_options import CreateOptions, check_terminal
from pyrunc.container.making.interrupts import Interrupted, Interrupts
from pyrunc.container.record import state as states
from pyrunc.container.record.first import first_record
from pyrunc.container.record.store import Store
from pyrunc.container.teardown import remove_cgroup, run_poststop
from pyrunc.errors import Error, failure_of_the_machine, reason
from pyrunc.linux import files, process_stat
from pyrunc.linux import processes as p
from pyrunc.plan.planner import root_path
from pyrunc.process.console import send_to_socket
from pyrunc.process.hooks import run_hooks
from pyrunc.spec.load import load

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from pyrunc.cgroups.driver import Driver
    from pyrunc.cgroups.host import Layout
    from pyrunc.checkpoint.manifest import Manifest
    from pyrunc.checkpoint.options import RestoreOptions
    from pyrunc.container.record.entry import Entry
    from pyrunc.container.record.record import Record
    from pyrunc.container.settings import Settings
    from pyrunc.spec.types import Spec

_LOG = "restore.log"
_CLONE_NEWNS = 0x20000
#: Of the container's directory, for as long as it is being restored.
_DIRECTORIES = (root.ROOT, root.IMAGES, root.YARD)


def restore(settings: Settings, container_id: str, options: RestoreOptions) -> int:
    """Bring a container back; return the exit status of its process, or 0 when detached.

    In the foreground the container is deleted at its end.

    :raises pyrunc.errors.InvalidConfig: with all mistakes of the bundle's config.
    :raises pyrunc.errors.AlreadyExists: when the id is taken.
    :raises Error: when it cannot be restored; nothing is left then.
    """
    refuse_rootless(settings, "restore a container")
    restoration = Restoration(settings, container_id, options)
    restoration.load()
    restoration.carry_out()
    try:
        if options.detach:
            return 0
        from pyrunc.checkpoint.foreground import show

        return show(restoration, adopt=not options.no_subreaper)
    finally:
        restoration.close()


class Restoration:
    """One container on its way from images to running processes."""

    def __init__(self, settings: Settings, container_id: str, options: RestoreOptions) -> None:
        self.settings = settings
        self.id = container_id
        self.options = options
        self.spec: Spec
        self.entry: Entry
        self.record: Record
        self.pid = 0
        self.pidfd = -1
        #: The terminal's master, for a foreground restore.
        self.master = -1
        self._criu: Criu | None = None
        self._restrictions: dict[str, list[str]] = {}
        self._reserved = False
        self._wrote_pid_file = False
        self._descriptors: list[int] = []
        #: Of these, the namespaces that CRIU works in.
        self._entered: list[int] = []

    def load(self) -> None:
        """Read the config and the manifest; nothing on the machine has changed when this fails."""
        options = self.options
        notes: list[str] = []
        self.spec = options.spec or load(f"{options.bundle}/config.json", notes=notes)
        for note in notes:
            self.settings.log.warn(note)
        told = CreateOptions(options.bundle, console_socket=options.console_socket)
        told.foreground = not options.detach and not options.console_socket
        check_terminal(self.spec, told)
        self._root = root_path(self.spec, options.bundle)
        self._prepare_record()

    def _prepare_record(self) -> None:
        from pyrunc.cgroups import driver, host

        spec, settings = self.spec, self.settings
        linux = spec.get("linux", {})
        self._layout: Layout = host.detect(required=not settings.no_cgroups)
        self.driver: Driver = driver.open_driver(
            self._layout,
            linux.get("cgroupsPath", ""),
            self.id,
            systemd=settings.systemd_cgroup,
            annotations=spec.get("annotations"),
            disabled=settings.no_cgroups,
        )
        self.record = first_record(
            settings, self.id, self.options.bundle, spec, self.driver.to_state()
        )

    def carry_out(self) -> None:
        """Restore the container, or leave nothing behind.

        :raises Error: also when a signal interrupts it.
        """
        interrupts = Interrupts()
        try:
            interrupts.hold()
            self.entry = Store(self.settings.root).reserve(self.id)
            self._reserved = True
            interrupts.let_through()
            self.entry.save(self.record)
            self.entry.save_config(self.spec)
            self._have_restored()
            self._finish()
        except BaseException as error:
            interrupts.ignore()
            if self._reserved:
                self._undo(keep_cgroup=isinstance(error, CgroupTaken))
            if isinstance(error, Interrupted):
                raise Error(f"restoring container {self.id} was {error}; it is undone") from None
            if why := failure_of_the_machine(error):
                raise Error(f"cannot restore container {self.id}: {why}") from None
            raise
        finally:
            interrupts.end()

    def close(self) -> None:
        """Close what is open; the container lives on."""
        for descriptor in self._descriptors:
            posix.close(descriptor)
        self._descriptors.clear()
        self.entry.close()

    def _have_restored(self) -> None:
        places = Places(self.options, _LOG)
        try:
            told = manifest.read(places.images)
            if told.config is not None:
                given = ("profile",) if self.options.lsm_profile else ()
                fingerprint.check(told.config, self.spec, given)
            pages.check(places.images, self.options.image_path)
            known = told.mounts is not None
            self._restrictions = told.restrictions if known else attributes.expected(self.spec)
        finally:
            places.close()
        self._make_cgroup()
        root.make_places(self._root, self.options.bundle, self.spec)
        asked = self._asked(told)
        self._give_stdio()
        for name in _DIRECTORIES:
            posix.mkdir(name, 0o700, dir_fd=self.entry.directory)
        private = root.PrivateMounts(
            self._root, self.options.image_path, self.entry.path, self.spec, self._layout
        )
        criu = Criu(
            self.options.criu,
            [inherited["fd"] for inherited in asked["inherit_fd"]],
            entered=self._entered,
            namespaces=_CLONE_NEWNS,
            before=private.make,
        )
        try:
            for line in told.check(self.spec, criu.version):
                self.settings.log.debug(line)
            self.settings.trace.mark("prepare for CRIU")
            if yard.is_wanted(self._layout, criu.version):
                asked["cgroup_yard"] = private.yard
            self._restore_with(criu, {**asked, "root": private.root}, private.images)
        finally:
            criu.close()
        self.settings.trace.mark("have CRIU restore the processes")
        for name in _DIRECTORIES:
            posix.rmdir(name, dir_fd=self.entry.directory)

    def _restore_with(self, criu: Criu, asked: dict[str, Any], images: str) -> None:
        self._criu = criu
        self.record["criu"] = {"pid": criu.pid, "startTime": process_stat.start_time(criu.pid)}
        places = Places(self.options, _LOG, criu=criu.pid, images=images)
        try:
            answer = criu.carry_out(
                messages.RESTORE,
                {**asked, "images_dir_fd": places.images},
                self._notice,
                work=places.work,
                log=_LOG,
                log_path=places.log,
                tick=told_by(self.options),
            )
        finally:
            places.close()
            if self.options.progress:
                self.options.progress(None)
        self._take((answer.get("restore") or {}).get("pid", 0))

    def _make_cgroup(self) -> None:
        driver = self.driver
        driver.check_free()
        if not self._created_late:
            driver.create(self._resources)
            driver.create_rest(self._resources)
            driver.apply_early(self._resources)

    @property
    def _created_late(self) -> bool:
        """Whether the cgroups come with init: systemd makes them for it, or CRIU has made them."""
        return self.driver.needs_process or self.options.manage_cgroups_mode == "strict"

    @property
    def _resources(self) -> Mapping[str, Any]:
        return self.spec.get("linux", {}).get("resources") or {}

    def _asked(self, told: Manifest) -> dict[str, Any]:
        options, spec = self.options, self.spec
        asked = common(options, spec)
        outer = mounts.expected(spec) if told.mounts is None else told.mounts
        sources = mounts.sources(outer, spec, options.bundle, self.driver.paths())
        asked |= {
            "rst_sibling": True,
            "ext_mnt": [{"key": place, "val": source} for place, source in sources.items()],
            "inherit_fd": self._inherited_stdio(told),
            "cg_root": self._cgroup_roots(),
        }
        for name in ("lsm_profile", "lsm_mount_context"):
            if value := getattr(options, name):
                asked[name] = value
        for kind, descriptor in outside.open_namespaces(spec):
            self._descriptors.append(descriptor)
            if name := outside.name_of(kind):
                asked["inherit_fd"].append({"key": name, "fd": descriptor})
            else:
                self._entered.append(descriptor)
        return asked

    def _inherited_stdio(self, told: Manifest) -> list[dict[str, Any]]:
        """Return what CRIU is to use in the place of what was outside."""
        return [
            {"key": name, "fd": self._copy(number)}
            for number, name in enumerate(told.stdio)
            if name
        ]

    def _give_stdio(self) -> None:
        """Make our stdin, stdout and stderr the user namespace's, as `create` does."""
        process = self.spec.get("process")
        if not process or manifest.namespaces_of(self.spec).get("user") != "new":
            return
        from pyrunc.container.making.idmap import ids_of
        from pyrunc.process.mapped_ids import outside as seen_outside
        from pyrunc.process.program import give_stdio

        uids = ids_of(self.spec, -1, "").uids
        give_stdio(seen_outside(uids, (process.get("user") or {}).get("uid", 0)))

    def _copy(self, number: int) -> int:
        try:
            descriptor = posix.dup(number)
        except OSError:
            descriptor = posix.open("/dev/null", posix.O_RDWR | files.O_CLOEXEC)
        self._descriptors.append(descriptor)
        return descriptor

    def _cgroup_roots(self) -> list[dict[str, str]]:
        """Return where the saved container's cgroups are now: another id may have another path."""
        layout = self._layout
        found = []
        for controller, directory in self.driver.paths().items():
            mount = layout.mounts[controller] if controller else layout.unified
            found.append({"ctrl": controller, "path": directory.removeprefix(mount) or "/"})
        return found

    def _notice(self, script: str, pid: int, descriptor: int) -> None:
        """Do what is to be done at a moment of the restore."""
        if script == "setup-namespaces":
            self._take(pid)
            assert self._criu is not None
            self._criu.watch(pid, self.pidfd)
            self._enter_cgroup()
            self._run_hooks()
        elif script == "post-restore":
            self._take(pid)
            if manifest.namespaces_of(self.spec).get("mount") == "new":
                attributes.set_missing(self.pid, self._restrictions)
        elif script == "orphan-pts-master":
            self._take_terminal(descriptor)
        elif script == "pre-resume" and self.options.lsm_profile:
            labels.enforce({self.pid, *self.driver.processes()}, self.options.lsm_profile)

    def _take(self, pid: int) -> None:
        """Have the container's init on record."""
        if not pid or pid == self.pid:
            return
        self.pid = pid
        self.pidfd = p.pidfd_open(pid)
        if self.pidfd >= 0:
            self._descriptors.append(self.pidfd)
        self.record["pid"] = pid
        self.record["startTime"] = process_stat.start_time(pid)
        self.entry.save(self.record)

    def _enter_cgroup(self) -> None:
        """Bring init into its cgroups before it has children, who are born there then."""
        if self._created_late:
            self.driver.create(self._resources)
            self.driver.create_rest(self._resources)
            self.driver.apply_early(self._resources)
        self.driver.attach(self.pid)

    def _run_hooks(self) -> None:
        hooks = self.spec.get("hooks", {})
        state = states.hook_state(self.record, states.CREATING, self.pid)
        for kind in ("prestart", "createRuntime"):
            run_hooks(kind, hooks.get(kind) or [], state, self.pidfd)  # type: ignore[arg-type]

    def _take_terminal(self, master: int) -> None:
        if not self.options.console_socket:
            self.master = posix.dup(master)
            self._descriptors.append(self.master)
            return
        send_to_socket(self.options.console_socket, master, b"/dev/ptmx", "the terminal")

    def _finish(self) -> None:
        self.driver.apply_late(self._resources)
        self.record["phase"] = states.CREATED
        del self.record["criu"]
        self.record["cgroup"] = self.driver.to_state()
        self.entry.save(self.record)
        if self.options.pid_file:
            from pyrunc.container.record.pid_file import write_pid_file

            write_pid_file(self.options.pid_file, self.pid)
            self._wrote_pid_file = True
        if hooks := (self.record.get("hooks") or {}).get("poststart"):
            state = states.hook_state(self.record, states.RUNNING, self.pid)
            run_hooks("poststart", hooks, state)
        self.entry.unlock()

    def _undo(self, *, keep_cgroup: bool) -> None:
        """Leave nothing of a failed restore; what cannot be undone is only warned about."""
        log = self.settings.log
        if self.pid and process_stat.is_running(self.pid, self.record["startTime"]):
            # A child that is not waited for: its number is its own.
            posix.kill(self.pid, p.SIGKILL)
        if self.pid:
            p.reap(self.pid, self.pidfd)
        try:
            if not keep_cgroup:
                remove_cgroup(self.driver)
        except (OSError, Error) as error:
            log.warn(f"cannot remove the container's cgroup: {reason(error)}")
        try:
            if self._wrote_pid_file:
                posix.unlink(self.options.pid_file)
            self.entry.remove()
        except (OSError, Error) as error:
            log.warn(f"cannot remove what was made so far: {reason(error)}")
        if self.pid:
            hooks = (self.record.get("hooks") or {}).get("poststop")
            run_poststop(self.settings, hooks, states.hook_state(self.record, states.STOPPED, 0))
        self.close()
