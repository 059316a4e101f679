"""Removing a container, whatever state it is in."""

from __future__ import annotations

import time

from pyrunc.container.record import state as states
from pyrunc.container.record.entry import UNTIL_CREATED
from pyrunc.container.record.store import Store
from pyrunc.container.teardown import remove_cgroup, run_poststop
from pyrunc.errors import Error, NotFound, WrongStatus, reason
from pyrunc.linux import files, process_stat
from pyrunc.linux import processes as p

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from pyrunc.container.record.entry import Entry
    from pyrunc.container.record.record import Record
    from pyrunc.container.settings import Settings
    from pyrunc.process.guard import Signals
    from pyrunc.spec.types import Spec

#: How long `delete` waits for a killed init to be gone (its last memory may take a while).
_LONGEST_DEATH = 10.0
#: How long a CRIU that restores or saves a container gets to notice that it has been killed.
_LONGEST_END = 2.0


def delete(settings: Settings, container_id: str, *, force: bool) -> None:
    """Remove a stopped (or created, or with ``force`` any) container (runtime.md, "Delete").

    :raises NotFound: when there is none; with ``force`` that is no error.
    :raises WrongStatus: when it is running.
    """
    try:
        entry = Store(settings.root).open(container_id)
    except NotFound:
        if force:
            return
        raise
    try:
        if force:
            _delete_by_force(settings, entry)
        else:
            record, status = states.take(entry)
            if status not in (states.STOPPED, states.CREATED):
                raise WrongStatus(
                    f"cannot delete container {container_id} that is not stopped: {status}"
                    + (f"; {UNTIL_CREATED}" if status == states.CREATING else "")
                )
            remove(settings, entry, record)
    except NotFound:
        # Somebody else deleted it while we waited for the lock.
        if not force:
            raise
    finally:
        entry.close()


def _delete_by_force(settings: Settings, entry: Entry) -> None:
    """Remove what there is: the record may be missing or damaged, an operation under way."""
    if not entry.is_ours():
        raise Error(
            f"{entry.path} is not the directory of a container: it stays as it is; is --root right?"
        )
    deadline = time.monotonic() + _LONGEST_DEATH
    while True:
        # Before the lock: whoever holds it may be waiting for this very process.
        record = entry.salvage()
        _kill_init(record)
        if entry.lock(wait=False):
            break
        if time.monotonic() > deadline:
            raise Error(f"container {entry.id} is held by another operation that does not end")
        p.poll((), 0.005)
    try:
        record = entry.load()
    except Error as error:
        settings.log.debug(str(error))
        record = _salvage(settings, entry)
    remove(settings, entry, record)


def _salvage(settings: Settings, entry: Entry) -> Record:
    """Return what can still be told of a container whose record cannot be read."""
    record = entry.salvage()
    for name in ("id", "ociVersion", "bundle"):
        record[name] = entry.id if name == "id" else ""
    if "cgroup" in record:
        from pyrunc.cgroups.driver import from_state

        try:
            from_state(record["cgroup"]).processes()
        except (OSError, Error) as error:
            settings.log.debug(f"the cgroup of {entry.id} is unknown: {reason(error)}")
            del record["cgroup"]
    config = _checked_config(settings, entry)
    # The config is kept once the cgroup is made, and there is a record before that: without
    # either of them the cgroup of that name, if there is one, is somebody else's.
    if "cgroup" not in record and (config or entry.has("state.json")):
        record["cgroup"] = _cgroup_by_config(settings, entry, config)
        # Killing init does not end the others for sure.
        record["sharedPidNamespace"] = True
    elif "cgroup" not in record:
        from pyrunc.container.lost import find_processes

        find_processes(settings, entry, record, _cgroup_by_config(settings, entry, config))
    if "hooks" not in record and config.get("hooks"):
        record["hooks"] = config["hooks"]
    return record


def _checked_config(settings: Settings, entry: Entry) -> Spec:
    """Return the config that is kept beside the record; empty when it is missing or damaged."""
    from pyrunc.spec.load import check

    try:
        config = entry.load_config()
        if not check(config):
            return config
        settings.log.debug(f"the config of {entry.id} is damaged")
    except Error as error:
        settings.log.debug(str(error))
    return {}  # type: ignore[typeddict-item]


def _cgroup_by_config(settings: Settings, entry: Entry, config: Spec) -> dict[str, Any]:
    """Return where the processes must be by the config."""
    from pyrunc.cgroups import driver, host

    path = config.get("linux", {}).get("cgroupsPath", "")
    try:
        return driver.open_driver(
            host.detect(),
            path,
            entry.id,
            disabled=settings.no_cgroups,
            # slice:prefix:name, as systemd's driver takes it and no other.
            systemd=settings.systemd_cgroup or (path[:1] != "/" and path.count(":") == 2),
            ignore_errors=settings.rootless,
        ).to_state()
    except (OSError, Error) as error:
        settings.log.debug(f"the cgroup of {entry.id} cannot be found: {reason(error)}")
        return {}


def remove(
    settings: Settings, entry: Entry, record: Record, signals: Signals | None = None
) -> None:
    """Undo create: processes, cgroup, directory; then run the poststop hooks.

    :param signals: as for :func:`pyrunc.container.teardown.run_poststop`.
    """
    _kill_init(record)
    _remove_cgroup(record)
    if record.get("intelRdt"):
        from pyrunc.cgroups import resctrl

        resctrl.from_state(record["intelRdt"]).destroy()
    entry.remove()
    hooks = (record.get("hooks") or {}).get("poststop")
    if hooks:
        run_poststop(settings, hooks, states.hook_state(record, states.STOPPED, 0), signals)


def remove_unless_gone(
    settings: Settings, entry: Entry, record: Record, signals: Signals | None = None
) -> None:
    """Take the lock if it is not held, and :func:`remove`, unless somebody else did meanwhile."""
    try:
        if not entry.locked:
            entry.lock()
        remove(settings, entry, record, signals)
    except NotFound:
        return


def _remove_cgroup(record: Record) -> None:
    saved = record.get("cgroup")
    if not saved:
        return
    from pyrunc.cgroups.driver import from_state

    try:
        remove_cgroup(from_state(saved))
    except OSError as error:
        raise Error(f"cannot remove the container's cgroup: {reason(error)}") from None


def _kill_init(record: Record) -> None:
    """Kill the container's init and wait until it is gone, if it is still there."""
    init = p.open_process(record.get("pid", 0), record.get("startTime", 0))
    if init is None:
        return
    try:
        init.signal(p.SIGKILL)
        if not init.wait(0.1):
            # Frozen by cgroup v1, it takes the signal only once it is thawed.
            from pyrunc.container.kill import thaw

            thaw(record)
            if not init.wait(_LONGEST_END):
                _kill_criu(record)
            if not init.wait(_LONGEST_DEATH):
                raise Error(f"the container's init ({record['pid']}) does not die")
    finally:
        init.close()


def _kill_criu(record: Record) -> None:
    """It traces processes that it restores or saves, and may wait for init, which waits for these.

    The command that had it do so may be dead; of a dump no record tells, but init's tracer.
    """
    init = record["pid"]
    if criu := record.get("criu"):
        process = p.open_process(criu["pid"], criu["startTime"])
    else:
        tracer = _tracer_of(init)
        process = p.open_process(tracer, process_stat.start_time(tracer))
        if process is not None and (
            _tracer_of(init) != tracer or process_stat.name_of(tracer) != b"criu"
        ):
            process.close()
            return
    if process is not None:
        process.signal(p.SIGKILL)
        process.close()


def _tracer_of(pid: int) -> int:
    """Return the pid of the process that traces this one, or 0 (proc_pid_status(5))."""
    try:
        status = files.read_file(f"/proc/{pid}/status")
    except OSError:
        return 0
    # At the beginning of a line: a name is the process's own to choose.
    return int(status.partition(b"\nTracerPid:\t")[2].partition(b"\n")[0] or 0)
