"""The keeper: whatever happens to the engine or to its program, nothing of them is left.

It does nothing while they live. When the program has ended it ends the engine; when the engine has
ended, however, it removes its containers: their processes, of which the kernel has killed most by
then, cgroups, directories. Mounts were the engine's own and went with it. What a keeper that was
killed itself has left, the next one removes.
"""

from __future__ import annotations

import os
import shutil
import signal

from pyrunc.cgroups import host
from pyrunc.cgroups.paths import paths_for
from pyrunc.cgroups.tree import remove_tree
from pyrunc.container.delete import delete
from pyrunc.container.record.store import Store
from pyrunc.container.settings import Settings
from pyrunc.engine import places
from pyrunc.engine.log import Collected
from pyrunc.errors import Error
from pyrunc.linux import processes as p


def cgroup_of(name: str) -> str:
    """Return the cgroup, relative to the program's, that the containers of an engine are below."""
    return f"pyrunc-{name}"


def keep(engine: int, program: int, base: str, name: str, lock: int) -> None:
    """Wait for the end, and remove what is left.

    :param engine: the pid of the engine, a child.
    :param program: a pidfd of the program.
    :param lock: descriptor of the engine's directory, which holds the lock.
    """
    pidfd = os.pidfd_open(engine)
    # Containers that come to us are collected by the kernel.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        # An end that we are asked for is the engine's.
        signal.signal(number, lambda *_: p.pidfd_send_signal(pidfd, p.SIGKILL))
    for forsaken, its_lock in places.take_forsaken(base):
        sweep(f"{base}/{forsaken}")
        os.close(its_lock)
    if pidfd not in p.poll((pidfd, program)):
        p.pidfd_send_signal(pidfd, p.SIGKILL)
        p.poll((pidfd,))
    sweep(f"{base}/{name}")
    os.close(lock)


def note_cgroups(directory: str, name: str) -> None:
    """Write down where the engine's cgroups are: a later keeper may be in another cgroup itself."""
    paths = paths_for(host.detect(), cgroup_of(name), "").values()
    with open(f"{directory}/@cgroups", "w", errors="surrogateescape") as file:
        file.write("\n".join(dict.fromkeys(paths)))


def _noted_cgroups(directory: str) -> list[str]:
    try:
        with open(f"{directory}/@cgroups", errors="surrogateescape") as file:
            return file.read().splitlines()
    except FileNotFoundError:
        return []


def sweep(directory: str) -> None:
    """Remove all that an engine has left; what cannot be removed stays for the next keeper."""
    settings = Settings(directory, Collected(), rootless=True)
    try:
        for container in Store(directory).ids():
            delete(settings, container, force=True)
        for path in _noted_cgroups(directory):
            remove_tree(path)
    except (OSError, Error):
        return
    shutil.rmtree(directory, ignore_errors=True)
