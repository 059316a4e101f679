"""Undoing a create: what a failed one and `delete` have in common."""

from __future__ import annotations

from pyrunc.errors import Error
from pyrunc.linux import processes as p

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.cgroups.driver import Driver
    from pyrunc.container.settings import Settings
    from pyrunc.process.guard import Signals
    from pyrunc.spec.types import Hook


def remove_cgroup(driver: Driver) -> None:
    """Kill what is left in a container's cgroup, and remove it."""
    if driver.remove_empty():
        return
    if driver.processes():
        driver.signal_all(p.SIGKILL)
    driver.destroy()


def run_poststop(
    settings: Settings, hooks: list[Hook] | None, state: bytes, signals: Signals | None = None
) -> None:
    """Run the poststop hooks; one that fails is warned about and the next is run.

    :param signals: as for :func:`pyrunc.process.hooks.run_hooks`; who wants us to end once wants
        no more hooks either.
    """
    from pyrunc.process.hooks import run_hooks

    for hook in hooks or ():
        try:
            run_hooks("poststop", [hook], state, signals=signals)
        except Error as error:
            settings.log.warn(str(error))
            if signals is not None and signals.ended_by:
                return
