"""``pyrunc warm-up``: make the snapshot that commands start from (docs/snapshot.md)."""

from __future__ import annotations

import sys

from pyrunc.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.container.settings import Settings
    from pyrunc.snapshot.started import Started

    from .flags import Options, Table

FLAGS: Table = ()
ARGUMENTS = (0, 0)


def call(settings: Settings, options: Options, arguments: list[str]) -> int:
    """Make a snapshot if none is in use, print which one is, and return 0.

    :raises Error: when it cannot be made.
    """
    from pyrunc.snapshot import make
    from pyrunc.snapshot.started import FAILED, MAKING, MISSING, RESTORED

    from .output import write

    started: Started = options["global"]["started"]
    if started.outcome == MAKING:
        return _work(started)
    if started.outcome in (MISSING, FAILED):
        make.make(started)
    elif started.outcome != RESTORED:
        raise Error(f"commands cannot start from a snapshot: {started.describe()}")
    write(f"{started.path}\n")
    return 0


def _work(started: Started) -> int:
    """Be the process that makes it."""
    from pyrunc.snapshot import make

    from .main import invoke, run

    make.work(started, invoke, lambda put_back: run(sys.argv[1:], put_back))
    return 0
