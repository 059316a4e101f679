"""Letting a created container's init go on to the user's program."""

from __future__ import annotations

import posix
from errno import ENOENT, ENXIO

from pyrunc.container.record import state as states
from pyrunc.container.record.entry import UNTIL_CREATED
from pyrunc.container.record.store import Store
from pyrunc.errors import Error, HookFailed, NotFound, WrongStatus, reason
from pyrunc.linux import files
from pyrunc.linux import processes as p
from pyrunc.process.channel import EXECUTING, GO_ON
from pyrunc.process.failure import START_HOOK, describe_failure, parse_failure, printed_in

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.container.record.entry import Entry
    from pyrunc.container.record.record import Record
    from pyrunc.container.settings import Settings
    from pyrunc.process.guard import Signals
    from pyrunc.process.notify import Proxy

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
        if status == states.RUNNING or (status == states.PAUSED and not entry.awaits_start()):
            raise WrongStatus("cannot start an already running container")
        if status == states.STOPPED:
            raise WrongStatus("cannot start a container that has stopped")
        if status == states.CREATING:
            raise WrongStatus(
                f"cannot start a container that is still being created; {UNTIL_CREATED}"
            )
        if status == states.PAUSED:
            raise WrongStatus("cannot start a paused container: resume it first")
        notify = start_notify(settings, entry)
        try:
            start_entry(settings, entry, record)
        except HookFailed:
            _destroy(settings, entry, record)
            raise
        warn_if_killed(settings, entry, record)
        if notify is not None:
            notify.wait_until_ready(record["pid"], record["startTime"])
    finally:
        entry.close()


def warn_if_killed(settings: Settings, entry: Entry, record: Record) -> None:
    """Say it when a program has ended by now, and the kernel had it for want of memory."""
    if not p.is_running(record["pid"], record["startTime"]):
        from pyrunc.container.out_of_memory import warn_of_kills

        warn_of_kills(settings, entry, record)


def start_notify(settings: Settings, entry: Entry) -> Proxy | None:
    """Set up the socket between a starting container and $NOTIFY_SOCKET, if both are there.

    A variable that has outlived its service manager is worth a warning, not a container.
    """
    if not posix.environ.get(b"NOTIFY_SOCKET"):
        return None
    from pyrunc.process.notify import proxy_for

    try:
        return proxy_for(entry.directory)
    except Error as error:
        settings.log.warn(f"{error}; nobody is told when the container is ready")
        return None


def start_entry(
    settings: Settings, entry: Entry, record: Record, signals: Signals | None = None
) -> None:
    """Start a created container whose lock is held; it is held no more afterwards.

    Neither a slow poststart hook nor a foreground `run` may keep others from the container.

    :param signals: where signals are blocked: what tells of one that wants us to end.
    :raises Error: also when one does.
    """
    release(entry, signals)
    entry.unlock()
    hooks = (record.get("hooks") or {}).get("poststart")
    if hooks:
        from pyrunc.process.hooks import run_hooks

        state = states.hook_state(record, states.RUNNING, record["pid"])
        try:
            run_hooks("poststart", hooks, state, signals=signals)
        except Error as error:
            raise HookFailed(str(error)) from None


def release(entry: Entry, signals: Signals | None = None) -> None:
    """Open init's fifo, and wait until it has executed the program or says why it could not.

    Init holds the writing end of the result fifo close-on-exec, and announces the execution.
    """
    result = -1
    try:
        try:
            result = entry.open_fifo("result.fifo", posix.O_RDONLY)
            go = entry.open_fifo("exec.fifo", posix.O_WRONLY)
        except OSError as error:
            if error.errno in (ENXIO, ENOENT):
                raise WrongStatus("cannot start a container that has stopped") from None
            raise
        posix.set_blocking(result, True)
        posix.write(go, GO_ON)
        posix.close(go)
        if signals is not None:
            _wait_for_answer(entry, result, signals)
        answer = files.read_all(result, _LONGEST_ANSWER)
    except OSError as error:
        raise Error(f"cannot start container {entry.id}: {reason(error)}") from None
    finally:
        if result >= 0:
            posix.close(result)
    record = answer.removeprefix(EXECUTING)
    failure = parse_failure(record)
    if failure is not None:
        text = describe_failure(failure)
        if text.startswith(START_HOOK):
            raise HookFailed(text + printed_in(record))
        raise Error(f"unable to start container process: {text}")
    if not answer:
        raise Error(
            "unable to start container process: the container's init was killed "
            "before it executed the program"
        )
    entry.unlink("exec.fifo")
    entry.unlink("result.fifo")


def _wait_for_answer(entry: Entry, result: int, signals: Signals) -> None:
    """Wait for init's answer: a startContainer hook may take as long as it likes.

    :raises Error: when a signal wants us to end meanwhile.
    """
    while result not in p.poll((result, signals.signals)):
        if signal := signals.interrupted():
            raise Error(f"starting container {entry.id} was interrupted by signal {signal}")


def _destroy(settings: Settings, entry: Entry, record: Record) -> None:
    """What `delete` does; what else fails is only warned about, as the hook's failure is why."""
    from pyrunc.container.delete import remove

    try:
        if not entry.locked:
            entry.lock()
        remove(settings, entry, record)
    except NotFound:
        # Somebody else deleted it meanwhile.
        return
    except (OSError, Error) as error:
        settings.log.warn(f"cannot remove container {entry.id}: {reason(error)}")
