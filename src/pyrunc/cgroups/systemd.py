"""The systemd cgroup driver: systemd makes the cgroup, as a transient scope.

On a machine that systemd manages it owns the tree of cgroups; engines ask for
this driver with ``--systemd-cgroup`` and a cgroupsPath of the form
``SLICE:PREFIX:NAME``. The scope has ``Delegate=yes``, so what is below it is
ours; limits are set both as unit properties (so that systemd knows them, and
keeps them across a daemon-reload) and in the files, by the ordinary driver.
"""

from __future__ import annotations

from pyrunc.cgroups import cgroupfs
from pyrunc.cgroups.entrance import Entrance
from pyrunc.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from pyrunc.cgroups.host import Layout
    from pyrunc.cgroups.none import NoCgroups
    from pyrunc.cgroups.oom import NoOomWatch
    from pyrunc.cgroups.systemd_bus import Bus, Property
    from pyrunc.cgroups.v1 import DriverV1
    from pyrunc.cgroups.v2 import DriverV2

_UNLIMITED = (1 << 64) - 1
_DEFAULT_PREFIX = "pyrunc"


class DriverSystemd:
    """A scope of systemd's, and the ordinary driver for what is in it."""

    #: A scope of systemd's is there only once it has its first process.
    needs_process = True

    def __init__(
        self, files_driver: DriverV1 | DriverV2 | NoCgroups, unit: str, slice_: str, *, user: bool
    ) -> None:
        self._files = files_driver
        self._unit = unit
        self._slice = slice_
        self._user = user
        self._resources: Mapping[str, Any] = {}
        self._extra: list[Property] = []
        #: Between `create` and `attach` a unit of the name can only be another's.
        self._has_unit = True

    def paths(self) -> dict[str, str]:
        """Return the container's directory by controller."""
        return self._files.paths()

    @property
    def restricts_devices(self) -> bool:
        """Whether there is what keeps device rules."""
        return self._files.restricts_devices

    def to_state(self) -> dict[str, Any]:
        """Return what `from_state` needs to find scope and cgroups again."""
        scope = {"unit": self._unit, "slice": self._slice, "user": self._user}
        return {**self._files.to_state(), "systemd": scope}

    def add_properties(self, annotations: Mapping[str, str]) -> None:
        """Take over ``org.systemd.property.NAME`` annotations."""
        from pyrunc.cgroups.systemd_properties import from_annotations

        self._extra = from_annotations(annotations)

    def check_free(self) -> None:
        """Make sure that nobody uses the cgroups, if they are there.

        :raises CgroupTaken: when one has processes in it or is frozen.
        """
        self._files.check_free()

    def create(self, resources: Mapping[str, Any], *, rest_later: bool = False) -> None:
        """Keep in mind what the scope is to have: it needs its first process to start."""
        self._resources = resources
        self._has_unit = False

    def create_rest(self, resources: Mapping[str, Any]) -> None:
        """Do nothing: systemd makes the cgroups at once."""

    def open_entrance(self) -> Entrance:
        """Return none: processes are moved into a scope, by systemd."""
        return Entrance()

    def attach(self, pid: int) -> None:
        """Start the scope with its first process.

        :raises CgroupTaken: when there is a unit of this name already.
        """
        properties: list[Property] = [
            ("Description", "s", f"pyrunc container {self._unit}"),
            ("Slice", "s", self._slice),
            ("PIDs", "au", [pid]),
            ("Delegate", "b", True),
            ("DefaultDependencies", "b", False),
            ("MemoryAccounting", "b", True),
            ("CPUAccounting", "b", True),
            ("IOAccounting", "b", True),
            ("TasksAccounting", "b", True),
            *self._extra,
        ]
        bus = self._bus()
        try:
            # The name may be taken by a scope of an earlier container that failed.
            bus.reset_failed(self._unit)
            self._start(bus, properties)
            self._has_unit = True
            self._tell(bus, self._resources)
        finally:
            bus.close()
        self._join_the_rest(pid)

    def _start(self, bus: Bus, properties: list[Property]) -> None:
        from pyrunc.cgroups.systemd_bus import BusCallFailed

        try:
            bus.start_scope(self._unit, properties)
        except BusCallFailed as error:
            if not error.name.endswith(".UnitExists"):
                raise
            raise cgroupfs.CgroupTaken(
                f"{error}; name another unit in linux.cgroupsPath, or stop that one"
            ) from None

    def _join_the_rest(self, pid: int) -> None:
        """Of the v1 hierarchies systemd uses only some: make and join the others ourselves."""
        self._files.make_missing()
        self._files.restrict_devices(self._resources)
        self._files.attach(pid)

    def _version(self) -> int:
        return int(self._files.to_state()["version"])

    def _bus(self) -> Bus:
        from pyrunc.cgroups.systemd_bus import Bus

        return Bus(user=self._user)

    def apply(self, resources: Mapping[str, Any]) -> None:
        """Set limits, for systemd and in the files."""
        self._files.check_before_update(resources)
        bus = self._bus()
        try:
            self._tell(bus, resources)
        finally:
            bus.close()
        self._files.apply(resources)

    def _tell(self, bus: Bus, resources: Mapping[str, Any]) -> None:
        """Set the properties of the scope that stand for the limits."""
        from pyrunc.cgroups.systemd_properties import IDLE, IDLE_SINCE, from_resources

        properties = from_resources(resources, self._version())
        if IDLE in properties and bus.version() < IDLE_SINCE:
            properties.remove(IDLE)
        if properties:
            bus.set_properties(self._unit, properties)

    def apply_early(self, resources: Mapping[str, Any]) -> None:
        """Set everything but devices, memory, cpu and pids."""
        self._files.apply_early(resources)

    def apply_late(self, resources: Mapping[str, Any]) -> None:
        """Set memory, cpu and pids."""
        self._files.apply_late(resources)

    def remove_empty(self) -> bool:
        """Return False: systemd is to be told."""
        return False

    def destroy(self) -> None:
        """Stop the scope and remove what is left of the cgroups."""
        if self._has_unit:
            bus = self._bus()
            try:
                bus.stop_unit(self._unit)
                bus.reset_failed(self._unit)
            finally:
                bus.close()
        self._files.destroy()

    def processes(self) -> list[int]:
        """Return the pids in the container's cgroup and all below it."""
        return self._files.processes()

    def freeze(self) -> None:
        """Stop all processes and wait until they are."""
        self._files.freeze()

    def thaw(self) -> None:
        """Let all processes go on."""
        self._files.thaw()

    def thaw_all(self) -> None:
        """Let all processes go on that are to die."""
        self._files.thaw_all()

    def frozen(self) -> bool:
        """Tell whether the processes are stopped, or are being stopped."""
        return self._files.frozen()

    def signal_all(self, signal: int) -> None:
        """Send ``signal`` to every process."""
        self._files.signal_all(signal)

    def statistics(self) -> dict[str, Any]:
        """Return the ``data`` of a stats event."""
        return self._files.statistics()

    def watch_oom(self) -> NoOomWatch:
        """Listen for out-of-memory kills from now on."""
        return self._files.watch_oom()


def scope_of(cgroups_path: str, container_id: str, *, user: bool) -> tuple[str, str]:
    """Return the slice and the unit that ``SLICE:PREFIX:NAME`` stands for.

    :raises Error: for any other form.
    """
    if not cgroups_path:
        parts = ["", _DEFAULT_PREFIX, container_id]
    else:
        parts = cgroups_path.split(":")
        if len(parts) != 3:
            raise Error(
                f"cgroupsPath {cgroups_path!r} is not of the form slice:prefix:name, "
                "which --systemd-cgroup takes"
            )
    slice_, prefix, name = parts
    slice_ = slice_ or ("user.slice" if user else "system.slice")
    if not slice_.endswith(".slice") or "/" in slice_:
        raise Error(f"cgroupsPath {cgroups_path!r}: {slice_!r} is not the name of a slice")
    if name.endswith(".slice"):
        raise Error(f"cgroupsPath {cgroups_path!r}: a container's unit is a scope, not a slice")
    return slice_, f"{prefix}-{name}.scope" if prefix else f"{name}.scope"


def expand_slice(slice_: str) -> str:
    """Return where a slice lies: ``a-b.slice`` is below ``a.slice`` (systemd.slice(5))."""
    if slice_ == "-.slice":
        return ""
    path, prefix = "", ""
    for part in slice_.removesuffix(".slice").split("-"):
        if not part:
            raise Error(f"{slice_!r} is not the name of a slice")
        prefix = f"{prefix}-{part}" if prefix else part
        path += f"/{prefix}.slice"
    return path


def open_systemd_driver(
    layout: Layout, cgroups_path: str, container_id: str, *, user: bool, ignore_errors: bool
) -> DriverSystemd:
    """Return the driver for a new container; nothing is made yet."""
    slice_, unit = scope_of(cgroups_path, container_id, user=user)
    base = ""
    if user:
        from pyrunc.cgroups.systemd_bus import Bus

        bus = Bus(user=True)
        try:
            base = bus.control_group()
        finally:
            bus.close()
    inside = f"{base}{expand_slice(slice_)}/{unit}"
    if layout.version == 2:
        from pyrunc.cgroups.v2 import DriverV2

        paths = {"": f"{layout.unified}{inside}"}
        driver = DriverV2(paths, mount=layout.unified, ignore_errors=ignore_errors)
        return DriverSystemd(driver, unit, slice_, user=user)
    from pyrunc.cgroups.v1 import DriverV1

    paths = {controller: f"{mount}{inside}" for controller, mount in layout.mounts.items()}
    return DriverSystemd(DriverV1(paths, ignore_errors=ignore_errors), unit, slice_, user=user)
