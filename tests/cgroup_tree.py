"""The machine's cgroups by name: most tests look for their containers' own when they are over."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MOUNTS = "/sys/fs/cgroup"


def cgroups_named(*names: str) -> list[str]:
    """Return the paths of all cgroups of these names, of all hierarchies, from the top down."""

    def in_no_hierarchy(top: str) -> list[str]:
        return [name for name in names if os.path.isdir(f"{top}/{name}")]

    return list(_found(set(names).__contains__, in_no_hierarchy))


def cgroups_beginning(start: str) -> list[str]:
    """Return the paths of all cgroups whose names begin so, in every hierarchy."""
    return list(_found(lambda name: name.startswith(start), os.listdir))


def _found(
    is_wanted: Callable[[str], bool], in_no_hierarchy: Callable[[str], list[str]]
) -> Iterator[str]:
    """Look through all hierarchies, and at the top of what only looks like one.

    Other runtimes take the directory of a v1 controller for a hierarchy also when none is mounted
    there, and leave thousands of directories in it: to look into each took longer than most tests.
    """
    if os.path.exists(f"{MOUNTS}/cgroup.procs"):
        tops = [MOUNTS]
    else:
        tops = [path for path, _ in _directories(MOUNTS)]
        yield from [path for path in tops if is_wanted(os.path.basename(path))]
    for top in tops:
        if os.path.ismount(top):
            yield from [path for path in _below(top) if is_wanted(os.path.basename(path))]
        else:
            yield from [f"{top}/{name}" for name in in_no_hierarchy(top) if is_wanted(name)]


def _below(directory: str) -> Iterator[str]:
    """Return the paths of all cgroups below one; those further up come first."""
    left = [directory]
    while left:
        for path, has_some in _directories(left.pop()):
            yield path
            if has_some:
                left.append(path)


def _directories(directory: str) -> list[tuple[str, bool]]:
    """Return the directories in one, each with whether it has some itself.

    What others remove meanwhile is left out, and so is what no path is short enough for.
    """
    found = []
    with contextlib.suppress(OSError), os.scandir(directory) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                if entry.is_dir(follow_symlinks=False):
                    # Each directory in it has a link to it, beside its own two.
                    found.append((entry.path, entry.stat(follow_symlinks=False).st_nlink > 2))
    return found
