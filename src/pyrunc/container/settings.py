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


class Kept:
    """What nobody in a container can change or reach."""

    __slots__ = ("empty", "init")

    def __init__(self, *, init: int = -1, empty: str = "") -> None:
        #: Descriptor of a sealed memory file that holds init (process/seal.py), or -1.
        self.init = init
        #: Path of an empty file system, read-only, to cover directories with (rootfs/protect.py).
        self.empty = empty


NOTHING = Kept()


class Settings:
    """The global options, resolved.

    ``root`` is the state root (an absolute path), ``rootless`` says whether the
    caller lacks real root, and so whether cgroup errors may be passed over; ``no_cgroups`` that
    new containers get no cgroups.
    """

    __slots__ = ("kept", "log", "no_cgroups", "root", "rootless", "systemd_cgroup", "trace")

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
        #: What a process that makes many containers keeps for all of them.
        self.kept = NOTHING
