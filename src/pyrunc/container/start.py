"""Letting a created container's init go on to the user's program."""

from __future__ import annotations

import posix
from errno import ENOENT, ENXIO

from pyrunc.container.record import state as states
from pyrunc.container.record.entry import UNTIL_CREATED
from pyrunc.container.record.store import Store
from pyrunc.container.undertaking import RuntimeStep, Undertaking
from pyrunc.errors import Error, HookFailed, WrongStatus, reason
from pyrunc.linux import files, process_stat
from pyrunc.linux import processes as p
from pyrunc.process.channel import EXECUTING, GO_ON

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from pyrunc.container.record.entry import Entry
    from pyrunc.container.record.record import Record
    from pyrunc.container.settings import Settings
    from pyrunc.process.guard import Signals
    from pyrunc.process.notify import Proxy
    from pyrunc.spec.types import Hook

#: More than any record that init writes; a tracer in the container could write for ever.
_LONGEST_ANSWER = 4096


def start(settings: Settings, container_id: str) -> None:
    """Start a created container and wait until the user's program runs (runtime.md, "Start").

    :raises WrongStatus: when it is not created.
    :raises Error: when the execution of the program failed, with the reason; the container is
        stopped then.
    :raises HookFailed: when a startContainer or poststart hook failed; the container is gone then
        and its poststop hooks have run (runtime.md, "Lifecycle", steps 7 and 9).
    """
    entry = Store(settings.root).open(container_id)
    try:
        record, status = states.take(entry)
        _check_status(entry, status)
        steps = plan_start(record, notifies=has_manager())
        Starting(settings, entry, record).carry_out((RemoveAfter(HookFailed), *steps))
    finally:
        entry.close()


def _check_status(entry: Entry, status: str) -> None:
    if status == states.RUNNING or (status == states.PAUSED and not entry.awaits_start()):
        raise WrongStatus("cannot start an already running container")
    if status == states.STOPPED:
        raise WrongStatus("cannot start a container that has stopped")
    if status == states.CREATING:
        raise WrongStatus(f"cannot start a container that is still being created; {UNTIL_CREATED}")
    if status == states.PAUSED:
        raise WrongStatus("cannot start a paused container: resume it first")


def has_manager() -> bool:
    """Return whether somebody wants to know when the container is ready."""
    return bool(posix.environ.get(b"NOTIFY_SOCKET"))


def plan_start(record: Record, *, notifies: bool, stays: bool = False) -> tuple[RuntimeStep, ...]:
    """Plan the start of a container whose lock is held; it is held no more afterwards. Pure.

    Neither a slow poststart hook nor a foreground `run` may keep others from the container.

    :param notifies: :func:`has_manager`.
    :param stays: whether the caller stays until the container ends, and does himself what is to
        be done for the program meanwhile.
    """
    steps: list[RuntimeStep] = []
    if notifies:
        steps.append(ListenForReadiness())
    steps += [LetInitGoOn(), AwaitExecution(), LetOthersIn()]
    if hooks := (record.get("hooks") or {}).get("poststart"):
        steps.append(RunPoststart(hooks))
    if not stays:
        steps.append(SeeIfKilled())
        if notifies:
            steps.append(AwaitReadiness())
    return tuple(steps)


class Starting(Undertaking):
    """A container that is being started: what the steps find out and share."""

    def __init__(self, settings: Settings, entry: Entry, record: Record) -> None:
        super().__init__(settings)
        self.entry = entry
        self.record = record
        #: Where signals are blocked: what tells of one that wants us to end.
        self.signals: Signals | None = None
        #: The container's socket to $NOTIFY_SOCKET.
        self.notify: Proxy | None = None
        #: The fifo that init answers through.
        self.result = -1

    def carry_out(self, steps: Iterable[RuntimeStep]) -> None:
        """Carry out the list, or undo what of it was done; close what was opened for it."""
        try:
            self.apply(steps)
        except BaseException as error:
            self.undo(error)
            raise
        finally:
            self.close()


class RemoveAfter(RuntimeStep):
    """Should such an error come, remove the container."""

    error: type[BaseException]

    undoing = "remove the container"

    def describe(self) -> str:
        return "should it fail, remove the container"

    def apply(self, doing: Starting) -> None:
        """Do nothing."""

    def undo(self, doing: Starting) -> None:
        if isinstance(doing.error, self.error):
            from pyrunc.container.delete import remove_unless_gone

            remove_unless_gone(doing.settings, doing.entry, doing.record, doing.signals)


class ListenForReadiness(RuntimeStep):
    """Make the container's socket, if it was created with a place for one.

    A variable that has outlived its service manager is worth a warning, not a container.
    """

    def describe(self) -> str:
        return "put a socket between the container and $NOTIFY_SOCKET"

    def apply(self, doing: Starting) -> None:
        from pyrunc.process.notify import proxy_for

        try:
            doing.notify = proxy_for(doing.entry.directory)
        except Error as error:
            doing.settings.log.warn(f"{error}; nobody is told when the container is ready")


class LetInitGoOn(RuntimeStep):
    """Write the byte that init waits for."""

    def describe(self) -> str:
        return "let init go on"

    def apply(self, doing: Starting) -> None:
        entry = doing.entry
        try:
            doing.result = doing.keep(entry.open_fifo("result.fifo", posix.O_RDONLY))
            go = doing.keep(entry.open_fifo("exec.fifo", posix.O_WRONLY))
        except OSError as error:
            if error.errno in (ENXIO, ENOENT):
                raise WrongStatus("cannot start a container that has stopped") from None
            raise _not_started(entry, error) from None
        try:
            posix.set_blocking(doing.result, True)
            posix.write(go, GO_ON)
        except OSError as error:
            raise _not_started(entry, error) from None


class AwaitExecution(RuntimeStep):
    """Wait until init has executed the program or says why it could not.

    It holds the writing end of the result fifo close-on-exec, and announces the execution.
    """

    def describe(self) -> str:
        return "wait for init to execute the program"

    def apply(self, doing: Starting) -> None:
        try:
            if doing.signals is not None:
                _wait_for_answer(doing, doing.signals)
            answer = files.read_all(doing.result, _LONGEST_ANSWER)
        except OSError as error:
            raise _not_started(doing.entry, error) from None
        if not answer:
            raise Error(
                "unable to start container process: the container's init was killed "
                "before it executed the program"
            )
        if answer != EXECUTING:
            _check_answer(answer.removeprefix(EXECUTING))


def _wait_for_answer(doing: Starting, signals: Signals) -> None:
    """Wait for init's answer: a startContainer hook may take as long as it likes.

    :raises Error: when a signal wants us to end meanwhile.
    """
    while doing.result not in p.poll((doing.result, signals.signals)):
        if signal := signals.interrupted():
            raise Error(f"starting container {doing.entry.id} was interrupted by signal {signal}")


def _check_answer(record: bytes) -> None:
    """:raises Error: when the record of init's tells that something failed."""
    from pyrunc.process.failure import START_HOOK, describe_failure, parse_failure, printed_in

    failure = parse_failure(record)
    if failure is None:
        return
    text = describe_failure(failure)
    if text.startswith(START_HOOK):
        raise HookFailed(text + printed_in(record))
    raise Error(f"unable to start container process: {text}")


def _not_started(entry: Entry, error: OSError) -> Error:
    return Error(f"cannot start container {entry.id}: {reason(error)}")


class LetOthersIn(RuntimeStep):
    """Have the container count as running, which the fifos tell, and let others at it."""

    def describe(self) -> str:
        return "let others at the container, which runs"

    def apply(self, doing: Starting) -> None:
        for name in ("exec.fifo", "result.fifo"):
            doing.entry.unlink(name)
        doing.entry.unlock()


class RunPoststart(RuntimeStep):
    """Run the poststart hooks."""

    hooks: list[Hook]

    def describe(self) -> str:
        return "run the poststart hooks"

    def apply(self, doing: Starting) -> None:
        from pyrunc.process.hooks import run_hooks

        record = doing.record
        state = states.hook_state(record, states.RUNNING, record["pid"])
        try:
            run_hooks("poststart", self.hooks, state, signals=doing.signals)
        except Error as error:
            raise HookFailed(str(error)) from None


class SeeIfKilled(RuntimeStep):
    """Say it when the program has ended by now, and the kernel had it for want of memory."""

    def describe(self) -> str:
        return "see whether the program was killed for want of memory"

    def apply(self, doing: Starting) -> None:
        record = doing.record
        if not process_stat.is_running(record["pid"], record["startTime"]):
            from pyrunc.container.out_of_memory import warn_of_kills

            warn_of_kills(doing.settings, doing.entry, record)


class AwaitReadiness(RuntimeStep):
    """Stay until the program has said that it is ready, if it has where to."""

    def describe(self) -> str:
        return "wait for the program to be ready"

    def apply(self, doing: Starting) -> None:
        if doing.notify is not None:
            doing.notify.wait_until_ready(doing.record["pid"], doing.record["startTime"])
