"""`run`: create and start in one, and in the foreground stay until the container ends."""

from __future__ import annotations

from pyrunc.container.delete import remove_unless_gone
from pyrunc.container.making.create import Creation
from pyrunc.container.start import RemoveAfter, Starting, has_manager, plan_start
from pyrunc.container.undertaking import RuntimeStep
from pyrunc.linux import processes as p

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.container.making.create_options import CreateOptions
    from pyrunc.container.record.record import Record
    from pyrunc.container.settings import Settings
    from pyrunc.process.foreground import Relay


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
        running = Running(settings, creation)
        running.carry_out(
            plan_run(
                creation.record,
                notifies=has_manager(),
                detach=detach,
                keep=keep,
                adopt=not no_subreaper,
            )
        )
        return running.status
    finally:
        creation.close()


def plan_run(
    record: Record, *, notifies: bool, detach: bool, keep: bool, adopt: bool
) -> tuple[RuntimeStep, ...]:
    """Plan what follows the creation of a container. Pure.

    :param adopt: whether orphans of the container become children of this process.
    """
    start = plan_start(record, notifies=notifies, stays=not detach)
    if detach:
        return (RemoveAfter(BaseException), *start)
    steps = (RemoveAfter(BaseException), StandInFront(adopt), *start, AwaitEnd())
    return steps if keep else (*steps, Remove())


class Running(Starting):
    """A container that is run: from its creation to its end."""

    def __init__(self, settings: Settings, creation: Creation) -> None:
        super().__init__(settings, creation.entry, creation.record)
        self.creation = creation
        self.relay: Relay | None = None
        self.status = 0

    def close(self) -> None:
        """Give signals and terminal back, too."""
        super().close()
        if self.relay is not None:
            self.relay.__exit__()


class StandInFront(RuntimeStep):
    """Take over signals and terminal, for the container.

    With ``adopt``, the orphans that it leaves behind become ours.
    """

    adopt: bool

    def describe(self) -> str:
        return "take over signals and terminal"

    def apply(self, doing: Running) -> None:
        from pyrunc.process.foreground import Relay

        if self.adopt:
            p.prctl(p.PR_SET_CHILD_SUBREAPER, 1)
        doing.signals = doing.relay = relay = Relay(adopt=self.adopt)
        if doing.creation.master >= 0:
            relay.show(doing.creation.master)


class AwaitEnd(RuntimeStep):
    """Wait until the container's process ends."""

    def describe(self) -> str:
        return "wait for the container to end"

    def apply(self, doing: Running) -> None:
        assert doing.relay is not None
        creation = doing.creation
        doing.status = doing.relay.wait(creation.pid, creation.pidfd, doing.notify)
        if doing.status == _KILLED:
            from pyrunc.container.out_of_memory import warn_of_kills

            warn_of_kills(doing.settings, doing.entry, doing.record)


class Remove(RuntimeStep):
    """Remove the container, still shielded: the signals were for it, and it is gone.

    Should this fail, it is tried once more in undoing: a machine may be short of something for a
    moment.
    """

    def describe(self) -> str:
        return "remove the container"

    def apply(self, doing: Running) -> None:
        remove_unless_gone(doing.settings, doing.entry, doing.record, doing.signals)
