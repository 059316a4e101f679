"""``pyrunc restore``: bring back a container that was saved with CRIU."""

from __future__ import annotations

from . import checkpoint, create

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.container.settings import Settings

    from .flags import Options, Table

FLAGS: Table = (
    create.CONSOLE_SOCKET,
    ("image-path", "str", "directory of the images", "./checkpoint"),
    checkpoint.WORK_PATH,
    checkpoint.TCP_ESTABLISHED,
    checkpoint.EXT_UNIX_SK,
    checkpoint.SHELL_JOB,
    checkpoint.FILE_LOCKS,
    checkpoint.CGROUPS_MODE,
    create.BUNDLE,
    ("detach,d", "bool", "return once the container runs"),
    create.PID_FILE,
    ("no-subreaper", "bool", "do not adopt the orphans of the container"),
    create.NO_PIVOT,
    checkpoint.EMPTY_NS,
    checkpoint.AUTO_DEDUP,
    checkpoint.LAZY_PAGES,
    ("lsm-profile", "str", "TYPE:NAME of the security profile to run under"),
    ("lsm-mount-context", "str", "security context of the mounts"),
)
ARGUMENTS = (1, 1)


def call(settings: Settings, options: Options, arguments: list[str]) -> int:
    """Restore the container; return its exit code, or 0 when detached."""
    from pyrunc.checkpoint.options import RestoreOptions
    from pyrunc.checkpoint.restore import restore

    from .progress import on_terminal

    told = checkpoint.told(options, RestoreOptions)
    told["bundle"] = create.bundle(options["bundle"])
    for name in ("console_socket", "pid_file"):
        told[name] = create.from_here(options[name])
    told["progress"] = on_terminal(f"restoring {arguments[0]}")
    return restore(settings, arguments[0], RestoreOptions(**told))
