"""An engine without namespaces of its own, for an ordinary user's containers of a state root.

They outlive it, and are the command's as well: so they are made where that would make them, in user
namespaces that are the host's children, and not an engine's that somebody else could not enter.
"""

from __future__ import annotations

from pyrunc.engine import main as engine


def main(control: int, program: int, program_pid: int) -> None:
    """Become such an engine; see :func:`pyrunc.engine.main.main`."""
    engine.main(control, program, program_pid, is_secluded=False)
