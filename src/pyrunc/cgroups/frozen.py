"""Whether a container's processes are stopped by their cgroup.

Every command asks, and few need more of the cgroups: the drivers stay out of it.
"""

from __future__ import annotations

import posix
from errno import ENODEV, ENOENT

from pyrunc.linux import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping


def is_frozen(version: int, paths: Mapping[str, str]) -> bool:
    """Tell whether the processes are stopped, or are being stopped.

    :param paths: the container's directory by controller, as the drivers have it.
    :raises OSError: when the cgroup cannot be read; one that is gone is not frozen.
    """
    controller, name = ("", "cgroup.freeze") if version == 2 else ("freezer", "freezer.state")
    directory = paths.get(controller)
    if not directory:
        return False
    try:
        state = files.read_file(f"{directory}/{name}").strip()
    except OSError as error:
        if error.errno not in (ENOENT, ENODEV):
            raise
        return False
    return state in (b"1", b"FROZEN", b"FREEZING")


def may_be_frozen_below(version: int, paths: Mapping[str, str]) -> bool:
    """Tell whether there are v1 cgroups below the container's, which may be frozen on their own.

    Their processes cannot die before they are thawed. On v2 they can.
    """
    directory = paths.get("freezer")
    if version == 2 or not directory:
        return False
    try:
        # Its name, its "." and the ".." of each directory in it (kernfs counts like that).
        return posix.stat(directory).st_nlink > 2
    except OSError:
        return False
