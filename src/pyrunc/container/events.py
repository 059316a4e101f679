"""What happens in a container, as it happens: statistics at intervals, out-of-memory kills."""

from __future__ import annotations

import time

from pyrunc.container.record import state as states
from pyrunc.container.record.store import Store
from pyrunc.errors import Error, WrongStatus
from pyrunc.linux import processes as p

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from pyrunc.container.settings import Settings


def events(settings: Settings, container_id: str, interval: float) -> Iterator[dict[str, Any]]:
    """Yield events until the container ends: ``stats`` every ``interval`` seconds, and ``oom``.

    :raises WrongStatus: when the container is stopped to begin with.
    """
    from pyrunc.cgroups.driver import from_state

    entry = Store(settings.root).open(container_id)
    try:
        record = entry.load()
        if states.status_of(entry, record) == states.STOPPED:
            raise WrongStatus(f"container with id {container_id} is not running")
    finally:
        entry.close()
    init = p.open_process(record["pid"], record["startTime"])
    if init is None:
        raise WrongStatus(f"container with id {container_id} is not running")
    driver = from_state(record["cgroup"])
    watch = driver.watch_oom()
    try:
        next_statistics = time.monotonic()
        while True:
            timeout = max(0.0, next_statistics - time.monotonic())
            ended = init.wait(timeout, (watch.descriptor,))
            if p.poll((watch.descriptor,), 0) and watch.take():
                yield {"type": "oom", "id": container_id}
            if ended:
                return
            if time.monotonic() >= next_statistics:
                next_statistics += interval
                try:
                    data = driver.statistics()
                except (OSError, Error) as error:
                    settings.log.warn(f"cannot read statistics: {error}")
                    continue
                yield {"type": "stats", "id": container_id, "data": data}
    finally:
        watch.close()
        init.close()
