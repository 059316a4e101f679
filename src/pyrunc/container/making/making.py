"""What the runtime knows while it makes a container."""

from __future__ import annotations

import posix

from pyrunc.cgroups.entrance import Entrance
from pyrunc.container.record import state as states
from pyrunc.container.record.store import Store
from pyrunc.container.undertaking import Birth
from pyrunc.errors import Error
from pyrunc.linux import process_stat
from pyrunc.linux import processes as p
from pyrunc.process import channel
from pyrunc.process.failure import describe_failure, parse_failure
from pyrunc.process.hooks import with_pid
from pyrunc.process.late import RESULT, START
from pyrunc.spec import json_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from pyrunc.cgroups.driver import Driver
    from pyrunc.cgroups.resctrl import Group
    from pyrunc.container.making.builder import Handover
    from pyrunc.container.making.create_options import CreateOptions
    from pyrunc.container.making.interrupts import Interrupts
    from pyrunc.container.making.net_devices import NetDevices
    from pyrunc.container.making.remembered import Planned
    from pyrunc.container.record.entry import Entry
    from pyrunc.container.settings import Settings
    from pyrunc.plan.facts import Facts
    from pyrunc.plan.plan import Plan

#: What the builder and init say when all is well.
_WELL = (
    channel.HOOKS,
    channel.NET_DEVICES,
    channel.TERMINAL,
    channel.LISTENER,
    channel.READY,
)


class Making(Birth):
    """A container in the making: what the steps of the runtime find out and share."""

    def __init__(self, settings: Settings, container_id: str, options: CreateOptions) -> None:
        super().__init__(settings)
        self.id = container_id
        self.bundle = options.bundle
        self.options = options
        self.store = Store(settings.root)
        self.plan: Plan
        self.facts: Facts
        #: What is remembered of containers like this one.
        self.planned: Planned | None = None
        self.driver: Driver
        #: The container's place in the store, once it is reserved.
        self.entry: Entry
        self.reserved = False
        self.interrupts: Interrupts
        #: Whether the builder was born in the container's cgroups.
        self.in_cgroup = False
        self.entrance = Entrance()
        #: What is being gathered for the builder, until it is born.
        self.handover: Handover | None = None
        #: Namespaces to join, until the builder has them.
        self.joined: dict[str, int] = {}
        #: What the terminal comes through, where it cannot be taken from the builder.
        self.socket = -1
        #: The terminal's master, for a foreground run.
        self.master = -1
        #: The start fifo of an init that goes into another's pid namespace.
        self.start_fifo = -1
        self.net_devices: NetDevices | None = None
        self.resctrl: Group | None = None

    @property
    def resources(self) -> Mapping[str, Any]:
        """``linux.resources``."""
        return self.spec.get("linux", {}).get("resources") or {}

    def state_json(self, pid: int) -> bytes:
        """Return the state that hooks get on stdin (runtime.md, "State")."""
        state = {
            "ociVersion": self.spec["ociVersion"],
            "id": self.id,
            "status": states.CREATING,
            "pid": 0,
            "bundle": self.bundle,
            "annotations": self.spec.get("annotations") or {},
        }
        return with_pid(json_text.encode(state).encode(), pid)

    def note_process(self) -> None:
        """Write the process down in the record, which is not saved yet."""
        self.record["pid"] = self.pid
        self.record["startTime"] = process_stat.start_time(self.pid)

    def hear(self, kind: bytes) -> bytes:
        """Return the builder's (or init's) next message, which is to be of this kind.

        :raises Error: when it has failed instead, with the reason.
        """
        message = channel.receive(self.up)
        if message[:1] != kind:
            raise failure_told(message)
        return message

    def undo(self, error: BaseException) -> None:
        """Leave nothing of a failed create: no process, no cgroup, no directory."""
        # It takes descriptors, and there may be no more.
        self.close_the_builders()
        super().undo(error)
        self.close()

    def hear_failure(self) -> None:
        """:raises Error: when the builder has failed by now, with the reason."""
        if p.poll((self.up,), 0):
            message = channel.receive(self.up)
            if message[:1] not in _WELL:
                raise failure_told(message)

    def close_the_builders(self) -> None:
        """Close what the builder has by now, or will not get any more."""
        if handover := self.handover:
            self.handover = None
            fixed = (handover.up, handover.down, handover.init, handover.proc)
            ways = (handover.socket, *(handover.known.get(n.name, -1) for n in (START, RESULT)))
            for descriptor in (*fixed, *ways, *handover.opened.descriptors()):
                if descriptor >= 0:
                    posix.close(descriptor)
        self.close_joined()
        self.entrance.close()

    def close_joined(self) -> None:
        """Close the namespaces to join."""
        while self.joined:
            posix.close(self.joined.popitem()[1])

    def close(self) -> None:
        """Close what is open; the container lives on."""
        self.close_the_builders()
        self.entrance.close()
        super().close()
        if self.net_devices:
            self.net_devices.close()
            self.net_devices = None
        if self.reserved:
            self.entry.close()


def failure_told(message: bytes) -> Error:
    """Return the error for what the builder or init has said of its failure; or for no word."""
    if message[:1] == channel.FAILED:
        return Error(f"unable to start container process: {channel.failure_text(message)}")
    failure = parse_failure(message)
    if failure is None:
        return channel.dead("the container's init")
    return Error(f"unable to start container process: {describe_failure(failure)}")
