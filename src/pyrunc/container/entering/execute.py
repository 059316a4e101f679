"""`exec`: one more process in a container that runs.

No Python ever runs inside the container. The runtime looks everything up from
outside, through descriptors of the container's root; a child of it becomes
init at once, in the host's namespaces, and init enters the container, drops
what it must not have, and only then shows itself in the container's pid
namespace: with the program's own descriptors and nothing else. It has no pipe to
say how that went; process/shared_page.py tells how the runtime hears of it.
"""

from __future__ import annotations

from pyrunc.container.entering.entering import Entering, Home
from pyrunc.container.entering.exec_process import ExecOptions, passed_over, process_of
from pyrunc.container.entering.runtime_plan import plan_entering
from pyrunc.container.record import state as states
from pyrunc.container.record.store import Store
from pyrunc.errors import Error, ExecFailed, WrongStatus
from pyrunc.process.descriptors import passed

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    from pyrunc.container.record.entry import Entry
    from pyrunc.container.record.record import Record
    from pyrunc.container.settings import Settings
    from pyrunc.process.foreground import Relay
    from pyrunc.spec.types import Process

    _Result = TypeVar("_Result")

__all__ = ["ExecOptions", "execute"]


def execute(settings: Settings, container_id: str, options: ExecOptions) -> int:
    """Run a process in the container; return its exit status, or 0 when detached.

    :raises WrongStatus: when the container is stopped or paused.
    :raises pyrunc.errors.ExecFailed: when there is no such program.
    """
    try:
        return _carry_out(settings, container_id, options, _run)
    except ExecFailed as error:
        raise ExecFailed(f"exec failed: unable to start container process: {error}") from None


def spawn(settings: Settings, container_id: str, options: ExecOptions) -> tuple[int, int]:
    """Start a process in the container, a child of this one; return its pid and a pidfd.

    Its standard streams are this process's own. Whoever calls this waits for it.

    :raises WrongStatus: when the container is stopped or paused.
    :raises pyrunc.errors.ExecFailed: when there is no such program.
    """
    return _carry_out(settings, container_id, options, _leave)


def spawn_in(settings: Settings, home: Home, options: ExecOptions) -> tuple[int, int]:
    """Do what :func:`spawn` does for who has made the container, which runs, and knows it.

    :raises WrongStatus: when it is paused.
    """
    if states.is_paused(home.record):
        _refuse_paused(options)
    return _enter(settings, home, options, _leave)


def _carry_out(
    settings: Settings,
    container_id: str,
    options: ExecOptions,
    and_then: Callable[[_Execution], _Result],
) -> _Result:
    """Have a process run in the container; return what becomes of it ``and_then``."""
    entry = Store(settings.root).open(container_id)
    try:
        record = entry.load()
        _check_status(entry, record, options)
        settings.trace.mark("load modules, find the container")
        return _enter(settings, Home(entry, record, entry.load_config()), options, and_then)
    finally:
        entry.close()


def _enter(
    settings: Settings, home: Home, options: ExecOptions, and_then: Callable[[_Execution], _Result]
) -> _Result:
    from pyrunc.process.foreground import Relay

    execution = _Execution(settings, home, options)
    try:
        with Relay() as relay:
            execution.carry_out(relay)
            return and_then(execution)
    finally:
        execution.close()


def _run(execution: _Execution) -> int:
    """Wait for its end unless it is detached."""
    if execution.options.detach:
        return 0
    status = execution.relay.wait(execution.pid, execution.pidfd)
    execution.settings.trace.mark("wait for the program to end")
    return status


def _leave(execution: _Execution) -> tuple[int, int]:
    execution.let_go(execution.pidfd)
    return execution.pid, execution.pidfd


def _check_status(entry: Entry, record: Record, options: ExecOptions) -> None:
    status = states.status_of(entry, record)
    if status == states.STOPPED:
        raise WrongStatus("cannot exec in a stopped container")
    if status == states.CREATING:
        raise WrongStatus("cannot exec in a container that is still being created")
    if status == states.PAUSED:
        _refuse_paused(options)


def _refuse_paused(options: ExecOptions) -> None:
    if not options.ignore_paused:
        raise WrongStatus("cannot exec in a paused container (unless with --ignore-paused)")


class _Execution(Entering):
    """One process on its way into a container: looked up, planned, carried out."""

    def __init__(self, settings: Settings, home: Home, options: ExecOptions) -> None:
        asked = passed(options.preserve_fds)
        notes: list[str] = []
        process = process_of(home.spec, options, notes)
        for note in notes:
            settings.log.warn(note)
        if without_effect := passed_over(options, process):
            settings.log.warn(f"{', '.join(without_effect)}: no effect beside --process")
        _check_terminal(process, options)
        super().__init__(settings, home, options, process, asked)

    def carry_out(self, relay: Relay) -> None:
        """Have the program run in the container, or leave nothing of it.

        :raises Error: also when a signal wants us to end meanwhile.
        """
        self.relay = relay
        self.look_up()
        self.plan = plan_entering(self, self.find_out())
        for warning in self.plan.warnings:
            self.settings.log.warn(warning)
        self.settings.trace.mark("look up the container, plan")
        try:
            self.apply(self.plan.runtime)
        except BaseException as error:
            self.undo(error)
            raise


def _check_terminal(process: Process, options: ExecOptions) -> None:
    terminal = bool(process.get("terminal"))
    if terminal and options.detach and not options.console_socket:
        raise Error(
            "cannot allocate tty if pyrunc will detach without setting console socket; "
            "give --console-socket"
        )
    if options.console_socket and not (terminal and options.detach):
        raise Error(
            "cannot use console socket if pyrunc will not detach or allocate tty; "
            "leave --console-socket out, or ask for a terminal and --detach"
        )
