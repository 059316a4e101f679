"""What a launch program holds places for: values that are known only right before init begins.

A plan is made before anything is opened. Where it needs the number of a descriptor, or what is
found in the root file system, it names it; :meth:`pyrunc.process.launch.LaunchProgram.filled`
puts in what became of the names.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    #: What became of each name: a descriptor (-1 for none), a text or texts, or whether.
    Known = Mapping[str, int | str | Sequence[str]]


class Late:
    """A value by its name."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"<{self.name}>"


class Descriptor(Late):
    """A descriptor by its name; one that is not known is not open (-1)."""

    __slots__ = ()


#: Pipes to and from the runtime.
UP = Descriptor("up")
DOWN = Descriptor("down")
#: The fifos that tell of the start and of what came of it.
START = Descriptor("start")
RESULT = Descriptor("result")
#: The page that is shared with the runtime (shared_page.py).
PAGE = Descriptor("page")
#: The memory file of --trace that takes the times.
STAMPS = Descriptor("stamps")
#: The host's procfs.
PROC = Descriptor("proc")
#: The pid namespace that is joined, and whether children are not yet born in it.
PID_NAMESPACE = Descriptor("pid namespace")
PID_NAMESPACE_AHEAD = Late("pid namespace ahead")
#: A process of the container's, and its root, for `exec`.
CONTAINER = Descriptor("container")
ROOT = Descriptor("root")
#: Where init is to begin, when it had to be executed from elsewhere.
HERE = Descriptor("here")
#: The cgroup to be born in.
BIRTHPLACE = Descriptor("birthplace")
#: What startContainer hooks read the state from and print to.
HOOK_STDIN = Descriptor("hook stdin")
HOOK_OUTPUT = Descriptor("hook output")
#: The path to execute, its arguments where they are told late, its environment with HOME.
PROGRAM = Late("program")
ARGUMENTS = Late("arguments")
ENVIRONMENT = Late("environment")
#: Whether root of the container may enter the working directory, or only its user may.
CWD_BY_ROOT = Late("cwd by root")
CWD_BY_USER = Late("cwd by user")


def tasks(number: int) -> Descriptor:
    """Return the place of the ``tasks`` file of one of the container's v1 cgroups."""
    return Descriptor(f"tasks {number}")


def cgroup(number: int) -> Late:
    """Return the place of that cgroup's path."""
    return Late(f"cgroup {number}")


def way_in(kind: str) -> Descriptor:
    """Return the place of the container's namespace of this type."""
    return Descriptor(f"{kind} namespace of the container")


def left_stdio(descriptor: int) -> Late:
    """Return whether the user is yet to be given the standard stream ``descriptor``."""
    return Late(f"stdio {descriptor}")
