"""The builder: a child of the runtime that makes the container from inside and becomes its init.

From its first instruction it imports nothing and looks nothing up by name in
Python's search path, so that nothing of the container's root file system can
ever be loaded into it.
"""

from __future__ import annotations

import posix
import sys

from pyrunc.cgroups.entrance import Entrance
from pyrunc.errors import Error, ExecFailed, failure_of_the_machine, reason
from pyrunc.linux import files
from pyrunc.process.channel import FAILED, die_with_runtime
from pyrunc.process.late import (
    CWD_BY_ROOT,
    CWD_BY_USER,
    DOWN,
    HERE,
    PID_NAMESPACE,
    PID_NAMESPACE_AHEAD,
    PROC,
    STAMPS,
    UP,
)
from pyrunc.process.seal import FilledIn, execute_init, filled_in, launch_fds, way_back
from pyrunc.step import Build, Opened
from pyrunc.trace import BUILDER, OFF

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, NoReturn

    from pyrunc.plan.plan import Plan
    from pyrunc.trace import NoTrace


class Handover:
    """What the runtime gives to the builder at its birth; descriptors are inherited."""

    __slots__ = (
        "down",
        "empty",
        "enter_old_ways",
        "entered_pid_namespace",
        "entrance",
        "filled",
        "init",
        "known",
        "namespaces",
        "of_runtime",
        "opened",
        "plan",
        "preserved",
        "proc",
        "shares_memory",
        "socket",
        "trace",
        "up",
    )

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.up = -1
        self.down = -1
        #: The runtime's ends of the pipes and its lock, closed so that its death is noticed.
        self.of_runtime: tuple[int, ...] = ()
        self.init = -1
        #: Path of an empty file system to cover directories with, if there is one.
        self.empty = ""
        #: How to get into the container's cgroups.
        self.entrance = Entrance()
        self.proc = -1
        self.socket = -1
        #: What the runtime has opened for init: descriptors by their names in process/late.py.
        self.known: dict[str, int] = {}
        #: How many descriptors from 3 on the program gets.
        self.preserved = 0
        self.namespaces: dict[str, int] = {}
        self.opened = Opened()
        #: Whether children of the builder are born in it already.
        self.entered_pid_namespace = False
        #: Whether the builder is to work in the runtime's memory (same_memory.py).
        self.shares_memory = False
        self.trace: NoTrace = OFF
        #: The launch programs, filled in with what is known before the birth, if they were.
        self.filled: FilledIn | None = None
        #: Given the host's procfs, prepares for system calls that are refused here, if any may be.
        self.enter_old_ways: Callable[[int], None] | None = None

    def known_at_birth(self) -> dict[str, Any]:
        """Return what is put into the launch programs, as far as it is known before the birth."""
        return {
            **self.known,
            UP.name: self.up,
            DOWN.name: self.down,
            PROC.name: self.proc,
            STAMPS.name: self.trace.stamps,
            PID_NAMESPACE.name: self.namespaces.get("pid", -1),
        }

    def fill_in(self, before: FilledIn | None) -> FilledIn:
        """Fill in the launch programs as they most likely will be.

        :param before: how they were for a container of the same plan: if they are the same now.
        """
        expected = {
            **self.known_at_birth(),
            HERE.name: -1,
            PID_NAMESPACE_AHEAD.name: True,
            CWD_BY_ROOT.name: True,
            CWD_BY_USER.name: False,
        }
        self.filled = filled_in(before, self.plan.init, expected)
        return self.filled

    def twin(self) -> Handover:
        """Return another with the same in it."""
        twin = Handover(self.plan)
        for name in self.__slots__:
            setattr(twin, name, getattr(self, name))
        return twin

    def let_go(self) -> None:
        """Close what is the runtime's, in a child of it: its lock, its ends of the pipes."""
        for descriptor in self.of_runtime:
            if descriptor >= 0:
                posix.close(descriptor)
        self.of_runtime = ()


def close_imports() -> None:
    """Make importing impossible (design invariant 1): whatever is needed is loaded by now."""
    sys.meta_path.clear()
    sys.path_hooks.clear()
    sys.path.clear()
    sys.path_importer_cache.clear()


def build_container(handover: Handover) -> NoReturn:
    """Carry out the plan and execute init. Never returns, whatever happens."""
    close_imports()
    doing = Doing()
    try:
        launch = carry_out(handover, doing)
        execute_init(handover.init, *launch)
    except BaseException as error:
        tell_failure(handover.up, doing, error)
    posix._exit(1)


class Doing:
    """What the builder is doing, for the error."""

    what = "start building"


def carry_out(handover: Handover, doing: Doing) -> Sequence[int]:
    """Carry out the plan; return descriptors of the launch programs to execute init with."""
    trace = handover.trace
    trace.begin(BUILDER)
    # Should the runtime be killed, nothing half-made may live on.
    handover.let_go()
    die_with_runtime(handover.down)
    build = Build(handover.up, handover.down)
    build.later_cgroups = handover.entrance.later
    handover.entrance.join()
    build.proc = handover.proc
    build.socket = handover.socket
    if handover.enter_old_ways:
        handover.enter_old_ways(handover.proc)
    build.init = handover.init
    if handover.empty:
        # By its path: what is to be cloned must be a mount of the own namespace.
        build.null = posix.open(handover.empty, files.O_PATH | files.O_CLOEXEC)
    build.entered_pid_namespace = handover.entered_pid_namespace
    build.namespaces = handover.namespaces
    build.opened = handover.opened
    steps = handover.plan.builder
    build.kept_mounts = frozenset(index for step in steps for index in step.comes_back_to())
    posix.umask(0)
    for step in steps:
        doing.what = ""
        try:
            step.apply(build)
        except ExecFailed:
            # Its words are engines': they make exit codes of them.
            raise
        except (OSError, Error, ValueError) as error:
            doing.what = step.describe()
            raise Error(f"cannot {doing.what}: {reason(error)}") from error
        if trace.on:
            trace.mark(step.describe())
    doing.what = "launch init"
    return _prepare_init(handover, build)


def tell_failure(up: int, doing: Doing, error: BaseException) -> None:
    """Tell the runtime why the builder has failed."""
    if isinstance(error, Error):
        text = reason(error)
    elif isinstance(error, (OSError, ValueError)):
        text = f"cannot {doing.what}: {reason(error)}"
    elif why := failure_of_the_machine(error):
        text = f"cannot {doing.what or 'build'}: {why}"
    else:
        text = f"internal error: {type(error).__name__}: {error}: please report"
    try:
        files.write_all(up, FAILED + text.encode("utf-8", "replace"))
    except OSError:
        pass


def _prepare_init(handover: Handover, build: Build) -> Sequence[int]:
    """Fill in the launch programs, now that all is known, and give up what init must not have."""
    trace = handover.trace
    known = {
        **build.known,
        **handover.known_at_birth(),
        HERE.name: way_back(),
        PID_NAMESPACE_AHEAD.name: not handover.entered_pid_namespace,
        CWD_BY_ROOT.name: build.entered_cwd,
        CWD_BY_USER.name: not build.entered_cwd,
    }
    # These are init's from here on; the rest of what is open is not.
    for descriptor in range(3, 3 + handover.preserved):
        posix.set_inheritable(descriptor, True)
    if handover.filled and handover.filled.holds(known):
        launch = handover.filled.open()
    else:
        launch = launch_fds(handover.plan.init, known, trace)
    trace.mark("fill in the launch program")
    _give_up_effective_gid()
    return launch


def _give_up_effective_gid() -> None:
    """Execute init with an effective gid that is not the real one.

    The kernel makes such a process undumpable from the first instruction
    (begin_new_exec in fs/exec.c), so there is no moment in which it could be
    traced; its launch program sets the ids that the config asks for. Where only
    one gid is mapped there is no second one to take: init's first call must do.
    """
    from_gid = posix.getegid()
    for gid in (from_gid + 1, 65534, 1):
        try:
            posix.setresgid(-1, gid, -1)
        except OSError:
            continue
        return
