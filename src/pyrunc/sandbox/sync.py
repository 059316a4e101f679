"""The synchronous face."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pyrunc.sandbox import running
from pyrunc.sandbox.waiting import drive

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Unpack

    from pyrunc.sandbox.result import Result
    from pyrunc.sandbox.running import RunArguments


def run(argv: Sequence[str], **arguments: Unpack[RunArguments]) -> Result[Any]:
    """Run a program in a container of its own and wait for its end."""
    return drive(running.run(argv, **arguments))
