"""The steps of the runtime that only some containers take; loaded when one does."""

from __future__ import annotations

import posix

from pyrunc.container.undertaking import RuntimeStep
from pyrunc.errors import Error, reason
from pyrunc.linux import processes as p
from pyrunc.linux import refusals
from pyrunc.plan.planner import root_path
from pyrunc.process import channel
from pyrunc.process.shared_page import failure_in, sibling_in

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.container.making.making import Making
    from pyrunc.spec.types import Hook, IntelRdt, NetDevice, Rlimit, Scheduler


class RunPoststop(RuntimeStep):
    """Should it fail, run the poststop hooks, if a builder has been there.

    runtime.md, "Lifecycle": after a failed hook it goes on at step 12.
    """

    hooks: list[Hook]

    def describe(self) -> str:
        return "should anything fail, run the poststop hooks"

    def apply(self, making: Making) -> None:
        """Do nothing."""

    def undo(self, making: Making) -> None:
        if not making.pid:
            return
        from pyrunc.container.making.interrupts import Interrupted
        from pyrunc.container.teardown import run_poststop

        stopped = making.state_json(0).replace(b'"status":"creating"', b'"status":"stopped"')
        try:
            making.interrupts.listen()
            run_poststop(making.settings, self.hooks, stopped)
        except Interrupted as interrupted:
            making.settings.log.warn(f"the poststop hooks were {interrupted}")
        finally:
            making.interrupts.ignore()


class OpenAsHost(RuntimeStep):
    """Do what root of the container's user namespace has no right to.

    ``user`` is who gets the standard streams, as it is called in the container; -1 for nobody.
    """

    user: int

    def describe(self) -> str:
        return "open what only the host's root may"

    def apply(self, making: Making) -> None:
        from pyrunc.container.making.idmap import ids_of

        handover, plan = making.handover, making.plan
        assert handover is not None
        user_namespace = handover.namespaces.get("user", -1)
        path = plan.namespaces.joined.get("user", "")
        ids = ids_of(making.spec, user_namespace, path)
        if plan.opened_by_runtime or plan.devices_of_runtime:
            from pyrunc.container.making.opened import open_for_builder

            root = root_path(making.spec, making.bundle)
            open_for_builder(handover.opened, plan, making.spec, root, user_namespace, ids)
        if self.user >= 0:
            from pyrunc.process.mapped_ids import outside
            from pyrunc.process.program import give_stdio

            give_stdio(outside(ids.uids, self.user))


class JoinResctrl(RuntimeStep):
    """``linux.intelRdt``: make the group, and move the builder in."""

    settings: IntelRdt

    beside_builder = True

    def describe(self) -> str:
        return "have the builder in its resctrl group"

    def apply(self, making: Making) -> None:
        from pyrunc.cgroups import resctrl

        making.resctrl = group = resctrl.open_group(self.settings, making.id)
        # On record before it is there, so that `delete` finds it whatever happens.
        making.record["intelRdt"] = group.to_state()
        making.entry.save(making.record)
        group.create(self.settings)
        group.attach([making.pid])

    def undo(self, making: Making) -> None:
        if making.resctrl:
            making.resctrl.destroy(undo=True)


class GiveCgroupAway(RuntimeStep):
    """Let the owner of the user namespace have the container's v2 cgroup."""

    beside_builder = True

    def describe(self) -> str:
        return "give the container's cgroup to root of the container"

    def apply(self, making: Making) -> None:
        from pyrunc.container.making.cgroup_owner import give_cgroup_away

        directory = making.driver.paths().get("")
        if not directory:
            return
        try:
            give_cgroup_away(making.spec, directory, making.pid)
        except Error as error:
            # Nobody but root may give anything away; that the config allows it is no demand.
            if not making.settings.rootless:
                raise
            making.settings.log.debug(str(error))


class TakeTerminal(RuntimeStep):
    """Take the terminal's master from the builder, and send it on; empty ``socket``: keep it."""

    socket: str

    def describe(self) -> str:
        return f"send the terminal to {self.socket}" if self.socket else "take the terminal"

    def apply(self, making: Making) -> None:
        master = _fetch(making, channel.TERMINAL, "terminal")
        if not self.socket:
            making.master = master
        else:
            from pyrunc.process.console import send_to_socket

            try:
                send_to_socket(self.socket, master, b"/dev/ptmx", "the terminal")
            finally:
                posix.close(master)
        making.let_go_on()


def _fetch(making: Making, kind: bytes, what: str) -> int:
    """Return a copy of the descriptor that the builder, or init, tells of next."""
    message = making.hear(kind)
    try:
        if making.socket >= 0 and kind == channel.TERMINAL:
            from pyrunc.linux.sockets import receive_descriptor

            return receive_descriptor(making.socket)
        return p.pidfd_getfd(making.pidfd, channel.descriptor_in(message))
    except OSError as error:
        why = reason(refusals.explained(error, "pidfd_getfd(2)"))
        raise Error(f"cannot take the container's {what}: {why}") from None


class MoveNetDevices(RuntimeStep):
    """``linux.netDevices``; undone while the builder, and its network with it, is still there."""

    devices: dict[str, NetDevice]

    def describe(self) -> str:
        return f"move network devices in: {', '.join(self.devices)}"

    def apply(self, making: Making) -> None:
        from pyrunc.container.making.net_devices import NetDevices

        making.hear(channel.NET_DEVICES)
        making.net_devices = NetDevices(making.pid)
        making.net_devices.move(self.devices)
        making.let_go_on()

    def undo(self, making: Making) -> None:
        if making.net_devices:
            for line in making.net_devices.restore():
                making.settings.log.warn(line)


class RunHooks(RuntimeStep):
    """Run the hooks of the runtime's side, when the builder has got that far."""

    hooks: dict[str, list[Hook]]

    def describe(self) -> str:
        return f"run the {' and '.join(self.hooks)} hooks"

    def apply(self, making: Making) -> None:
        from pyrunc.process.hooks import run_hooks

        making.hear(channel.HOOKS)
        state = making.state_json(making.pid)
        for kind, entries in self.hooks.items():
            run_hooks(kind, entries, state, making.pidfd)
        making.let_go_on()


class SendListener(RuntimeStep):
    """Take the listener of the seccomp filter from init, and send it to the agent."""

    def describe(self) -> str:
        return "send the seccomp listener to its agent"

    def apply(self, making: Making) -> None:
        from pyrunc.container.listener import send_listener

        listener = _fetch(making, channel.LISTENER, "seccomp listener")
        state = making.state_json(making.pid)
        send_listener(making.spec, making.pid, state, listener)
        making.let_go_on()


class FollowIntoPidNamespace(RuntimeStep):
    """Let init bring forth the container's process in the pid namespace; that counts from now."""

    def describe(self) -> str:
        return "let init go into the pid namespace"

    def apply(self, making: Making) -> None:
        making.let_go_on()
        status = p.exit_status(posix.waitpid(making.pid, 0)[1])
        making.interrupts.hold()
        making.become(sibling_in(making.page), -1)
        if not making.pid:
            why = failure_in(making.page) or f"init died (exit status {status})"
            raise Error(f"unable to start container process: {why}")
        making.become(making.pid, p.pidfd_open(making.pid))
        making.interrupts.let_through()
        making.note_process()
        making.entry.save(making.record)


class SetRlimits(RuntimeStep):
    """``process.rlimits``, which root of a user namespace may not raise."""

    rlimits: list[Rlimit]

    def describe(self) -> str:
        return f"set {', '.join(limit['type'] for limit in self.rlimits)}"

    def apply(self, making: Making) -> None:
        from pyrunc.process.attributes import set_rlimits

        set_rlimits(making.pid, self.rlimits)


class SetScheduler(RuntimeStep):
    """``process.scheduler``, where a process would lose it on its way."""

    scheduler: Scheduler

    def describe(self) -> str:
        return f"set scheduler {self.scheduler['policy']}"

    def apply(self, making: Making) -> None:
        from pyrunc.process.attributes import set_scheduler

        set_scheduler(making.pid, self.scheduler)


class SeeItAlive(RuntimeStep):
    """Is init still there? A cgroup of v2 takes any limit, and kills what does not fit."""

    def describe(self) -> str:
        return "see that init has room in its memory limit"

    def apply(self, making: Making) -> None:
        if p.poll((making.pidfd,), 0):
            raise Error("container init was OOM-killed (memory limit too low?)")
