"""Podman in a room of its own, and what its containers may leave."""

from __future__ import annotations

import time
from pathlib import Path

from engine_room import (
    CONTAINERS_CONF,
    Room,
    root_archive,
    runtime_path,
)
from same_commands import Engine

STORAGE_CONF = """\
[storage]
driver = "overlay"
graphroot = "{directory}/graph"
runroot = "/run/containers/storage"
"""


class Podman(Engine):
    """The command, in a room of its own with an image ``box``."""

    program = "podman"

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        conf = directory / "containers.conf"
        conf.write_text(CONTAINERS_CONF.format(runtime=runtime_path()))
        storage = directory / "storage.conf"
        storage.write_text(STORAGE_CONF.format(directory=directory))
        paths = {"CONTAINERS_CONF": str(conf), "CONTAINERS_STORAGE_CONF": str(storage)}
        self.room = Room(directory, paths)
        self("import", root_archive(directory), "box", check=True)

    def close(self) -> None:
        self("rm", "-fa", "-t", "0")
        self.room.close()


def cgroups() -> set[str]:
    """Return the cgroups of Podman's containers; the one for its conmons is its own."""
    found = Path("/sys/fs/cgroup").glob("*/libpod_parent/*/")
    return {str(path) for path in found if path.name != "conmon"}


def leftovers(podman: Podman) -> list[str]:
    """Return what containers may have left: cgroups, mounts, conmons."""
    mounts = podman.room("cat", "/proc/self/mountinfo").stdout
    processes = podman.room("ps", "-eo", "args").stdout.splitlines()
    left = [
        line
        for line in mounts.splitlines()
        if "/merged " in line or "/shm " in line.split(" - ")[0]
    ]
    left = [line for line in left if str(podman.directory) in line]
    left += [line for line in processes if line.startswith(("/usr/bin/conmon", "sleep 1000"))]
    return left + podman.out("ps", "-aq").split()


def leftovers_in_the_end(podman: Podman, before: set[str]) -> list[str]:
    """Return what is left after a while: Podman cleans up behind the command's back."""
    end = time.monotonic() + 15
    while (left := leftovers(podman) + sorted(cgroups() - before)) and time.monotonic() < end:
        time.sleep(0.1)
    return left
