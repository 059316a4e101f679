"""``pyrunc events``: statistics and out-of-memory events, a line of JSON each."""

from __future__ import annotations

from pyrunc.errors import Error

from .output import write_json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.container.settings import Settings

    from .flags import Options, Table

FLAGS: Table = (
    ("interval", "duration", "time between two lines of statistics", 5.0),
    ("stats", "bool", "print the statistics once"),
)
ARGUMENTS = (1, 1)


def call(settings: Settings, options: Options, arguments: list[str]) -> int:
    """Print events until the container ends, or statistics once; return 0.

    :raises Error: when the interval is not a positive time.
    """
    container = arguments[0]
    if options["interval"] <= 0:
        raise Error("duration interval must be greater than 0")
    if options["stats"]:
        from pyrunc.container.statistics import statistics

        write_json({"type": "stats", "id": container, "data": statistics(settings, container)})
        return 0
    from pyrunc.container.events import events

    for event in events(settings, container, options["interval"]):
        write_json(event)
    return 0
