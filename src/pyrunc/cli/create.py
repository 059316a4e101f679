"""``pyrunc create``: make a container, stopped just before its program."""

from __future__ import annotations

import posix

from pyrunc.errors import Error, reason

from .paths import absolute

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.container.making.create_options import CreateOptions
    from pyrunc.container.settings import Settings

    from .flags import Flag, Options, Table

BUNDLE: Flag = ("bundle,b", "str", "directory of the bundle (default: the current directory)")
CONSOLE_SOCKET: Flag = (
    "console-socket",
    "str",
    "unix socket that is sent the master side of the container's terminal",
)
PIDFD_SOCKET: Flag = ("pidfd-socket", "str", "unix socket that is sent a pidfd of the process")
PID_FILE: Flag = ("pid-file", "str", "file to write the process id to")
NO_PIVOT: Flag = ("no-pivot", "bool", "move the root instead of pivoting it; for a root on ramfs")
NO_NEW_KEYRING: Flag = ("no-new-keyring", "bool", "keep the caller's session keyring")
PRESERVE_FDS: Flag = (
    "preserve-fds",
    "int",
    "pass N more descriptors, after stdio and those of $LISTEN_FDS",
)
CONFIG: Flag = ("config", "str", "another file to use for the bundle's config.json")

FLAGS: Table = (
    BUNDLE,
    CONSOLE_SOCKET,
    PIDFD_SOCKET,
    PID_FILE,
    NO_PIVOT,
    NO_NEW_KEYRING,
    PRESERVE_FDS,
    CONFIG,
)
ARGUMENTS = (1, 1)


def call(settings: Settings, options: Options, arguments: list[str]) -> int:
    """Create the container and return 0."""
    told = create_options(options)
    from pyrunc.container.making.create import create

    create(settings, arguments[0], told, exits=True)
    return 0


def create_options(options: Options) -> CreateOptions:
    """Return the options that ``create`` and ``run`` have in common.

    :raises Error: when the bundle is not a directory or a value makes no sense.
    """
    from pyrunc.container.making.create_options import CreateOptions

    if options["preserve_fds"] < 0:
        raise Error(f"invalid value for --preserve-fds: {options['preserve_fds']} is negative")
    return CreateOptions(
        bundle(options["bundle"]),
        config=from_here(options["config"]),
        console_socket=from_here(options["console_socket"]),
        pidfd_socket=from_here(options["pidfd_socket"]),
        pid_file=from_here(options["pid_file"]),
        no_pivot=options["no_pivot"],
        no_new_keyring=options["no_new_keyring"],
        preserve_fds=options["preserve_fds"],
    )


def bundle(path: str) -> str:
    """Return the absolute path of a bundle, the current directory when ``path`` is empty.

    :raises Error: when there is no directory of that name.
    """
    whole = absolute(path or ".")
    try:
        mode = posix.stat(whole).st_mode
    except (OSError, ValueError) as error:
        raise Error(f"bundle {whole}: {reason(error)}") from None
    if mode & 0o170000 != 0o040000:
        raise Error(f"bundle {whole}: not a directory")
    return whole


def from_here(path: str) -> str:
    """Make a path that was given absolute; leave out what was left out."""
    return absolute(path) if path else ""
