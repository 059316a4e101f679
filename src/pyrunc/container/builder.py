"""The builder: a fork of the runtime that makes the container from inside and becomes its init.

From its first instruction it imports nothing and looks nothing up by name in
Python's search path, so that nothing of the container's root file system can
ever be loaded into it.
"""

from __future__ import annotations

import posix
import sys

from pyrunc.cgroups.entrance import Entrance
from pyrunc.container.init_program import compile_init
from pyrunc.errors import Error, failure_of_the_machine, reason
from pyrunc.linux import files
from pyrunc.process.channel import FAILED, die_with_runtime
from pyrunc.process.program import find_program, with_home
from pyrunc.process.seal import execute_init, launch_fd
from pyrunc.step import Build, Opened
from pyrunc.trace import BUILDER, OFF

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import NoReturn

    from pyrunc.plan.plan import Plan
    from pyrunc.process.last_mile import LastMile
    from pyrunc.trace import NoTrace

_SIG_IGN = 1
_SIGSET_SIZE = 8


class Handover:
    """What the runtime gives to the builder at its birth; descriptors are inherited."""

    __slots__ = (
        "down",
        "enter_old_ways",
        "entered_pid_namespace",
        "entrance",
        "held",
        "init",
        "last_mile",
        "namespaces",
        "of_runtime",
        "opened",
        "page",
        "plan",
        "preserved",
        "proc",
        "result_fifo",
        "socket",
        "start_fifo",
        "state",
        "trace",
        "up",
    )

    def __init__(self, plan: Plan, last_mile: LastMile | None) -> None:
        self.plan = plan
        #: None for a container without a process: it can be created, but not started.
        self.last_mile = last_mile
        self.up = -1
        self.down = -1
        #: As of :class:`pyrunc.container.create_options.CreateOptions`.
        self.held = False
        #: The runtime's ends of the pipes and its lock, closed so that its death is noticed.
        self.of_runtime: tuple[int, ...] = ()
        self.init = -1
        #: How to get into the container's cgroups.
        self.entrance = Entrance()
        self.proc = -1
        self.start_fifo = -1
        self.result_fifo = -1
        self.socket = -1
        self.preserved = 0
        self.namespaces: dict[str, int] = {}
        self.opened = Opened()
        #: When a pid namespace is joined: the page through which init tells whom it has brought
        #: forth there (process/shared_page.py), or -1.
        self.page = -1
        #: Whether children of the builder are born in it already.
        self.entered_pid_namespace = False
        self.state = b""
        self.trace: NoTrace = OFF
        #: Given the host's procfs, prepares for system calls that are refused here, if any may be.
        self.enter_old_ways: Callable[[int], None] | None = None

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
    trace = handover.trace
    trace.begin(BUILDER)
    doing = "start building"
    try:
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
        build.entered_pid_namespace = handover.entered_pid_namespace
        build.namespaces = handover.namespaces
        build.opened = handover.opened
        posix.umask(0)
        for step in handover.plan.builder:
            doing = ""
            try:
                step.apply(build)
            except (OSError, Error, ValueError) as error:
                doing = step.describe()
                raise Error(f"cannot {doing}: {reason(error)}") from error
            if trace.on:
                trace.mark(step.describe())
        doing = "launch init"
        _become_init(handover, entered_cwd=build.entered_cwd)
    except (OSError, Error, ValueError) as error:
        text = reason(error) if isinstance(error, Error) else f"cannot {doing}: {reason(error)}"
        _fail(handover.up, text)
    except BaseException as error:
        why = failure_of_the_machine(error)
        bug = f"internal error: {type(error).__name__}: {error}: please report"
        _fail(handover.up, f"cannot {doing or 'build'}: {why}" if why else bug)
    posix._exit(1)


def _fail(up: int, text: str) -> None:
    try:
        files.write_all(up, FAILED + text.encode("utf-8", "replace"))
    except OSError:
        pass
    posix._exit(1)


def _become_init(handover: Handover, *, entered_cwd: bool) -> None:
    """Compile the launch program, now that the program can be found, and execute init with it."""
    last_mile = handover.last_mile
    trace = handover.trace
    if last_mile is not None:
        process = last_mile.process
        last_mile.entered_cwd = entered_cwd
        root = posix.open("/", files.O_PATH | files.O_DIRECTORY | files.O_CLOEXEC)
        if not handover.held:
            last_mile.program = find_program(
                root, process["args"][0], last_mile.environment, process["cwd"]
            )
        uid = (process.get("user") or {}).get("uid", 0)
        last_mile.environment = with_home(root, list(last_mile.environment), uid, handover.proc)
        posix.close(root)
        # These are init's from here on; the rest of what is open is not.
        for descriptor in range(3, 3 + last_mile.preserved):
            posix.set_inheritable(descriptor, True)
    programs = compile_init(handover)
    if trace.on:
        trace.expect(programs[0].stamped)
    launch = [launch_fd(program.encode()) for program in programs]
    trace.mark("find the program, compile the launch program")
    _give_up_effective_gid()
    execute_init(handover.init, *launch)


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
