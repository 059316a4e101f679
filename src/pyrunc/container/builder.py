"""The builder: a fork of the runtime that makes the container from inside and becomes its init.

From its first instruction it imports nothing and looks nothing up by name in
Python's search path, so that nothing of the container's root file system can
ever be loaded into it.
"""

from __future__ import annotations

import posix
import sys
from _struct import pack

from pyrunc.cgroups.entrance import Entrance
from pyrunc.errors import Error, reason
from pyrunc.linux import files
from pyrunc.linux import processes as p
from pyrunc.process.channel import FAILED, READY, die_with_runtime
from pyrunc.process.failure import NO_PROCESS
from pyrunc.process.hooks import with_pid
from pyrunc.process.launch import LaunchProgram
from pyrunc.process.program import find_program, with_home
from pyrunc.process.seal import execute_init, launch_fd
from pyrunc.step import Build, Opened
from pyrunc.trace import BUILDER, OFF

TYPE_CHECKING = False
if TYPE_CHECKING:
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
        "entrance",
        "held",
        "init",
        "last_mile",
        "namespaces",
        "of_runtime",
        "opened",
        "plan",
        "preserved",
        "proc",
        "result_fifo",
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
        self.preserved = 0
        self.namespaces: dict[str, int] = {}
        self.opened = Opened()
        self.state = b""
        self.trace: NoTrace = OFF

    def let_go(self) -> None:
        """Close what is the runtime's, in a child of it: its lock, its ends of the pipes."""
        for descriptor in self.of_runtime:
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
        _fail(handover.up, f"internal error: {type(error).__name__}: {error}")
    posix._exit(1)


def _fail(up: int, text: str) -> None:
    try:
        files.write_all(up, FAILED + text.encode("utf-8", "replace"))
    except OSError:
        pass
    posix._exit(1)


def _become_init(handover: Handover, *, entered_cwd: bool) -> None:
    """Compile the launch program, now that the program can be found, and execute init with it."""
    launch = LaunchProgram(handover.up)
    last_mile = handover.last_mile
    trace = handover.trace
    launch.stamp_into(trace.stamps)
    launch.call("become undumpable", "prctl", p.PR_SET_DUMPABLE, 0, 0, 0, 0)
    # Forgotten since the effective gid changed; later, the end of the pipe tells as well.
    launch.call("die with the runtime", "prctl", p.PR_SET_PDEATHSIG, p.SIGKILL, 0, 0, 0)
    if last_mile is None:
        _compile_without_process(launch, handover)
    else:
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
        _compile(launch, handover, last_mile)
    program = launch_fd(launch.encode())
    # These are init's from here on; it marks them close-on-exec again.
    for descriptor in (handover.up, handover.down, handover.start_fifo, handover.result_fifo):
        posix.set_inheritable(descriptor, True)
    if last_mile is not None:
        if last_mile.hooks[1] >= 0:
            posix.set_inheritable(last_mile.hooks[1], True)
        if last_mile.label_writes:
            posix.set_inheritable(handover.proc, True)
        for descriptor in range(3, 3 + last_mile.preserved):
            posix.set_inheritable(descriptor, True)
    if trace.on:
        posix.set_inheritable(trace.stamps, True)
        trace.expect(launch.stamped)
    trace.mark("find the program, compile the launch program")
    _give_up_effective_gid()
    execute_init(handover.init, program)


def _compile(launch: LaunchProgram, handover: Handover, last_mile: LastMile) -> None:
    pid = posix.getpid()
    if last_mile.preserved_listen:
        # sd_listen_fds(3): the descriptors are for the process with this number.
        kept = [entry for entry in last_mile.environment if not entry.startswith("LISTEN_PID=")]
        last_mile.environment = [*kept, f"LISTEN_PID={pid}"]
    if last_mile.hooks[0]:
        created = handover.state.replace(b'"status":"creating"', b'"status":"created"', 1)
        state = files.memory_file("hook-stdin", with_pid(created, pid))
        last_mile.hooks = (last_mile.hooks[0], state)
    last_mile.proc = handover.proc
    last_mile.add_limits(launch)
    last_mile.add_labels(launch)
    last_mile.add_preparation(launch)
    last_mile.add_session(launch)
    last_mile.add_privileges(launch, handover.up, handover.down)
    last_mile.add_checks(launch)
    if not handover.held:
        last_mile.add_permission_check(launch)
    _keep_descriptors(launch, last_mile.preserved)
    _wait_for_start(launch, handover)
    last_mile.add_execution(launch, handover.result_fifo)


def _compile_without_process(launch: LaunchProgram, handover: Handover) -> None:
    launch.reset_signals()
    _keep_descriptors(launch, 0)
    _wait_for_start(launch, handover)
    launch.execute(NO_PROCESS, "/nonexistent", [""], [])


def _keep_descriptors(launch: LaunchProgram, preserved: int) -> None:
    launch.cloexec_from(3 + preserved)
    for descriptor in range(3, 3 + preserved):
        launch.call(f"keep descriptor {descriptor}", "fcntl", descriptor, 2, 0)


def _wait_for_start(launch: LaunchProgram, handover: Handover) -> None:
    """Wait until the runtime has written everything down, then for the start.

    If the runtime dies first, the pipe ends, and so does init. With its leave to go on
    the container lives on its own.
    """
    if handover.held:
        # Set anew, as the change of ids has undone it (PR_SET_PDEATHSIG(2const)).
        launch.call("end with the runtime", "prctl", p.PR_SET_PDEATHSIG, p.SIGKILL, 0, 0, 0)
        ignored = launch.blob(pack("=4Q", _SIG_IGN, 0, 0, 0))
        # The kernel collects the children of who ignores this (wait(2), NOTES).
        label = "let the kernel collect orphans"
        launch.call(label, "rt_sigaction", p.SIGCHLD, ignored, 0, _SIGSET_SIZE)
    else:
        launch.call("outlive the runtime", "prctl", p.PR_SET_PDEATHSIG, 0, 0, 0, 0)
    launch.call("report that the container is ready", "write", handover.up, launch.blob(READY), 1)
    launch.await_byte("wait until the container is on record", handover.down)
    launch.report_to(handover.result_fifo)
    launch.call("close the pipe", "close", handover.up)
    launch.call("close the pipe", "close", handover.down)
    launch.await_byte("wait for the start", handover.start_fifo)


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
