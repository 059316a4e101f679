"""``pyrunc start``: let a created container execute its program."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.container.settings import Settings

    from .flags import Options, Table

FLAGS: Table = ()
ARGUMENTS = (1, 1)


def call(settings: Settings, options: Options, arguments: list[str]) -> int:
    """Start the container and return 0."""
    from pyrunc.container.start import start

    start(settings, arguments[0])
    return 0
