"""``pyrunc delete``: remove all that a container holds."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.container.settings import Settings

    from .flags import Options, Table

FLAGS: Table = (("force,f", "bool", "kill the container first if it still runs"),)
ARGUMENTS = (1, 1)


def call(settings: Settings, options: Options, arguments: list[str]) -> int:
    """Delete the container and return 0."""
    from pyrunc.container.delete import delete

    delete(settings, arguments[0], force=options["force"])
    return 0
