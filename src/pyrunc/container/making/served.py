"""The one program of a container whose init was made to bring it forth (``CreateOptions.line``).

For who makes containers for one program each. Init, process 1, waits at a socket for what is to be
executed and for its standard streams, forks, collects orphans, and ends with its child, and with it
all that runs in the container. So it takes one execve less, and nobody has to enter a container
that was made a moment ago. It says nothing to anybody once the program runs: its own name tells how
that has ended, which is there, and nobody else's to change, until init is collected.
"""

from __future__ import annotations

import posix
import socket

from pyrunc.errors import Error
from pyrunc.linux import files
from pyrunc.linux import processes as p
from pyrunc.process import late
from pyrunc.process.attributes import without_repetitions
from pyrunc.process.failure import describe_failure, parse_failure
from pyrunc.process.mapped_ids import id_mapping, outside
from pyrunc.process.program import find_program, give_stdio, with_home
from pyrunc.process.seal import filled_in

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyrunc.container.making.create import Creation
    from pyrunc.process.late import Known

#: How init names itself, before the wait status of its child (init/init.c, serve).
_NAME = b"done "
_LONGEST_RECORD = 4096


def stdio_is_given(creation: Creation) -> bool:
    """Give this process's standard streams to the program's user; tell whether that could be."""
    return not give_stdio(outside(id_mapping(creation.pid, "uid_map"), _uid(creation)))


def execute_served(creation: Creation, line: socket.socket, args: Sequence[str]) -> bool:
    """Have a container's init execute its program, with this process's standard streams.

    :return: False when init was dead already.
    :raises pyrunc.errors.ExecFailed: when there is no such program.
    :raises Error: when it cannot be executed otherwise; init ends then.
    """
    planned, plan = creation.planned, creation.plan
    assert plan.served
    try:
        known = _known(creation, args)
    except FileNotFoundError:
        # Somebody has killed it: what /proc has of it goes before it has ended.
        return False
    filled = filled_in(planned.served if planned else None, (plan.served,), known)
    if planned:
        planned.served = filled
    (launch,) = filled.open()
    try:
        socket.send_fds(line, [b"p"], [0, 1, 2, launch])
        told = line.recv(_LONGEST_RECORD)
    except ConnectionError:
        return False
    finally:
        posix.close(launch)
    if told:
        failure = parse_failure(told)
        why = describe_failure(failure) if failure else "init died"
        raise Error(f"unable to start container process: {why}")
    return True


def _known(creation: Creation, args: Sequence[str]) -> Known:
    """Find what its launch program names."""
    process = creation.spec["process"]
    directory = files.O_PATH | files.O_DIRECTORY | files.O_CLOEXEC
    root = posix.open(f"/proc/{creation.pid}/root", directory)
    try:
        environment = with_home(root, list(process.get("env") or ()), _uid(creation))
        program = find_program(root, args[0], environment, process["cwd"])
    finally:
        posix.close(root)
    return {
        late.PROGRAM.name: program,
        late.ARGUMENTS.name: list(args),
        late.ENVIRONMENT.name: without_repetitions(environment),
    }


def _uid(creation: Creation) -> int:
    return (creation.spec["process"].get("user") or {}).get("uid", 0)


def status_told(pid: int) -> int | None:
    """Return the wait status that an init that has ended, and is not collected, tells of its child.

    None when it was ended before that, with all others.
    """
    name = p.name_of(pid)
    digits = name.removeprefix(_NAME)
    return int(digits) if name.startswith(_NAME) and digits.isdigit() else None
