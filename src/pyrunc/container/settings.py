"""What holds for every operation of one invocation: where state lives, how to log."""

from __future__ import annotations

from pyrunc.trace import OFF

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from pyrunc.trace import NoTrace

    class Log(Protocol):
        """Where warnings and debug lines go; the command line and the library each have one."""

        def warn(self, message: str) -> None:
            """Record something that went wrong but does not stop the operation."""

        def debug(self, message: str) -> None:
            """Record a detail, shown with ``--debug`` only."""


class Settings:
    """The global options, resolved.

    ``root`` is the state root (an absolute path), ``rootless`` says whether the
    caller lacks real root, and so whether cgroup errors may be passed over; ``no_cgroups`` that
    new containers get no cgroups.
    """

    __slots__ = ("log", "no_cgroups", "root", "rootless", "systemd_cgroup", "trace")

    def __init__(
        self,
        root: str,
        log: Log,
        *,
        systemd_cgroup: bool = False,
        no_cgroups: bool = False,
        rootless: bool = False,
        trace: NoTrace = OFF,
    ) -> None:
        self.root = root
        self.log = log
        self.systemd_cgroup = systemd_cgroup
        self.no_cgroups = no_cgroups
        self.rootless = rootless
        self.trace = trace
