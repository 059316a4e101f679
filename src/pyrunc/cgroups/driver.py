"""Picking the driver that fits the host, or the one that a container was made with."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from pyrunc.cgroups.host import Layout
    from pyrunc.cgroups.none import NoCgroups
    from pyrunc.cgroups.systemd import DriverSystemd
    from pyrunc.cgroups.v1 import DriverV1
    from pyrunc.cgroups.v2 import DriverV2

    Driver = DriverV1 | DriverV2 | DriverSystemd | NoCgroups


def open_driver(
    layout: Layout,
    cgroups_path: str,
    container_id: str,
    *,
    systemd: bool = False,
    ignore_errors: bool = False,
    annotations: Mapping[str, str] | None = None,
    disabled: bool = False,
) -> Driver:
    """Return the driver for a new container's cgroups; nothing is made yet.

    :raises Error: when the path is refused or the host lacks what is asked for.
    """
    if disabled:
        from pyrunc.cgroups.none import NoCgroups

        return NoCgroups()
    if systemd:
        from pyrunc.cgroups.systemd import open_systemd_driver

        driver = open_systemd_driver(
            layout, cgroups_path, container_id, user=ignore_errors, ignore_errors=ignore_errors
        )
        driver.add_properties(annotations or {})
        return driver
    from pyrunc.cgroups.paths import paths_for

    paths = paths_for(layout, cgroups_path, container_id)
    if layout.version == 2:
        from pyrunc.cgroups.v2 import DriverV2

        return DriverV2(paths, mount=layout.unified, ignore_errors=ignore_errors)
    from pyrunc.cgroups.v1 import DriverV1

    return DriverV1(paths, ignore_errors=ignore_errors)


def from_state(saved: dict[str, Any]) -> Driver:
    """Return the driver for a container's cgroups from what its record holds."""
    driver = files_driver(saved)
    scope = saved.get("systemd")
    if scope:
        from pyrunc.cgroups.systemd import DriverSystemd

        return DriverSystemd(driver, scope["unit"], scope["slice"], user=scope["user"])
    return driver


def files_driver(saved: dict[str, Any]) -> DriverV1 | DriverV2 | NoCgroups:
    """Return the driver for what is in a container's cgroups, whoever has made them.

    For a process that joins a running container: its scope of systemd's is there.
    """
    ignore_errors = saved.get("ignoreErrors", False)
    if saved.get("version") == 2:
        from pyrunc.cgroups.v2 import DriverV2

        return DriverV2(saved["paths"], mount=saved["mount"], ignore_errors=ignore_errors)
    if saved.get("version") == 0:
        from pyrunc.cgroups.none import NoCgroups

        return NoCgroups()
    from pyrunc.cgroups.v1 import DriverV1

    return DriverV1(saved["paths"], ignore_errors=ignore_errors)
