"""``pyrunc checkpoint``: save a running container with CRIU."""

from __future__ import annotations

from pyrunc.errors import Error

from .paths import absolute

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyrunc.container.settings import Settings

    from .flags import Flag, Options, Table

WORK_PATH: Flag = ("work-path", "str", "directory for CRIU's own files and log")
TCP_ESTABLISHED: Flag = ("tcp-established", "bool", "accept open TCP connections")
EXT_UNIX_SK: Flag = ("ext-unix-sk", "bool", "accept unix sockets that lead outside")
SHELL_JOB: Flag = ("shell-job", "bool", "accept a terminal of the caller's")
LAZY_PAGES: Flag = ("lazy-pages", "bool", "fetch memory when it is used, by userfaultfd")
FILE_LOCKS: Flag = ("file-locks", "bool", "keep file locks")
CGROUPS_MODE: Flag = ("manage-cgroups-mode", "str", "'soft', 'full', 'strict' or 'ignore'", "soft")
EMPTY_NS: Flag = ("empty-ns", "list", "make this namespace, but leave it empty")
AUTO_DEDUP: Flag = ("auto-dedup", "bool", "drop pages of older images that are saved again")

FLAGS: Table = (
    ("image-path", "str", "directory for the images", "./checkpoint"),
    WORK_PATH,
    ("parent-path", "str", "earlier pre-dump, relative to the image directory"),
    ("leave-running", "bool", "let the container go on"),
    TCP_ESTABLISHED,
    ("tcp-skip-in-flight", "bool", "leave out TCP connections not yet accepted"),
    ("link-remap", "bool", "save files that are open but have no name"),
    EXT_UNIX_SK,
    SHELL_JOB,
    LAZY_PAGES,
    ("status-fd", "int", "descriptor CRIU writes to once lazy pages can be served", -1),
    ("page-server", "str", "ADDRESS:PORT of a page server to send the memory to"),
    FILE_LOCKS,
    ("pre-dump", "bool", "save memory only, and let the container go on"),
    CGROUPS_MODE,
    EMPTY_NS,
    AUTO_DEDUP,
    ("stats", "bool", "print what it took, as a line of JSON"),
)
ARGUMENTS = (1, 1)


def call(settings: Settings, options: Options, arguments: list[str]) -> int:
    """Save the container and return 0."""
    from pyrunc.checkpoint.dump import checkpoint
    from pyrunc.checkpoint.options import CheckpointOptions

    from .progress import on_terminal

    asked = CheckpointOptions(**told(options, CheckpointOptions))
    asked.progress = on_terminal(f"saving {arguments[0]}")
    statistics = checkpoint(settings, arguments[0], asked)
    if asked.stats:
        from .output import write_json

        write_json(statistics)
    return 0


def told(options: Options, kind: type) -> dict[str, Any]:
    """Return what the flags say, for the options of this kind; with absolute paths.

    :raises Error: when the mode of cgroups is not one.
    """
    mode = options["manage_cgroups_mode"]
    if mode not in ("soft", "full", "strict", "ignore"):
        raise Error(f"invalid manage-cgroups-mode value: {mode}")
    for name in ("image_path", "work_path"):
        if options[name]:
            options[name] = absolute(options[name])
    return {name: value for name, value in options.items() if hasattr(kind, name)}
