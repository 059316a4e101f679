"""Reading all that can be read of a process's cgroups."""

from __future__ import annotations

import os
import re
from pathlib import Path

#: What the kernel measures or counts, moves through, or hands out; not what a runtime sets.
MEASURED = re.compile(
    r"usage|stat$|\.stat\.|procs$|tasks$|threads$|events|pressure|numa|failcnt|current$|peak$"
    r"|event_control|force_empty|io_service|slabinfo|prioidx|reclaim$|cgroup\.kill$|uclamp\.eff"
)


def directories_of(pid: int, mounts: Path) -> dict[str, Path]:
    """Return the cgroups of a process by hierarchy, as seen below ``mounts``."""
    found = {}
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        name = controllers.removeprefix("name=") if controllers else "unified"
        top = mounts / name
        if not controllers and not top.exists():
            top = mounts
        if top.exists():
            found[name] = top / path.lstrip("/")
    return found


def values_of(directories: dict[str, Path]) -> dict[str, str]:
    """Return the contents of every file of the cgroups and of those below, by its name."""
    values = {}
    for hierarchy, directory in directories.items():
        for where, below, names in os.walk(directory):
            inside = os.path.relpath(where, directory)
            for name in below:
                values[os.path.normpath(f"{hierarchy}/{inside}/{name}/")] = "a directory"
            for name in names:
                if not MEASURED.search(name):
                    key = os.path.normpath(f"{hierarchy}/{inside}/{name}")
                    values[key] = _contents(Path(where, name))
    return values


def _contents(path: Path) -> str:
    """Some files can only be written; some do not work with what the machine has.

    The order of the exceptions in devices.list means nothing, and is no runtime's choice alone.
    """
    try:
        text = path.read_text().strip()
        return "\n".join(sorted(text.splitlines())) if path.name == "devices.list" else text
    except OSError as error:
        return f"cannot be read: {error.strerror}"
