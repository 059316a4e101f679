"""`run`: create and start in one, and in the foreground stay until the container ends."""

from __future__ import annotations

from pyrunc.container.delete import remove
from pyrunc.container.making.create import Creation
from pyrunc.container.start import start_entry, start_notify, warn_if_killed
from pyrunc.errors import Error, NotFound
from pyrunc.linux import processes as p

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.container.making.create_options import CreateOptions
    from pyrunc.container.settings import Settings
    from pyrunc.process.foreground import Relay
    from pyrunc.process.notify import Proxy


#: The exit status that stands for SIGKILL.
_KILLED = 128 + p.SIGKILL


def run(
    settings: Settings,
    container_id: str,
    options: CreateOptions,
    *,
    detach: bool = False,
    keep: bool = False,
    no_subreaper: bool = False,
) -> int:
    """Run a container; return the exit status of its process, or 0 when detached.

    In the foreground the container is deleted at its end unless ``keep``.

    :raises Error: when it cannot be created or started; nothing is left then.
    """
    options.foreground = not detach
    creation = Creation(settings, container_id, options)
    creation.load()
    creation.carry_out()
    try:
        if detach:
            try:
                notify = _start(settings, creation)
            except (OSError, Error):
                _remove(settings, creation)
                raise
            warn_if_killed(settings, creation.entry, creation.record)
            if notify is not None:
                notify.wait_until_ready(creation.pid, creation.record["startTime"])
            return 0
        return _in_the_foreground(settings, creation, keep=keep, adopt=not no_subreaper)
    finally:
        creation.close()


def _in_the_foreground(settings: Settings, creation: Creation, *, keep: bool, adopt: bool) -> int:
    from pyrunc.process.foreground import Relay

    try:
        if adopt:
            p.prctl(p.PR_SET_CHILD_SUBREAPER, 1)
        relay = Relay(adopt=adopt)
    except OSError:
        _remove(settings, creation)
        raise
    with relay:
        try:
            if creation.master >= 0:
                relay.show(creation.master)
            notify = _start(settings, creation, relay)
            settings.trace.mark("start")
            settings.trace.collect()
            status = relay.wait(creation.pid, creation.pidfd, notify)
            settings.trace.mark("wait for the container to end")
            if status == _KILLED:
                from pyrunc.container.out_of_memory import warn_of_kills

                warn_of_kills(settings, creation.entry, creation.record)
            # Still shielded: the signals were for the container, and it is gone.
            if not keep:
                _remove(settings, creation, relay)
                settings.trace.mark("delete")
        except (OSError, Error):
            # Also when it was the removal that failed: a machine may be short of something
            # for a moment.
            _remove(settings, creation, relay)
            raise
    return status


def _start(settings: Settings, creation: Creation, relay: Relay | None = None) -> Proxy | None:
    notify = start_notify(settings, creation.entry)
    start_entry(settings, creation.entry, creation.record, relay)
    return notify


def _remove(settings: Settings, creation: Creation, relay: Relay | None = None) -> None:
    entry = creation.entry
    try:
        if not entry.locked:
            entry.lock()
    except NotFound:
        # Somebody else deleted it meanwhile.
        return
    remove(settings, entry, creation.record, relay)
