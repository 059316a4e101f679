"""The launch program: what Python decides and init carries out.

The kinds of entries are described in ``init/launch.h``; this is their other half. A program is
part of a plan: it is made before there are the descriptors and paths that it is about. It has
their names in it (:mod:`pyrunc.process.late`), and is filled in at the very end.
"""

from __future__ import annotations

from pyrunc.errors import Error
from pyrunc.linux.numbers import SYS
from pyrunc.process.late import STAMPS, Late
from pyrunc.process.launch_format import CLOSE_OTHERS, NEXT, NOWHERE, Blobs, FilledProgram, Pointer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from pyrunc.process.late import Known
    from pyrunc.process.launch_format import Entry, Label, Number, Text

    Texts = Sequence[str] | Late

__all__ = ["PID_WIDTH", "LaunchProgram", "Pointer"]

_CALL, _AWAIT, _AWAIT_LIVING, _REPORT_TO, _RESET_SIGNALS = range(5)
_SHARE, _SPAWN, _SPAWN_INTO, _CHECK_CWD, _HOOK, _EXEC, _DROP_CAPABILITIES, _OWN_PID = range(6, 14)
_SERVE = 14
_IGNORE = 1
_INDIRECT = 2
_MAY_BE_FORBIDDEN = 4
#: What asks a process to end (signal(7)): SIGHUP, SIGINT, SIGQUIT, SIGABRT, SIGTERM.
ENDING_SIGNALS = 1 << 1 | 1 << 2 | 1 << 3 | 1 << 6 | 1 << 15
_CLOCK_REALTIME = 0
#: Arguments that are numbers: the kernel looks at the lower half of most (`int`, `uid_t`), where
#: a larger one would come out as another.
_LEAST, _MOST = -(1 << 31), (1 << 32) - 1
_MOST_OF_ALL = (1 << 64) - 1
#: Room for any pid (PID_MAX_LIMIT is 4,194,304).
PID_WIDTH = 10


class LaunchProgram(Blobs):
    """A list of entries in the making; :meth:`filled` gives what init reads.

    Every entry has a label: what to call it when it fails.
    """

    def __init__(self, report: Number = -1) -> None:
        """``report`` is the descriptor that takes a failure record, or -1."""
        super().__init__()
        self._report = report
        #: What is added to the labels of calls: under which circumstances they are made.
        self.remark = ""
        self._entries: list[Entry] = []
        #: How many entries may be followed by the time; None while all may.
        self._timed: int | None = None

    def sock_fprog(self, bpf: bytes) -> Pointer:
        """Put a filter and the struct sock_fprog that leads to it into the program."""
        return self.pair(len(bpf) // 8, self.blob(bpf))

    def seccomp_filter(self, flags: int, program: Pointer) -> Pointer:
        """Put a filter for a hook into the program: its flags, and what :meth:`sock_fprog` gave."""
        return self.pair(flags, program)

    def call(
        self,
        label: Label,
        name: str,
        *arguments: int | bytes | Text,
        ignore: bool = False,
        store: Pointer | None = None,
        store_in_next: bool = False,
        indirect: bool = False,
        may_be_forbidden: bool = False,
        only: Late | None = None,
    ) -> None:
        """Add the system call ``name``; ``bytes`` and ``str`` are passed by address.

        :param ignore: go on when it fails.
        :param store: where its result goes (8 bytes).
        :param store_in_next: let its result be the first argument of the next entry.
        :param indirect: the first argument is where the call's is, in 8 bytes.
        :param may_be_forbidden: go on when a seccomp filter does not let it be made.
        :param only: a descriptor that must be there, or what must be so: else it is left out.
        :raises Error: when a number does not fit in 32 bits.
        """
        target = NOWHERE if store is None else int(store)
        flags = (_IGNORE if ignore else 0) | (_INDIRECT if indirect else 0)
        flags |= _MAY_BE_FORBIDDEN if may_be_forbidden else 0
        if store_in_next:
            target = NEXT
        if self.remark:
            label = f"{label}{self.remark}"
        self._add(label, _CALL, arguments, SYS[name], flags, target, only)

    def await_byte(self, label: str, descriptor: Number) -> None:
        """Wait for one byte; end without a word if the other side goes away."""
        self._add(label, _AWAIT, (descriptor,))

    def await_living(self, label: str, descriptor: Number, peer: Number) -> None:
        """Wait for one byte, while somebody reads from the fifo ``peer``; else end."""
        self._add(label, _AWAIT_LIVING, (descriptor, peer))

    def report_to(self, descriptor: Number) -> None:
        """From here on send failure records to ``descriptor``."""
        self._add("report elsewhere", _REPORT_TO, (descriptor,))

    def reset_signals(self) -> None:
        """Give every signal its default action and block none.

        Until execve SIGTERM and its like end even the first process of a pid namespace.
        """
        self._add("reset the signals", _RESET_SIGNALS, (ENDING_SIGNALS,))

    def drop_capabilities(self, mask: int) -> None:
        """Drop those with a bit in ``mask`` from the bounding set (PR_CAPBSET_DROP)."""
        self._add("drop capabilities from the bounding set", _DROP_CAPABILITIES, (mask,))

    def close_others(
        self, first: int, kept: Sequence[Number], until_executed: Sequence[Number]
    ) -> None:
        """Close all descriptors from ``first`` on but for ``kept`` and ``until_executed``.

        The latter end at the next execve. Those below zero stand for nothing.
        """
        label = "close the descriptors of others"
        self._add(label, CLOSE_OTHERS, (first, tuple(kept), tuple(until_executed)))

    def share(self, page: Number) -> None:
        """Map the memory file ``page`` (process/shared_page.py) and say there what fails."""
        self._add("share a page with the runtime", _SHARE, (page,))

    def spawn(self, label: str, *, until_executed: bool, fork_pass: int = 0) -> None:
        """Go on in a new process, the sibling of this one, whose pid is in the shared page.

        :param until_executed: this process ends only when the other has executed its program or
            has ended; else at once.
        :param fork_pass: what the filter in force lets this call through by
            (``process/fork_pass.py``).
        """
        self._add(label, _SPAWN, (int(until_executed), fork_pass))

    def own_pid(self, place: Pointer, filling: bytes) -> None:
        """Write the own pid to the :data:`PID_WIDTH` bytes at ``place``, in decimal."""
        self._add("look up the own pid", _OWN_PID, (place, PID_WIDTH, filling[0]))

    def spawn_into(self, label: str, pid_to: Number, cgroup: Number) -> None:
        """Go on in a sibling that is born in a cgroup of v2, whose pid is written to ``pid_to``.

        Where the cgroup takes no process this one goes on, and the number is a negative errno.
        """
        self._add(label, _SPAWN_INTO, (pid_to, cgroup))

    def check_cwd(self, label: str, only: Late | None = None) -> None:
        """Fail when the working directory lies outside the root; ``only`` as for :meth:`call`."""
        self._add(label, _CHECK_CWD, (), only=only)

    def hook(
        self,
        label: str,
        path: str,
        args: Sequence[str],
        env: Texts,
        stdin: Number,
        output: Number,
        timeout: int,
        seccomp: Pointer | None,
    ) -> None:
        """Run a hook with the memory file ``stdin``; what it prints goes to the one ``output``.

        :param timeout: in seconds, 0 for none.
        :param seccomp: the filter that it gets (:meth:`seccomp_filter`).
        """
        filter_ = 0 if seccomp is None else seccomp
        arguments = (path, self.strings(args), env, stdin, timeout, filter_)
        self._add(label, _HOOK, arguments, output)

    def serve(self, label: str, socket: Number, sign: Number) -> None:
        """Wait for stdin, stdout, stderr and a launch program, for a child of this process to run.

        They come in one message through ``socket`` (SCM_RIGHTS); when its other end goes away
        first, end without a word. That is told what fails, and sees this end closed when the child
        has executed. Then wait for the child's end, of which this process's name tells, close
        ``sign``, and end (``container/making/served.py``).
        """
        self._add(label, _SERVE, (socket, sign))

    def execute(self, label: Label, path: Text, args: Texts, env: Texts) -> None:
        """Execute the program that all this was for."""
        argv = args if isinstance(args, Late) else self.strings(args)
        self._add(label, _EXEC, (path, argv, env))

    def _add(
        self,
        label: Label,
        kind: int,
        arguments: Sequence[Any],
        number: Number = 0,
        flags: int = 0,
        store: int = NOWHERE,
        only: Late | None = None,
    ) -> None:
        most = _MOST_OF_ALL if kind in (_DROP_CAPABILITIES, _HOOK, _SPAWN) else _MOST
        for argument in arguments:
            if type(argument) is int and not _LEAST <= argument <= most:
                raise Error(f"{label}: {argument} does not fit in the call's argument")
        self._entries.append((kind, flags, number, arguments, store, label, only))

    def tell_no_more_times(self) -> None:
        """After the entries that follow, init writes down no more times (:mod:`pyrunc.trace`)."""
        if self._timed is None:
            self._timed = len(self._entries)

    def names(self) -> set[str]:
        """Return the names that it holds places for."""
        found: list[object] = [self._report]
        for _, _, number, arguments, _, label, only in self._entries:
            found += [number, only]
            for argument in (*arguments, *(label if type(label) is tuple else ())):
                found += argument if type(argument) is tuple else (argument,)
        return {late.name for late in found if isinstance(late, Late)}

    def filled(self, known: Known) -> FilledProgram:
        """Return the program with what is ``known`` by now in the places of the names.

        With :data:`pyrunc.process.late.STAMPS` among it, init writes the time after each entry
        to that memory file.
        """
        filled = FilledProgram(self, known, self._report)
        stamps = known.get(STAMPS.name, -1)
        timed = len(self._entries) if self._timed is None else self._timed
        if stamps == -1 or not timed:
            for entry in self._entries:
                filled.add(entry)
            return filled
        stamp = _Stamp(filled, stamps)
        stamp.write("")
        for index, entry in enumerate(self._entries):
            # Its result would go to the call that tells the time.
            if filled.add(entry) and index < timed and entry[4] != NEXT:
                stamp.write(filled.describe()[-1])
        return filled

    def encode(self) -> bytes:
        """Return a program that has no names in it as init reads it."""
        return self.filled({}).encode()

    def describe(self) -> list[str]:
        """Return the label of each entry, in order."""
        return [
            label if isinstance(label, str) else "".join(map(str, label))
            for _, _, _, _, _, label, _ in self._entries
        ]


class _Stamp:
    """What has init write the time to the memory file ``stamps``."""

    def __init__(self, filled: FilledProgram, stamps: Any) -> None:
        self._filled = filled
        self._stamps = stamps
        self._time = filled.blob(bytes(16))

    def write(self, done: str) -> None:
        stamped = self._filled.stamped
        for name, arguments in (
            ("clock_gettime", (_CLOCK_REALTIME, self._time)),
            ("pwrite64", (self._stamps, self._time, 16, 16 * len(stamped))),
        ):
            self._filled.add((_CALL, _IGNORE, SYS[name], arguments, NOWHERE, "", None))
        stamped.append(done)
