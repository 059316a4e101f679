"""`restore` in the foreground: what the container prints is shown, its end is the command's."""

from __future__ import annotations

from pyrunc.container.delete import remove
from pyrunc.errors import NotFound
from pyrunc.linux import processes as p
from pyrunc.process.foreground import Relay

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.checkpoint.restore import Restoration


def show(restoration: Restoration, *, adopt: bool) -> int:
    """Wait for the container's end, delete it and return the exit status of its process.

    :param adopt: collect its orphans as well.
    """
    try:
        if adopt:
            p.prctl(p.PR_SET_CHILD_SUBREAPER, 1)
        relay = Relay(adopt=adopt)
    except OSError:
        _remove(restoration)
        raise
    with relay:
        try:
            if restoration.master >= 0:
                relay.show(restoration.master)
            return relay.wait(restoration.pid, restoration.pidfd)
        finally:
            _remove(restoration, relay)


def _remove(restoration: Restoration, relay: Relay | None = None) -> None:
    try:
        restoration.entry.lock()
    except NotFound:
        # Somebody else deleted it meanwhile.
        return
    remove(restoration.settings, restoration.entry, restoration.record, relay)
