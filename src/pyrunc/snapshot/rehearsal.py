"""What the interpreter has learnt when a snapshot of it is taken: modules, and how they are used.

CPython rewrites a function's code for the types that it meets in its first calls (PEP 659). What
is rewritten before the snapshot need not be by every command, each time in a copy of the page.
"""

from __future__ import annotations

import posix
import sys

from pyrunc.errors import Error, NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from pyrunc.container.record.record import Record
    from pyrunc.spec.types import Spec

#: What the commands of a container's life load, at once or on their way. Others are loaded when
#: they are needed, as ever. First what all of them use, then what some do: what lies side by side
#: is on the same pages, of which each command writes to fewer.
_MODULES = (
    *("container.record.state", "cli.list", "cli.state", "cli.kill", "container.kill"),
    *("cli.start", "container.start", "cli.delete", "container.delete"),
    *("cgroups.driver", "cgroups.host", "cgroups.paths", "cgroups.v1", "cgroups.v2"),
    *("cli.execute", "container.entering.execute", "process.foreground"),
    *("cli.create", "cli.run", "container.run", "cgroups.v1_limits", "cgroups.v2_limits"),
    *("cgroups.device_filter", "cgroups.devices", "container.making.cgroup_owner"),
    *("container.making.create", "container.making.same_memory", "linux.number_lists"),
    *("plan.planner", "process.hooks", "security.seccomp", "security.seccomp_cache"),
    *("spec.default", "spec.linux", "spec.load", "spec.process", "spec.resources"),
    *("cli.output", "cli.paths", "cli.text", "cli.pause", "cli.resume", "cli.update"),
    *("cli.events", "container.events", "container.freeze", "container.update"),
    *("cgroups.oom", "cgroups.v1_statistics", "cgroups.v2_statistics", "container.statistics"),
)
#: They keep what they found when they were loaded: the environment, and more.
_FORBIDDEN = ("os", "random", "ssl", "subprocess", "tempfile", "threading")
#: After eight calls a function is rewritten.
TIMES = 12
_NAME = "rehearsal"
_ENDED = "ended"
#: No process has this number: pids are below 2^22 (proc_sys_kernel(5), pid_max).
_NOBODY = 1 << 22


def rehearse(invoke: Callable[[list[str]], int], path: str) -> None:
    """Load the modules, and do what the commands do, with two invented containers.

    One has our parent for its init, the other's has ended. They are there until :func:`forget`.

    ``invoke`` runs a command line; ``path`` is the snapshot's, beside which a state root for this
    is made. The standard streams should be /dev/null.

    :raises Error: when something was loaded that must not be in a snapshot.
    """
    for name in _MODULES:
        __import__(f"pyrunc.{name}")
    from pyrunc.container.run import plan_run
    from pyrunc.linux import libc
    from pyrunc.process.seal import init_program

    libc.address_of(bytearray(1))
    init_program()
    _invent(path, _NAME)
    for _ in range(TIMES):
        _invent(path, _ENDED)
        for words in (["list"], ["state", _NAME], ["kill", _NAME, "0"], ["delete", _ENDED]):
            invoke(["--root", _root(path), *words])
        _plan()
        plan_run(_record(_NAME), notifies=False, detach=False, keep=False, adopt=True)
    for name in _FORBIDDEN:
        if name in sys.modules:
            raise Error(f"module {name} was loaded")


def forget(path: str) -> None:
    """Remove what is left of the invented containers."""
    from pyrunc.container.record.store import Store

    for name in (_NAME, _ENDED):
        try:
            entry = Store(_root(path)).open(name)
        except NotFound:
            continue
        entry.remove()
        entry.close()
    try:
        posix.rmdir(_root(path))
    except FileNotFoundError:
        pass


def _root(path: str) -> str:
    return f"{path}.root"


def _invent(path: str, name: str) -> None:
    """Make a container of which there is a record and nothing else."""
    from pyrunc.container.record.store import Store

    entry = Store(_root(path)).reserve(name)
    try:
        entry.save(_record(name))
    finally:
        entry.close()


def _record(name: str) -> Record:
    from pyrunc.container.record.record import RECORD_FORMAT
    from pyrunc.container.record.state import RUNNING
    from pyrunc.linux.process_stat import start_time

    pid = posix.getppid() if name == _NAME else _NOBODY
    return {
        "format": RECORD_FORMAT,
        "ociVersion": "1.0.0",
        "id": name,
        "bundle": "/",
        "rootfs": "/",
        "created": "1970-01-01T00:00:00Z",
        "phase": RUNNING,
        "pid": pid,
        "startTime": start_time(pid),
        "cgroup": {},
    }


def _plan() -> None:
    """Plan a container and a process of `exec`, and fill in what init does."""
    from pyrunc.cgroups.entrance import Entrance
    from pyrunc.container.making.create_options import CreateOptions
    from pyrunc.container.making.runtime_plan import plan_container
    from pyrunc.plan.executed_process import plan_execution
    from pyrunc.plan.facts import Facts
    from pyrunc.process.late import CONTAINER
    from pyrunc.spec import json_text, load
    from pyrunc.spec.default import default_spec

    text = json_text.encode(default_spec(cgroup_v2=False)).encode()
    spec: Spec = json_text.parse(text)  # type: ignore[assignment]
    load.check(spec)
    facts = Facts()
    planned = plan_container(spec, _NAME, CreateOptions("/"), b"{}", facts)
    ways_in = ((CONTAINER, 0),)
    executed = plan_execution(
        spec, spec["process"], facts.process, ("pid", "mount"), ways_in, Entrance()
    )
    for program in (*planned.init, *executed.init):
        program.filled({}).encode()
