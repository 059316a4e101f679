"""``pyrunc kill``: send a signal to a container."""

from __future__ import annotations

from .signals import number

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.container.settings import Settings

    from .flags import Options, Table

FLAGS: Table = (("all,a", "bool", "send the signal to every process of the container"),)
ARGUMENTS = (1, 2)


def call(settings: Settings, options: Options, arguments: list[str]) -> int:
    """Send the signal, SIGTERM when none is named, and return 0."""
    from pyrunc.container.kill import kill

    wanted = number(arguments[1]) if len(arguments) > 1 and arguments[1] else 15
    kill(settings, arguments[0], wanted, everyone=options["all"])
    return 0
