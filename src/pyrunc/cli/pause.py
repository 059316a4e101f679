"""``pyrunc pause``: suspend every process of the container."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.container.settings import Settings

    from .flags import Options, Table

FLAGS: Table = ()
ARGUMENTS = (1, 1)


def call(settings: Settings, options: Options, arguments: list[str]) -> int:
    """Suspend every process of the container and return 0."""
    from pyrunc.container.freeze import pause

    pause(settings, arguments[0])
    return 0
