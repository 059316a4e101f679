"""What `create` and `run` can be told."""

from __future__ import annotations

from pyrunc.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.container.making.remembered import Remembered
    from pyrunc.container.making.served import Served
    from pyrunc.spec.types import Spec


class CreateOptions:
    """The flags; paths are absolute."""

    __slots__ = (
        "bundle",
        "config",
        "console_socket",
        "foreground",
        "held",
        "network",
        "no_new_keyring",
        "no_pivot",
        "notify_socket",
        "pid_file",
        "pidfd_socket",
        "preserve_fds",
        "remembered",
        "served",
        "spec",
    )

    def __init__(
        self,
        bundle: str,
        *,
        config: str = "",
        console_socket: str = "",
        pidfd_socket: str = "",
        pid_file: str = "",
        no_pivot: bool = False,
        no_new_keyring: bool = False,
        preserve_fds: int = 0,
        spec: Spec | None = None,
        held: bool = False,
        remembered: Remembered | None = None,
        network: int = -1,
        served: Served | None = None,
    ) -> None:
        self.bundle = bundle
        #: A config that was checked already, in place of the bundle's file.
        self.spec = spec
        #: Never to be started, only to execute processes in: init collects orphans and ends with
        #: this process. The program of the config need not be there.
        self.held = held
        #: A network namespace that was made before, with its loopback interface up, to be used in
        #: place of a new one; -1 for none.
        self.network = network
        #: For one that is held: how init is told the one program that it is for, if that can be.
        self.served = served
        #: What is known from containers made before, by who makes many.
        self.remembered = remembered
        #: Another name for the bundle's config.json.
        self.config = config
        self.console_socket = console_socket
        self.pidfd_socket = pidfd_socket
        #: Whether the container's program notifies ($NOTIFY_SOCKET).
        self.notify_socket = False
        self.pid_file = pid_file
        self.no_pivot = no_pivot
        self.no_new_keyring = no_new_keyring
        self.preserve_fds = preserve_fds
        #: `run` without --detach: the terminal is for the caller, not for a console socket.
        self.foreground = False


def check_terminal(spec: Spec, options: CreateOptions) -> None:
    """:raises Error: when the config has a terminal that nobody takes, or nobody's socket waits."""
    process = spec.get("process")
    terminal = bool(process and process.get("terminal"))
    if terminal and not options.console_socket and not options.foreground:
        raise Error(
            "cannot allocate tty if pyrunc will detach without setting console socket; "
            "give --console-socket, or set process.terminal to false"
        )
    if options.console_socket and (not terminal or options.foreground):
        raise Error(
            "cannot use console socket if pyrunc will not detach or allocate tty; "
            "set process.terminal to true, or leave --console-socket out"
        )
