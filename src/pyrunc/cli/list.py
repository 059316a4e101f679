"""``pyrunc list``: the containers under the state root."""

from __future__ import annotations

import posix

from pyrunc.errors import Error, reason

from .output import table, write, write_json
from .text import visible

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.container.settings import Settings

    from .flags import Options, Table

FLAGS: Table = (
    ("format,f", "str", "form of the list: table or json", "table"),
    ("quiet,q", "bool", "print the ids only"),
)
ARGUMENTS = (0, 0)

_HEADER = ("ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER")


def call(settings: Settings, options: Options, arguments: list[str]) -> int:
    """Print ids, a table or JSON, and return 0.

    :raises Error: when the format is unknown, or a root that was asked for is missing.
    """
    form = options["format"]
    if form not in ("table", "json"):
        raise Error("invalid format option")
    # The default root is made by the first create: missing, it is merely empty.
    if options["global"]["root"]:
        try:
            posix.stat(settings.root)
        except OSError as error:
            raise Error(f"open {settings.root}: {reason(error)}") from None
    from pyrunc.container.record.state import query_all

    states = query_all(settings)
    if options["quiet"]:
        write("".join(visible(state["id"]) + "\n" for state in states))
    elif form == "json":
        write_json(states)
    else:
        keys = [name.lower() for name in _HEADER]
        rows = [[str(state[key]) for key in keys] for state in states]
        if not "".join(map("".join, rows)).isprintable():
            rows = [[visible(cell) for cell in row] for row in rows]
        write(table([_HEADER, *rows]))
    return 0
