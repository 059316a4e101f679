"""``pyrunc state``: print the state of a container as JSON."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.container.settings import Settings

    from .flags import Options, Table

FLAGS: Table = ()
ARGUMENTS = (1, 1)


def call(settings: Settings, options: Options, arguments: list[str]) -> int:
    """Print the state, two-space indented, and return 0."""
    from pyrunc.container.record.state import query

    state = query(settings, arguments[0])
    from .output import write_json

    write_json(state, "  ")
    return 0
