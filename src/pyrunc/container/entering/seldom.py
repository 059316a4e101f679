"""The steps of the runtime that only some processes of `exec` need; loaded for them."""

from __future__ import annotations

import posix

from pyrunc.container.entering.entering import start_failed
from pyrunc.container.record import state as states
from pyrunc.container.undertaking import RuntimeStep
from pyrunc.errors import Error, reason
from pyrunc.linux import processes as p
from pyrunc.linux import refusals
from pyrunc.process import channel
from pyrunc.process.mapped_ids import outside

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyrunc.container.entering.entering import Entering


class OpenTerminal(RuntimeStep):
    """Open a terminal in the container's devpts; it belongs to the user.

    0 for ``height`` and ``width`` leaves the size as it is.
    """

    height: int
    width: int
    uid: int
    gid: int

    def describe(self) -> str:
        return "open a terminal of the container's"

    def apply(self, doing: Entering) -> None:
        from pyrunc.process.console import open_terminal
        from pyrunc.process.tty import set_window_size

        doing.master, doing.slave = open_terminal(doing.root)
        if self.height or self.width:
            set_window_size(doing.master, self.height, self.width)
        # We opened it as somebody that the container may not even know.
        group = posix.fstat(doing.slave).st_gid
        known = any(first <= group < first + count for _, first, count in doing.gid_map)
        uid = outside(doing.uid_map, self.uid)
        posix.fchown(doing.slave, uid, -1 if known else outside(doing.gid_map, self.gid))


class HandOverTerminal(RuntimeStep):
    """Send the terminal to the ``socket``, or give it to who asked for it, or show it here."""

    socket: str

    def describe(self) -> str:
        return f"send the terminal to {self.socket}" if self.socket else "show the terminal"

    def apply(self, doing: Entering) -> None:
        if take := doing.options.take_terminal:
            master, doing.master = doing.master, -1
            take(master)
        elif self.socket:
            from pyrunc.process.console import send_to_socket

            send_to_socket(self.socket, doing.master, b"/dev/ptmx", "the terminal")
            posix.close(doing.master)
            doing.master = -1
        else:
            doing.relay.show(doing.master)


class JoinResctrl(RuntimeStep):
    """Move the process into the container's resctrl group, which ``saved`` describes."""

    saved: dict[str, Any]

    def describe(self) -> str:
        return "have the process in the container's resctrl group"

    def apply(self, doing: Entering) -> None:
        from pyrunc.cgroups import resctrl

        resctrl.from_state(self.saved).attach([doing.pid])


class SendListener(RuntimeStep):
    """Take the listener of the seccomp filter from init, and send it to the agent."""

    def describe(self) -> str:
        return "send the seccomp listener to its agent"

    def apply(self, doing: Entering) -> None:
        from pyrunc.container.listener import send_listener

        message = doing.hear()
        if not message:
            # What became of init is found out next.
            return
        if message[:1] != channel.LISTENER:
            raise start_failed(message)
        pidfd = p.pidfd_open(doing.pid)
        try:
            listener = p.pidfd_getfd(pidfd, channel.descriptor_in(message))
        except OSError as error:
            why = reason(refusals.explained(error, "pidfd_open(2) and pidfd_getfd(2)"))
            raise Error(f"exec failed: cannot take the seccomp listener: {why}") from None
        finally:
            if pidfd >= 0:
                posix.close(pidfd)
        state = states.hook_state(doing.record, states.RUNNING, doing.record["pid"])
        send_listener(doing.spec, doing.pid, state, listener)
        doing.let_go_on()
