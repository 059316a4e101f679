"""No cgroups at all: what ``--cgroup-manager disabled`` asks for.

The container stays in the cgroups of whoever calls; nothing is limited, counted or frozen.
"""

from __future__ import annotations

from pyrunc.cgroups.entrance import Entrance
from pyrunc.cgroups.oom import NoOomWatch
from pyrunc.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, NoReturn

WHY = "the container has no cgroups (--cgroup-manager disabled)"
#: In the record, where the others have that of their hierarchy.
VERSION = 0


class NoCgroups:
    """In the place of a driver."""

    needs_process = False
    #: Nobody keeps device rules.
    restricts_devices = False

    def paths(self) -> dict[str, str]:
        """Return none."""
        return {}

    def to_state(self) -> dict[str, Any]:
        """Return what `from_state` knows this by."""
        return {"version": VERSION, "paths": {}}

    def check_free(self) -> None:
        """Do nothing: nothing can be taken."""

    def create(self, resources: Mapping[str, Any], *, rest_later: bool = False) -> None:
        """:raises Error: for limits, which nobody would keep."""
        from pyrunc.cgroups.unkept import check_limits

        check_limits(resources, WHY)

    def make_missing(self) -> None:
        """Do nothing."""

    def create_rest(self, resources: Mapping[str, Any]) -> None:
        """Do nothing."""

    def open_entrance(self, *, beside: int = 0) -> Entrance:
        """Return none."""
        return Entrance()

    def attach(self, pid: int, *, beside: int = 0) -> None:
        """Do nothing."""

    def apply(self, resources: Mapping[str, Any]) -> None:
        """:raises Error: for limits and device rules."""
        self.create(resources)
        self.restrict_devices(resources)

    def check_before_update(self, resources: Mapping[str, Any]) -> None:
        """Do nothing."""

    def restrict_devices(self, resources: Mapping[str, Any]) -> None:
        """:raises Error: for rules that are asked for."""
        from pyrunc.cgroups.unkept import check_device_rules

        check_device_rules(resources, WHY, in_user_namespace=False)

    def apply_early(self, resources: Mapping[str, Any]) -> None:
        """Do nothing: :meth:`create` has refused everything."""

    def apply_late(self, resources: Mapping[str, Any]) -> None:
        """Do nothing."""

    def processes(self) -> list[int]:
        """Return none: nobody knows."""
        return []

    def freeze(self) -> None:
        """:raises Error: always."""
        self._refuse("pause")

    def thaw(self) -> None:
        """:raises Error: always."""
        self._refuse("resume")

    def thaw_all(self) -> None:
        """Do nothing: nothing can have been frozen here."""

    def frozen(self) -> bool:
        """Return False."""
        return False

    def signal_all(self, signal: int) -> None:
        """Do nothing: what init's pid namespace does not end lives on."""

    def remove_empty(self) -> bool:
        """Return True: there is nothing to remove."""
        return True

    def destroy(self) -> None:
        """Do nothing."""

    def statistics(self) -> dict[str, Any]:
        """:raises Error: always."""
        self._refuse("read statistics")

    def watch_oom(self) -> NoOomWatch:
        """Return one that never sees any."""
        return NoOomWatch()

    def _refuse(self, doing: str) -> NoReturn:
        raise Error(f"cannot {doing}: {WHY}")
