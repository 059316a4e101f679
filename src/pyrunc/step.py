"""What a plan is made of: small immutable objects that say and do one thing.

A :class:`Step` of the builder can describe itself without touching the machine and can apply
itself to a :class:`Build`, the state that the builder process carries from one
step to the next. When a step fails, its description is what the user reads. Those of the runtime
are in :mod:`pyrunc.container.undertaking`.
"""

from __future__ import annotations

import posix

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, dataclass_transform
else:

    def dataclass_transform(**_options):  # noqa: D103
        return lambda cls: cls


@dataclass_transform(frozen_default=True)
class Described:
    """Base of all steps: fields are the class's annotations, set once at creation.

    A hand-made frozen record, since importing ``dataclasses`` costs more than
    running a container (8.8 ms).
    """

    _fields: tuple[str, ...] = ()

    def __init_subclass__(cls) -> None:
        cls._fields = tuple(n for n in cls.__annotations__ if n[0] != "_")

    def __init__(self, *values: Any, **named: Any) -> None:
        own = self.__dict__
        # No `update`, which takes twice the time: a container is made of some eighty steps.
        for name, value in zip(self._fields, values, strict=False):
            own[name] = value
        if named:
            own.update(named)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is immutable")

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.__dict__ == other.__dict__

    def __hash__(self) -> int:
        return hash((type(self), repr(self)))

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={getattr(self, name)!r}" for name in self._fields)
        return f"{type(self).__name__}({fields})"

    def describe(self) -> str:
        """Say what the step does, in words that read well after "cannot": "mount …"."""
        raise NotImplementedError


class Step(Described):
    """A step of the builder."""

    def apply(self, build: Build) -> None:
        """Do it.

        :raises OSError: when the kernel refuses; the caller adds :meth:`describe`.
        :raises pyrunc.errors.Error: when there is more to say than an errno.
        """
        raise NotImplementedError

    def comes_back_to(self) -> tuple[int, ...]:
        """Return the mounts of the config, by number, whose descriptors it needs."""
        return ()


class Opened:
    """What the runtime has opened or made for the builder, which could not: descriptors."""

    __slots__ = ("devices", "holders", "sources")

    def __init__(self) -> None:
        #: Bind sources, mounts attached nowhere, by index of the mount in the config.
        self.sources: dict[int, int] = {}
        #: User namespaces with the mapping of a mount whose source the builder opens; same index.
        self.holders: dict[int, int] = {}
        #: A tmpfs with nothing but a device in it, attached nowhere, by path of the device.
        self.devices: dict[str, int] = {}

    def twin(self) -> Opened:
        """Return another with the same in it."""
        twin = Opened()
        twin.sources, twin.holders = dict(self.sources), dict(self.holders)
        twin.devices = dict(self.devices)
        return twin

    def descriptors(self) -> list[int]:
        """Return all of them."""
        return [*self.sources.values(), *self.holders.values(), *self.devices.values()]


class Build:
    """What the builder knows while it makes a container.

    Descriptors only: every path inside the root file system is resolved below
    ``root`` by the kernel, and everything of the host's /proc below ``proc``.
    """

    __slots__ = (
        "console_peer",
        "down",
        "entered_cwd",
        "entered_pid_namespace",
        "init",
        "kept_mounts",
        "known",
        "later_cgroups",
        "mounts",
        "namespaces",
        "null",
        "opened",
        "proc",
        "root",
        "socket",
        "terminal",
        "up",
    )

    def __init__(self, up: int, down: int) -> None:
        #: Pipe to the runtime: one-byte messages, or a failure.
        self.up = up
        #: Pipe from the runtime: one byte for each thing the builder may go on with.
        self.down = down
        #: Socket to the runtime, where that cannot take a descriptor of ours by itself; or -1.
        self.socket = -1
        #: O_PATH descriptor of the root file system's mount.
        self.root = -1
        #: O_PATH descriptor of the host's procfs.
        self.proc = -1
        #: Paths of the v1 cgroups that the runtime makes meanwhile.
        self.later_cgroups: list[str] = []
        #: The sealed init program (process/seal.py).
        self.init = -1
        #: Whether children are born in the pid namespace that the container joins.
        self.entered_pid_namespace = False
        #: What the places in init's launch program are filled with (process/late.py).
        self.known: dict[str, Any] = {}
        #: Namespaces to join, opened by the runtime, by type.
        self.namespaces: dict[str, int] = {}
        #: What the runtime opened before the builder existed.
        self.opened = Opened()
        #: Mounts made so far, by index in the config, for steps that come back to them.
        self.mounts: dict[int, int] = {}
        #: Those that a later step comes back to; a limit on open files may leave no room for all.
        self.kept_mounts: frozenset[int] = frozenset()
        #: Master and slave of the container's terminal.
        self.terminal = -1
        self.console_peer = -1
        #: A descriptor of the read-only empty tmpfs that masks directories, once there is one.
        self.null = -1
        #: Whether ``process.cwd`` is the working directory already.
        self.entered_cwd = False

    def mounted(self, index: int, mount: int) -> None:
        """Take over the descriptor of a mount that is made: keep it for later, or close it."""
        if index in self.kept_mounts:
            self.mounts[index] = mount
        else:
            posix.close(mount)
