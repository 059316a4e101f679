"""The one program of a container whose init was made to bring it forth (``CreateOptions.served``).

For who makes containers for one program each. Init, process 1, waits at a socket for what is to be
executed and for its standard streams, forks, collects orphans, and ends with its child, and with it
all that runs in the container. So it takes one execve less, and nobody has to enter a container
that was made a moment ago. It says nothing to anybody once the program runs: its own name tells how
that has ended, which is there, and nobody else's to change, until init is collected. When it ends
it lets go of the pipe that it was let go on through, long before the kernel has taken its mounts
away.
"""

from __future__ import annotations

import posix
import socket

from pyrunc.container.making.making import failure_told
from pyrunc.errors import Error
from pyrunc.linux import files, process_stat
from pyrunc.process import late
from pyrunc.process.attributes import without_repetitions
from pyrunc.process.mapped_ids import id_mapping, outside
from pyrunc.process.program import find_program, give_stdio, with_home
from pyrunc.process.seal import FilledIn, filled_in

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyrunc.container.making.making import Making

#: How init names itself, before the wait status of its child (init/init.c, serve): the latter when
#: there are others still, whom the kernel kills with it.
_ALONE, _NOT_ALONE = b"done ", b"left "
_LONGEST_RECORD = 4096


class Served:
    """The way to the init of such a container. It has to be closed."""

    __slots__ = ("_args", "_launch", "_line", "_theirs")

    def __init__(self, args: Sequence[str] = ()) -> None:
        """``args`` is what it will be asked to execute, if that is known."""
        self._args = list(args)
        self._line, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        #: The launch program for these, once it is ready.
        self._launch = -1

    def take_inits_end(self) -> int:
        """Return init's end of the line, which is the caller's from now on."""
        return self._theirs.detach()

    def prepare(self, making: Making) -> None:
        """Find the program, while init, which has its root by now, gets ready."""
        if self._args:
            try:
                (self._launch,) = self._filled_in(making, self._args).open()
            except (OSError, Error):
                # Who executes it meets the same, and is told.
                return

    def stdio_is_given(self, making: Making) -> bool:
        """Give this process's standard streams to the user; tell whether that could be."""
        uid = _uid(making)
        if making.plan.namespaces.private("user"):
            uid = outside(id_mapping(making.pid, "uid_map"), uid)
        return not give_stdio(uid)

    def execute(self, making: Making, args: Sequence[str]) -> bool:
        """Have init execute the program, with this process's standard streams.

        :return: False when init was dead already, or what was found before is there no more.
        :raises pyrunc.errors.ExecFailed: when there is no such program.
        :raises Error: when it cannot be executed otherwise; init ends then.
        """
        is_prepared = self._launch >= 0 and self._args == args
        try:
            if not is_prepared:
                self._let_go_of_launch()
                (self._launch,) = self._filled_in(making, args).open()
        except FileNotFoundError:
            # Somebody has killed it: what /proc has of it goes before it has ended.
            return False
        try:
            socket.send_fds(self._line, [b"p"], [0, 1, 2, self._launch])
            told = self._line.recv(_LONGEST_RECORD)
        except ConnectionError:
            return False
        finally:
            self._let_go_of_launch()
        if told and is_prepared:
            # Looked for again in another, it may be elsewhere; else this is said of that one.
            return False
        if told:
            raise failure_told(told)
        return True

    def _filled_in(self, making: Making, args: Sequence[str]) -> FilledIn:
        """Return the launch program of init's child."""
        process, uid = making.spec["process"], _uid(making)
        directory = files.O_PATH | files.O_DIRECTORY | files.O_CLOEXEC
        root = posix.open(f"/proc/{making.pid}/root", directory)
        try:
            environment = with_home(root, list(process.get("env") or ()), uid)
            program = find_program(root, args[0], environment, process["cwd"])
        finally:
            posix.close(root)
        known = {
            late.PROGRAM.name: program,
            late.ARGUMENTS.name: list(args),
            late.ENVIRONMENT.name: without_repetitions(environment),
        }
        planned, launch = making.planned, making.plan.served
        assert launch
        filled = filled_in(planned.served if planned else None, (launch,), known)
        if planned:
            planned.served = filled
        return filled

    def _let_go_of_launch(self) -> None:
        if self._launch >= 0:
            posix.close(self._launch)
        self._launch = -1

    def close(self) -> None:
        """Close it; init ends if it still waits there."""
        self._let_go_of_launch()
        self._line.close()
        self._theirs.close()


def _uid(making: Making) -> int:
    return (making.spec["process"].get("user") or {}).get("uid", 0)


def status_told(pid: int) -> tuple[int | None, bool]:
    """Return the wait status that an init tells of its child, and whether nobody else is there.

    None for one that waits still, or was ended with all others before it could tell. To be asked
    before it is collected.
    """
    name = process_stat.name_of(pid)
    kind, digits = name[: len(_ALONE)], name[len(_ALONE) :]
    told = kind in (_ALONE, _NOT_ALONE) and digits.isdigit()
    return int(digits) if told else None, told and kind == _ALONE
