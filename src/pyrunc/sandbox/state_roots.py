"""Which logic a state root has: pyrunc's own, or that of another runtime's command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyrunc.sandbox.containers import RuntimeLogic

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence


def runtime_logic(
    root: str | os.PathLike[str] | None,
    command: str | Sequence[str] | None,
    *,
    systemd_cgroup: bool,
    max_running: int | None,
) -> RuntimeLogic:
    """Return a state root: pyrunc's own, or that of another runtime."""
    if command is None:
        return RuntimeLogic(root, systemd_cgroup=systemd_cgroup, max_running=max_running)
    # Seldom wanted, and as large as all else here.
    from pyrunc.sandbox.commanded import CommandedRuntime

    return CommandedRuntime(command, root, systemd_cgroup=systemd_cgroup, max_running=max_running)
