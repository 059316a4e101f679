"""What can be told of a container that has lost its record and its config: whose are processes?

Its directory may be what a create left that was killed before there was either, and the cgroup of
its name somebody else's. Certain is one thing: who waits for the start holds the directory's fifo.
"""

from __future__ import annotations

import posix

from pyrunc.cgroups.driver import from_state
from pyrunc.errors import Error, reason
from pyrunc.linux import files, process_stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyrunc.container.record.entry import Entry
    from pyrunc.container.record.record import Record
    from pyrunc.container.settings import Settings


def find_processes(
    settings: Settings, entry: Entry, record: Record, cgroup: dict[str, Any]
) -> None:
    """Put into ``record`` what is certain to be the container's; warn of what may be.

    The container's directory is locked: nobody is about to make it, or to start it.

    :param cgroup: where its processes would be by its id.
    """
    pid = _waiting_init(entry.directory)
    if pid:
        record["pid"], record["startTime"] = pid, process_stat.start_time(pid)
        # It may have been collected since: its number alone tells nothing.
        if pid != _waiting_init(entry.directory):
            del record["pid"], record["startTime"]
            pid = 0
    try:
        members = from_state(cgroup).processes() if cgroup else []
    except (OSError, Error) as error:
        settings.log.debug(f"the cgroup of {entry.id} is unknown: {reason(error)}")
        return
    if pid in members:
        record["cgroup"] = cgroup
        record["sharedPidNamespace"] = True
    elif members:
        shown = " ".join(map(str, members[:10])) + (" and others" if len(members) > 10 else "")
        settings.log.warn(
            f"container {entry.id} has neither state.json nor config.json any more: nothing tells "
            f"whether the processes in the cgroup of its name are its own, so they are left alone; "
            f"if they are, kill them: {shown}"
        )


def _waiting_init(directory: int) -> int:
    """Return the pid of the init that waits for the start, or 0.

    It alone has the fifo open for both directions; others look at it in passing.
    """
    try:
        fifo = posix.stat("exec.fifo", dir_fd=directory, follow_symlinks=False)
    except OSError:
        return 0
    for name in posix.listdir("/proc"):
        if name.isdigit() and _holds(name, fifo):
            return int(name)
    return 0


def _holds(pid: str, fifo: posix.stat_result) -> bool:
    try:
        for number in posix.listdir(f"/proc/{pid}/fd"):
            path = f"/proc/{pid}/fd/{number}"
            # The name first: looking at a file may mean to wait for a server.
            if not posix.readlink(path).endswith("/exec.fifo"):
                continue
            held = posix.stat(path)
            if (held.st_dev, held.st_ino) == (fifo.st_dev, fifo.st_ino):
                words = files.read_file(f"/proc/{pid}/fdinfo/{number}").split()
                flags = int(words[words.index(b"flags:") + 1], 8)
                return flags & posix.O_ACCMODE == posix.O_RDWR
    except OSError:
        # It has ended, or is another user's.
        pass
    return False
