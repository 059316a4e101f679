"""Saying that it was want of memory that a container's program died of, as nobody else does.

The kernel kills without a word to the caller: `run` ends with 137, as if somebody had sent a
SIGKILL, and with a small limit that may be before the program's first instruction.
"""

from __future__ import annotations

from pyrunc.cgroups.usage import usage_of
from pyrunc.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.container.record.entry import Entry
    from pyrunc.container.record.record import Record
    from pyrunc.container.settings import Settings


def warn_of_kills(settings: Settings, entry: Entry, record: Record) -> None:
    """Warn when the kernel has killed processes of the container for want of memory.

    systemd removes a scope's cgroup, and what it counted, as soon as it is empty: then nothing is
    known.
    """
    cgroup = record.get("cgroup") or {}
    kills = usage_of(cgroup.get("paths") or {}, cgroup.get("version", 1)).oom_kills
    if not kills:
        return
    processes = "a process" if kills == 1 else f"{kills} processes"
    message = f"container {entry.id}: the kernel has killed {processes} of it for want of memory"
    if limit := _limit_of(entry):
        message += f", of which it may have {limit} bytes (linux.resources.memory.limit)"
    settings.log.warn(message)


def _limit_of(entry: Entry) -> int:
    try:
        resources = entry.load_config().get("linux", {}).get("resources") or {}
    except (OSError, Error):
        return 0
    limit: int = (resources.get("memory") or {}).get("limit") or 0
    return max(0, limit)
