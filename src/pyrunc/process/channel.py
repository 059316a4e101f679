"""What the builder and the runtime say to each other while a container is made.

Two pipes. The builder (and init after it) sends small messages up and waits
after each for one byte down, so there is never more than one in flight:

    N           the mounts are made: move the network devices in
    H           and run the hooks of the runtime's side
    T + fd      the terminal's master is my descriptor number fd
    S + fd      the seccomp listener is my descriptor number fd
                (the runtime takes it with pidfd_getfd(2); where that is refused, the builder
                sends it through a socket that it has for that)
    R           ready: waiting for the last leave to go on, and then for the start
    ! + text    failed, and why
    (a failure record of init's)

An end of file without a message means that the process died.
"""

from __future__ import annotations

import posix
from _struct import pack, unpack_from

from pyrunc.errors import Error
from pyrunc.linux import processes as p
from pyrunc.linux.files import read_all
from pyrunc.step import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.step import Build

NET_DEVICES = b"N"
HOOKS = b"H"
TERMINAL = b"T"
LISTENER = b"S"
READY = b"R"
FAILED = b"!"
GO_ON = b"."
#: What init writes to the result fifo right before it executes the program; a failure record
#: may still follow, the end of file without it means that init died before.
EXECUTING = b"X"


def tell_runtime(build: Build, message: bytes) -> None:
    """Send ``message`` and wait for the runtime's leave to go on.

    Ends the process when the runtime is gone; nobody is left to hear an error.
    """
    posix.write(build.up, message)
    await_runtime(build)


def tell_descriptor(build: Build, kind: bytes, descriptor: int) -> None:
    """Let the runtime take a descriptor, and wait for its leave to go on."""
    if build.socket >= 0:
        from pyrunc.linux.sockets import send_descriptor

        send_descriptor(build.socket, descriptor, kind)
    tell_runtime(build, with_descriptor(kind, descriptor))


def await_runtime(build: Build) -> None:
    """Wait for the runtime's next byte."""
    if posix.read(build.down, 1) != GO_ON:
        posix._exit(1)


def die_with_runtime(down: int) -> None:
    """Have the kernel kill this process when the runtime dies; end at once if it has done so.

    The kernel forgets this when ids or capabilities change (prctl(2), PR_SET_PDEATHSIG): to be
    called again after that.

    :param down: the pipe from the runtime, which alone has the other end by now.
    """
    p.prctl(p.PR_SET_PDEATHSIG, p.SIGKILL)
    # getppid(2) tells nothing in a pid namespace of its own.
    if p.poll_for({down: 0}, 0):
        posix._exit(1)


def with_descriptor(kind: bytes, descriptor: int) -> bytes:
    """Build a message that names one of the sender's descriptors."""
    return kind + pack("=i", descriptor)


def descriptor_in(message: bytes) -> int:
    """Return the descriptor number in a TERMINAL or LISTENER message."""
    number: int = unpack_from("=i", message, 1)[0]
    return number


def receive(up: int) -> bytes:
    """Return the next message, whole; empty when the other side is gone."""
    message = posix.read(up, 4096)
    if message[:1] == FAILED:
        message += read_all(up)
    return message


def failure_text(message: bytes) -> str:
    """Return the text of a FAILED message."""
    return message[1:].decode("utf-8", "replace")


def dead(what: str) -> Error:
    """Return the error for an end of file where a message was due."""
    return Error(
        f"{what} died unexpectedly "
        "(was it killed, out of memory, or forbidden too much by its seccomp filter?)"
    )


class AwaitRuntime(Step):
    """Wait for something that only the runtime can do."""

    what: str

    def describe(self) -> str:
        return f"wait for {self.what}"

    def apply(self, build: Build) -> None:
        await_runtime(build)


class RuntimeHooks(Step):
    """Let the runtime run its hooks: the mounts are made, the root is not yet changed."""

    kinds: tuple[str, ...]

    def describe(self) -> str:
        return f"let the runtime run the {' and '.join(self.kinds)} hooks"

    def apply(self, build: Build) -> None:
        tell_runtime(build, HOOKS)


class AskForNetDevices(Step):
    """Let the runtime move the host's network devices in, before any hook looks for them."""

    def describe(self) -> str:
        return "let the runtime move the network devices in"

    def apply(self, build: Build) -> None:
        tell_runtime(build, NET_DEVICES)
