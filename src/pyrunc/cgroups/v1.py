"""The cgroup v1 driver: one directory in each hierarchy, files written directly."""

from __future__ import annotations

import posix
from errno import EEXIST, ENOENT

from pyrunc.cgroups import cgroupfs, tree
from pyrunc.cgroups.entrance import Entrance
from pyrunc.cgroups.frozen import is_frozen
from pyrunc.errors import Error, reason
from pyrunc.linux import files
from pyrunc.linux import processes as p

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from pyrunc.cgroups.oom import NoOomWatch

_LONGEST_FREEZE = 2.0


class DriverV1(cgroupfs.FilesDriver):
    """A container's cgroups in the v1 hierarchies, and in the v2 one beside them."""

    __slots__ = ("_later", "_paths")

    def __init__(self, paths: dict[str, str], *, ignore_errors: bool = False) -> None:
        self._paths = paths
        self._ignore_errors = ignore_errors
        #: Whether the v1 cgroups are left for later.
        self._later = False

    def paths(self) -> dict[str, str]:
        """Return the container's directory by controller."""
        return self._paths

    @property
    def restricts_devices(self) -> bool:
        """Whether there is what keeps device rules."""
        return "devices" in self._paths

    def to_state(self) -> dict[str, Any]:
        """Return what `from_state` needs to find the cgroups again."""
        return {"version": 1, "paths": self._paths, "ignoreErrors": self._ignore_errors}

    def check_free(self) -> None:
        """Make sure that nobody uses the cgroups, if they are there.

        :raises CgroupTaken: when one has processes in it or is frozen.
        """
        for path in self._paths.values():
            tree.refuse_processes(path)
        if self.frozen():
            raise cgroupfs.CgroupTaken(
                f"container's cgroup is frozen: thaw {self._freezer()} first, or use another"
            )

    def create(self, resources: Mapping[str, Any], *, rest_later: bool = False) -> None:
        """Make the directories, and say which devices may be used.

        The device rules come before the first process: they start with "deny all", and while
        they are written a builder that is in there already could not make its nodes.

        :param rest_later: leave all that a process need not be born in to :meth:`create_rest`.
        :raises CgroupTaken: when somebody has come to use one since :meth:`check_free`.
        :raises Error: naming the cgroup that cannot be made.
        """
        self._later = rest_later
        self._make_all([c for c in self._paths if not (c and rest_later)])
        if not rest_later:
            self.restrict_devices(resources)

    def create_rest(self, resources: Mapping[str, Any]) -> None:
        """Do what :meth:`create` has left.

        :raises Error: as there.
        """
        if self._later:
            self._later = False
            self._make_all([c for c in self._paths if c])
            self.restrict_devices(resources)

    def make_missing(self) -> None:
        """Make what systemd has not: it uses only some of the hierarchies.

        :raises Error: naming the cgroup that cannot be made.
        """
        for controller, path in self._paths.items():
            try:
                files.make_directories(path, 0o755)
                if controller == "cpuset":
                    cgroupfs.inherit_cpuset(path)
            except OSError as error:
                raise Error(f"cannot make cgroup {path}: {reason(error)}") from None

    def _make_all(self, controllers: list[str]) -> None:
        for controller in controllers:
            path = self._paths[controller]
            try:
                self._make(controller, path)
                if controller == "cpuset":
                    # One that was there may be as empty as a new one.
                    cgroupfs.inherit_cpuset(path)
            except OSError as error:
                if not self._may_ignore(error):
                    raise Error(f"cannot make cgroup {path}: {reason(error)}") from None
                del self._paths[controller]

    def _make(self, controller: str, path: str) -> None:
        try:
            posix.mkdir(path, 0o755)
        except OSError as error:
            if error.errno == EEXIST:
                tree.refuse_processes(path)
                return
            if error.errno != ENOENT:
                raise
            # From the outermost on: what is inherited comes from above.
            for parent in files.make_directories(path.rpartition("/")[0], 0o755):
                if controller == "cpuset":
                    cgroupfs.inherit_cpuset(parent)
            posix.mkdir(path, 0o755)

    def open_entrance(self, *, beside: int = 0) -> Entrance:
        """Return what lets a process get in by itself.

        :param beside: a process of the container whose cgroup will do where its own is gone.
        """
        entrance = Entrance()
        limit = posix.sysconf("SC_OPEN_MAX")
        for controller, path in self._paths.items():
            if controller and self._later:
                entrance.later.append(path)
                continue
            try:
                try:
                    _open_into(entrance, controller, path)
                except FileNotFoundError:
                    if not beside:
                        raise
                    from pyrunc.cgroups.host import v1_directory_of

                    # Gone as well when the container is just being deleted.
                    _open_into(entrance, controller, v1_directory_of(beside, controller))
            except OSError as error:
                if not self._may_ignore(error):
                    entrance.close()
                    raise Error(f"cannot open cgroup {path}: {reason(error)}") from None
            if entrance.give_up_if_crowded(limit):
                break
        return entrance

    def attach(self, pid: int, *, beside: int = 0) -> None:
        """Move the process into all cgroups; ``beside`` matters on v2 only."""
        for path in self._paths.values():
            try:
                files.write_file(f"{path}/cgroup.procs", b"%d" % pid)
            except OSError as error:
                if not self._may_ignore(error):
                    raise Error(
                        f"cannot add process {pid} to cgroup {path}: {reason(error)}"
                    ) from None

    def apply_early(self, resources: Mapping[str, Any]) -> None:
        """Set everything but devices, memory, shares and quota of cpu, and pids."""
        from pyrunc.cgroups.v1_limits import early_writes

        cgroupfs.set_in_any_order(self._set, early_writes(resources))

    def apply_late(self, resources: Mapping[str, Any]) -> None:
        """Set memory, cpu and pids."""
        from pyrunc.cgroups.v1_limits import late_writes

        cgroupfs.set_in_any_order(self._set, late_writes(resources))

    def check_before_update(self, resources: Mapping[str, Any]) -> None:
        """``checkBeforeUpdate``: refuse what the kernel may try to reach by killing."""
        memory = resources.get("memory") or {}
        path, limit = self._paths.get("memory"), memory.get("limit")
        if path and memory.get("checkBeforeUpdate") and limit and limit > 0:
            usage = int(cgroupfs.read(path, "memory.usage_in_bytes"))
            cgroupfs.refuse_below_usage(path, "memory.limit_in_bytes", limit, usage)

    def restrict_devices(self, resources: Mapping[str, Any]) -> None:
        """Write the device rules, one after the other: the v1 kernel takes no list at once."""
        path = self._paths.get("devices")
        if path is None:
            from pyrunc.cgroups.unkept import NO_DEVICES_HIERARCHY, check_device_rules

            user = self._ignore_errors
            check_device_rules(resources, NO_DEVICES_HIERARCHY, in_user_namespace=user)
            return
        from pyrunc.cgroups.devices import rules_for, v1_writes

        directory = cgroupfs.open_directory(path)
        opened: dict[str, int] = {}
        try:
            for name, line in v1_writes(rules_for(resources.get("devices"))):
                if name not in opened:
                    flags = posix.O_WRONLY | files.O_CLOEXEC
                    opened[name] = posix.open(name, flags, dir_fd=directory)
                try:
                    posix.write(opened[name], line.encode())
                except OSError as error:
                    raise cgroupfs.SettingFailed(path, name, line, error) from None
        except OSError as error:
            if not self._may_ignore(error):
                raise Error(f"cannot set the device rules of {path}: {reason(error)}") from None
        finally:
            posix.close(directory)
            for descriptor in opened.values():
                posix.close(descriptor)

    def _set(self, controller: str, name: str, value: str) -> None:
        """Write one value.

        ``a|b`` are names to try, ``name?`` may be missing, ``name!`` must have an effect.
        """
        path = self._paths.get(controller)
        if path is None and cgroupfs.is_no_limit(value):
            return
        if path is None:
            from pyrunc.cgroups import host
            from pyrunc.cgroups.refusals import without_controller

            mount = host.detect().mounts.get(controller, "")
            raise Error(without_controller(controller, name.rstrip("?!"), mount))
        names = name.rstrip("?!").split("|")
        for index, candidate in enumerate(names):
            try:
                cgroupfs.write(path, candidate, value)
                if name.endswith("!"):
                    cgroupfs.refuse_without_effect(path, candidate, int(value))
                return
            except cgroupfs.SettingFailed as error:
                if error.errno == ENOENT and (index + 1 < len(names) or name.endswith("?")):
                    continue
                raise

    def processes(self) -> list[int]:
        """Return the pids in the container's cgroup and all below it."""
        return tree.processes_below(self._main())

    def _main(self) -> str:
        """The hierarchy whose word counts; any would do."""
        for controller in ("devices", "pids", "freezer", "memory"):
            if controller in self._paths:
                return self._paths[controller]
        return next(iter(self._paths.values()), "")

    def freeze(self) -> None:
        """Stop all processes and wait until they are."""
        path = self._freezer()
        waited = 0.0
        pause = 0.0005
        while True:
            # The kernel may be stuck half-way when a process is just forking: asking again,
            # with a short thaw now and then, gets it through (freezer-subsystem.rst).
            cgroupfs.write(path, "freezer.state", "FROZEN")
            if cgroupfs.read(path, "freezer.state").strip() == "FROZEN":
                return
            if waited > _LONGEST_FREEZE:
                cgroupfs.write(path, "freezer.state", "THAWED")
                raise Error(f"cannot freeze cgroup {path}: some process does not stop")
            p.poll((), pause)
            waited += pause
            pause = min(pause * 2, 0.02)
            if pause >= 0.016:
                cgroupfs.write(path, "freezer.state", "THAWED")

    def thaw(self) -> None:
        """Let all processes go on."""
        cgroupfs.write(self._freezer(), "freezer.state", "THAWED")

    def thaw_all(self) -> None:
        """Let all processes go on that are to die, also those that were stopped further below."""
        if "freezer" in self._paths:
            tree.thaw_below(self._paths["freezer"])

    def frozen(self) -> bool:
        """Tell whether the processes are stopped, or are being stopped."""
        return is_frozen(1, self._paths)

    def _freezer(self) -> str:
        path = self._paths.get("freezer")
        if path is None:
            raise Error("cannot pause or resume: the freezer cgroup is not there")
        return path

    def signal_all(self, signal: int) -> None:
        """Send ``signal`` to every process; for SIGKILL, until there are none."""
        for _ in range(50):
            pids = self.processes()
            if not pids:
                return
            self._signal_frozen(signal)
            if signal != p.SIGKILL:
                return
            p.poll((), 0.002)
        raise Error(f"cannot kill all processes of cgroup {self._main()}")

    def _signal_frozen(self, signal: int) -> None:
        """While frozen, no process can fork away or give its number to another."""
        can_freeze = "freezer" in self._paths
        was_frozen = self.frozen()
        if can_freeze and not was_frozen:
            try:
                self.freeze()
            except Error:
                can_freeze = False
        try:
            tree.signal_below(self._main(), signal)
        finally:
            if can_freeze and signal == p.SIGKILL:
                self.thaw_all()
            elif can_freeze and not was_frozen:
                self.thaw()

    def remove_empty(self) -> bool:
        """Remove the cgroups if there is nothing in them; tell whether they are gone."""
        # Where processes are looked for comes first: while one is there, so is that.
        paths = dict.fromkeys((self._main(), *self._paths.values()))
        return all(tree.remove_leaf(path) for path in paths if path)

    def destroy(self) -> None:
        """Remove the cgroups and all below them.

        :raises Error: when one stays busy.
        """
        for path in self._paths.values():
            tree.remove_once_empty(path, self._may_ignore)

    def statistics(self) -> dict[str, Any]:
        """Return the ``data`` of a stats event."""
        from pyrunc.cgroups.v1_statistics import statistics

        return statistics(self._paths)

    def watch_oom(self) -> NoOomWatch:
        """Listen for out-of-memory kills from now on."""
        from pyrunc.cgroups.oom import NoOomWatch, OomWatchV1

        path = self._paths.get("memory")
        return OomWatchV1(path) if path else NoOomWatch()


def _open_into(entrance: Entrance, controller: str, path: str) -> None:
    """Add what leads into one cgroup."""
    if controller:
        flags = posix.O_WRONLY | files.O_CLOEXEC
        entrance.tasks.append((path, posix.open(f"{path}/tasks", flags)))
    else:
        entrance.birthplace = cgroupfs.open_directory(path)
