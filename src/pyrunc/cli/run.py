"""``pyrunc run``: create, start, and unless detached wait for a container."""

from __future__ import annotations

from . import create

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.container.settings import Settings

    from .flags import Options, Table

FLAGS: Table = (
    *create.FLAGS,
    ("detach,d", "bool", "return once the program runs"),
    ("keep", "bool", "do not delete the container when its program ends"),
    ("no-subreaper", "bool", "do not adopt the orphans of the container"),
)
ARGUMENTS = (1, 1)


def call(settings: Settings, options: Options, arguments: list[str]) -> int:
    """Run the container; return its exit code, or 0 when detached."""
    told = create.create_options(options)
    from pyrunc.container.run import run

    return run(
        settings,
        arguments[0],
        told,
        detach=options["detach"],
        keep=options["keep"],
        no_subreaper=options["no_subreaper"],
    )
