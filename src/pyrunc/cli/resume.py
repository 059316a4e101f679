"""``pyrunc resume``: let a paused container go on."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.container.settings import Settings

    from .flags import Options, Table

FLAGS: Table = ()
ARGUMENTS = (1, 1)


def call(settings: Settings, options: Options, arguments: list[str]) -> int:
    """Let a paused container go on and return 0."""
    from pyrunc.container.freeze import resume

    resume(settings, arguments[0])
    return 0
