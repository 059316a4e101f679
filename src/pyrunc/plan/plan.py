"""The plan: all that will be done to make a container, in order, before any of it is done."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.container.undertaking import RuntimeStep
    from pyrunc.process.launch import LaunchProgram
    from pyrunc.process.namespaces import Namespaces
    from pyrunc.rootfs.devices import MakeDevice
    from pyrunc.rootfs.mount import BindMount
    from pyrunc.step import Step


class Plan:
    """The ordered steps of a container, grouped by the process that carries them out.

    Pure data: making one touches nothing, so it can be shown (`pyrunc plan`) and
    tested without privilege.
    """

    __slots__ = (
        "builder",
        "devices_of_runtime",
        "init",
        "namespaces",
        "opened_by_runtime",
        "runtime",
        "served",
        "warnings",
    )

    def __init__(
        self,
        namespaces: Namespaces,
        builder: tuple[Step, ...],
        opened_by_runtime: tuple[BindMount, ...],
        devices_of_runtime: tuple[MakeDevice, ...],
        init: tuple[LaunchProgram, ...],
        served: LaunchProgram | None,
        warnings: list[str],
    ) -> None:
        self.namespaces = namespaces
        #: Steps of the runtime; :func:`pyrunc.container.making.runtime_plan.plan_container` adds
        #: them, as they are about records and processes.
        self.runtime: tuple[RuntimeStep, ...] = ()
        #: Steps of the builder, inside the new namespaces.
        self.builder = builder
        #: Bind mounts whose source the runtime opens: the builder, root only of a user
        #: namespace, might not be let through to it, or the mount needs an id mapping.
        self.opened_by_runtime = opened_by_runtime
        #: Devices that the runtime makes, as the builder, root only of a user namespace, cannot;
        #: of those that every container has, the ones that the host lacks.
        self.devices_of_runtime = devices_of_runtime
        #: What the builder becomes then: one launch program, or two when a pid namespace is
        #: joined, the second for a process that can be seen there.
        self.init = init
        #: What init is to be told through a socket, and has a child carry out, if it does.
        self.served = served
        #: What the config asks for in vain.
        self.warnings = warnings

    def again(self) -> Plan:
        """Return the plan for another container of the same config, without the runtime's steps."""
        return Plan(
            self.namespaces,
            self.builder,
            self.opened_by_runtime,
            self.devices_of_runtime,
            self.init,
            self.served,
            self.warnings,
        )
