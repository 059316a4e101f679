"""The cgroup v2 driver: one directory of the unified hierarchy, files written directly."""

from __future__ import annotations

import posix
from errno import EBUSY, EEXIST, ENOENT

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

_LONGEST_FREEZE = 10.0


class DriverV2(cgroupfs.FilesDriver):
    """A container's cgroup in the unified hierarchy."""

    __slots__ = ("_directory", "_mount")

    def __init__(
        self, paths: dict[str, str], *, mount: str = "/sys/fs/cgroup", ignore_errors: bool = False
    ) -> None:
        #: Empty when there is none, which only a rootless runtime may live with.
        self._directory = paths.get("", "")
        self._mount = mount
        self._ignore_errors = ignore_errors

    def paths(self) -> dict[str, str]:
        """Return the container's directory, under the key ""."""
        return {"": self._directory} if self._directory else {}

    @property
    def restricts_devices(self) -> bool:
        """Whether there is what keeps device rules."""
        return bool(self._directory)

    def to_state(self) -> dict[str, Any]:
        """Return what `from_state` needs to find the cgroup again."""
        return {
            "version": 2,
            "paths": self.paths(),
            "mount": self._mount,
            "ignoreErrors": self._ignore_errors,
        }

    def check_free(self) -> None:
        """Make sure that nobody uses the cgroup, if it is there.

        :raises CgroupTaken: when it has processes in it or is frozen.
        """
        if not self._directory:
            return
        tree.refuse_processes(self._directory)
        if self.frozen():
            raise cgroupfs.CgroupTaken(
                f"container's cgroup is frozen: thaw {self._directory} first, or use another"
            )

    def create(self, resources: Mapping[str, Any], *, rest_later: bool = False) -> None:
        """Make the directory, with every controller that there is enabled on the way down.

        And say which devices may be used.

        :raises CgroupTaken: when somebody has come to use it since :meth:`check_free`.
        :raises Error: when it cannot be made.
        """
        try:
            self._make()
        except OSError as error:
            why = f"cannot make cgroup {self._directory}: {reason(error)}"
            if not self._may_ignore(error):
                raise Error(why) from None
            from pyrunc.cgroups.refusals import WITHOUT_RIGHTS
            from pyrunc.cgroups.unkept import check_limits

            check_limits(resources, f"{why}; {WITHOUT_RIGHTS}")
            self._directory = ""
        self.restrict_devices(resources)

    def _make(self) -> None:
        path = self._mount
        *parents, last = [x for x in self._directory[len(self._mount) :].split("/") if x]
        for name in parents:
            _enable_controllers(path)
            path = f"{path}/{name}"
            try:
                posix.mkdir(path, 0o755)
            except OSError as error:
                if error.errno != EEXIST:
                    raise
        _enable_controllers(path)
        try:
            posix.mkdir(f"{path}/{last}", 0o755)
        except OSError as error:
            if error.errno != EEXIST:
                raise
            tree.refuse_processes(self._directory)

    def make_missing(self) -> None:
        """Make what systemd has not.

        :raises Error: naming the cgroup that cannot be made.
        """
        try:
            files.make_directories(self._directory, 0o755)
        except OSError as error:
            raise Error(f"cannot make cgroup {self._directory}: {reason(error)}") from None

    def create_rest(self, resources: Mapping[str, Any]) -> None:
        """Do nothing: a process is born into the cgroup, so that must be there."""

    def open_entrance(self, *, beside: int = 0) -> Entrance:
        """Return what lets a process be born in the cgroup; ``beside`` as for :meth:`attach`."""
        if not self._directory:
            return Entrance()
        try:
            return Entrance(cgroupfs.open_directory(self._directory))
        except OSError as error:
            if beside and error.errno == ENOENT:
                return self._at(self._cgroup_of(beside, ENOENT)).open_entrance()
            raise Error(f"cannot open cgroup {self._directory}: {reason(error)}") from None

    def attach(self, pid: int, *, beside: int = 0) -> None:
        """Move the process into the cgroup.

        A container that has made cgroups below its own and given them controllers lets no process
        into its own any more (cgroup-v2.rst, "No Internal Process Constraint"). And one whose
        processes have all been moved elsewhere may have lost its own.

        :param beside: a process of the container whose cgroup will do then.
        """
        if not self._directory:
            return
        try:
            files.write_file(f"{self._directory}/cgroup.procs", b"%d" % pid)
        except OSError as error:
            if beside and error.errno in (EBUSY, ENOENT):
                self._at(self._cgroup_of(beside, error.errno)).attach(pid)
            elif not self._may_ignore(error):
                raise Error(
                    f"cannot add process {pid} to cgroup {self._directory}: {reason(error)}"
                ) from None

    def _at(self, directory: str) -> DriverV2:
        return DriverV2({"": directory}, mount=self._mount, ignore_errors=self._ignore_errors)

    def _cgroup_of(self, pid: int, why: int) -> str:
        """Return the directory of the cgroup that a process is in.

        It must lie below the container's, unless (``why`` is ENOENT) that is gone.
        """
        from pyrunc.cgroups.host import cgroups_of

        try:
            path = cgroups_of(pid).get("", "")
        except OSError as error:
            raise Error(
                f"cannot find the cgroup of the container's process {pid}: {reason(error)}"
            ) from None
        directory = f"{self._mount}{path}"
        if why != ENOENT and not directory.startswith(f"{self._directory}/"):
            raise Error(
                f"process {pid} is in cgroup {path or '/'}, which is not below the container's, "
                f"{self._directory}"
            )
        return directory

    def apply_early(self, resources: Mapping[str, Any]) -> None:
        """Set everything but devices, memory, cpu and pids."""
        from pyrunc.cgroups.v2_limits import early_writes

        for name, value in early_writes(resources):
            self._set(name, value)

    def apply_late(self, resources: Mapping[str, Any]) -> None:
        """Set memory, cpu and pids."""
        from pyrunc.cgroups.v2_limits import late_writes

        cgroupfs.set_in_any_order(self._set, late_writes(resources))

    def check_before_update(self, resources: Mapping[str, Any]) -> None:
        """``checkBeforeUpdate``: refuse what would have processes killed at once."""
        memory = resources.get("memory") or {}
        limit = memory.get("limit")
        if self._directory and memory.get("checkBeforeUpdate") and limit and limit > 0:
            usage = int(cgroupfs.read(self._directory, "memory.current"))
            cgroupfs.refuse_below_usage(self._directory, "memory.max", limit, usage)

    def restrict_devices(self, resources: Mapping[str, Any]) -> None:
        """Replace the program that judges the use of devices."""
        if not self._directory:
            self._without_device_rules(resources)
            return
        from pyrunc.cgroups import device_filter
        from pyrunc.cgroups.devices import rules_for

        code = device_filter.program(device_filter.fold(rules_for(resources.get("devices"))))
        directory = cgroupfs.open_directory(self._directory)
        try:
            device_filter.attach(directory, code)
        except OSError as error:
            # In a user namespace nobody may; devices cannot be made there either.
            if not self._may_ignore(error):
                raise Error(
                    f"cannot attach the device filter to {self._directory}: {reason(error)}"
                ) from None
            self._without_device_rules(resources)
        finally:
            posix.close(directory)

    def _without_device_rules(self, resources: Mapping[str, Any]) -> None:
        from pyrunc.cgroups.unkept import NO_DEVICE_FILTER, check_device_rules

        check_device_rules(resources, NO_DEVICE_FILTER, in_user_namespace=self._ignore_errors)

    def _set(self, name: str, value: str) -> None:
        """Write one value; ``file=value|file`` are ways to try, ``file?`` may be missing."""
        if not self._directory:
            if cgroupfs.is_no_limit(value):
                return
            from pyrunc.cgroups.refusals import WITHOUT_RIGHTS

            raise Error(
                f"setting {name.rstrip('?').partition('=')[0]}: the container has no cgroup of its "
                f"own, as this user may not make one; {WITHOUT_RIGHTS}"
            )
        optional = name.endswith("?")
        preferred, bar, last = name.rstrip("?").partition("|")
        if bar:
            file, _, other = preferred.partition("=")
            try:
                cgroupfs.write(self._directory, file, other)
                return
            except cgroupfs.SettingFailed as error:
                if error.errno != ENOENT:
                    raise
        file = last or preferred
        try:
            cgroupfs.write(self._directory, file, value)
        except cgroupfs.SettingFailed as error:
            if error.errno == ENOENT and optional:
                return
            if error.errno == ENOENT:
                controller = file.partition(".")[0]
                available = cgroupfs.read(self._directory, "cgroup.controllers").split()
                if controller not in available and controller != "cgroup":
                    raise Error(f"{error}; the controller {controller} is not enabled") from None
            raise

    def processes(self) -> list[int]:
        """Return the pids in the container's cgroup and all below it."""
        return tree.processes_below(self._directory) if self._directory else []

    def freeze(self) -> None:
        """Stop all processes and wait until they are."""
        self._need_directory("pause")
        cgroupfs.write(self._directory, "cgroup.freeze", "1")
        waited, pause = 0.0, 0.0005
        while "frozen 1" not in cgroupfs.read(self._directory, "cgroup.events"):
            if waited > _LONGEST_FREEZE:
                cgroupfs.write(self._directory, "cgroup.freeze", "0")
                raise Error(f"cannot freeze cgroup {self._directory}: some process does not stop")
            p.poll((), pause)
            waited += pause
            pause = min(pause * 2, 0.02)

    def thaw(self) -> None:
        """Let all processes go on."""
        self._need_directory("resume")
        cgroupfs.write(self._directory, "cgroup.freeze", "0")

    def thaw_all(self) -> None:
        """Do nothing: on v2 a process that is stopped can be killed (cgroup-v2.rst)."""

    def frozen(self) -> bool:
        """Tell whether the processes are stopped, or are being stopped."""
        return is_frozen(2, self.paths())

    def _need_directory(self, doing: str) -> None:
        if not self._directory:
            raise Error(f"cannot {doing}: the container has no cgroup of its own")

    def signal_all(self, signal: int) -> None:
        """Send ``signal`` to every process; SIGKILL in one move, where the kernel can (5.14)."""
        if not self._directory:
            return
        try:
            self._signal(signal)
        except (OSError, cgroupfs.SettingFailed):
            if self.processes():
                raise  # Else systemd has removed it, as it does that of an empty scope.

    def _signal(self, signal: int) -> None:
        if signal == p.SIGKILL:
            try:
                cgroupfs.write(self._directory, "cgroup.kill", "1")
                return
            except cgroupfs.SettingFailed as error:
                if error.errno != ENOENT:
                    raise
        was_frozen = self.frozen()
        self.freeze()
        try:
            tree.signal_below(self._directory, signal)
        finally:
            if not was_frozen or signal == p.SIGKILL:
                self.thaw()

    def remove_empty(self) -> bool:
        """Remove the cgroup if there is nothing in it; tell whether it is gone."""
        return not self._directory or tree.remove_leaf(self._directory)

    def destroy(self) -> None:
        """Remove the cgroup and all below it.

        :raises Error: when it stays busy.
        """
        if self._directory:
            tree.remove_once_empty(self._directory, self._may_ignore)

    def statistics(self) -> dict[str, Any]:
        """Return the ``data`` of a stats event."""
        from pyrunc.cgroups.v2_statistics import statistics

        self._need_directory("read statistics")
        return statistics(self._directory)

    def watch_oom(self) -> NoOomWatch:
        """Listen for out-of-memory kills from now on."""
        from pyrunc.cgroups.oom import NoOomWatch, OomWatchV2

        return OomWatchV2(self._directory) if self._directory else NoOomWatch()


def _enable_controllers(path: str) -> None:
    """Give the children of ``path`` all controllers that it has itself.

    Together if the kernel takes them, else each that it takes. With processes in the cgroup
    (EBUSY) none is enabled: some would be taken, and make the children's type invalid. What is
    missing is reported when a limit needs it.
    """
    available = cgroupfs.read(path, "cgroup.controllers").split()
    enabled = cgroupfs.read(path, "cgroup.subtree_control").split()
    wanted = [f"+{name}" for name in available if name not in enabled]
    if not wanted:
        return
    try:
        files.write_file(f"{path}/cgroup.subtree_control", " ".join(wanted).encode())
        return
    except OSError as error:
        if error.errno == EBUSY:
            return
    for name in wanted:
        try:
            files.write_file(f"{path}/cgroup.subtree_control", name.encode())
        except OSError:
            continue
