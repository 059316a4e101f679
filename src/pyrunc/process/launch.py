"""The launch program: what Python decides and init carries out.

The kinds of entries are described in ``init/launch.h``; this is their other half. A program is
part of a plan: it is made before there are the descriptors and paths that it is about. It has
their names in it (:mod:`pyrunc.process.late`), and is filled in at the very end.
"""

from __future__ import annotations

from _struct import Struct

from pyrunc.errors import Error
from pyrunc.linux.numbers import SYS
from pyrunc.process.late import STAMPS, Descriptor, Late
from pyrunc.process.launch_format import CELL, NEXT, NOWHERE, Pointer, encode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from pyrunc.process.late import Known

    Text = str | Late
    Texts = Sequence[str] | Late
    Number = int | Descriptor
    Label = str | tuple[Text, ...]
    #: Kind, flags, number, arguments, where the result goes, label, what it is left out without.
    Entry = tuple[int, int, Number, tuple[Any, ...], int, Label, Late | None]

__all__ = ["PID_WIDTH", "LaunchProgram", "Pointer"]

_CALL, _AWAIT, _AWAIT_LIVING, _REPORT_TO, _RESET_SIGNALS, _CLOSE_OTHERS, _SHARE = range(7)
_SPAWN, _SPAWN_INTO, _CHECK_CWD, _HOOK, _EXEC, _DROP_CAPABILITIES, _OWN_PID = range(7, 14)
_IGNORE = 1
_INDIRECT = 2
_MAY_BE_FORBIDDEN = 4
_CLOEXEC_TOO = 1 << 31
#: What asks a process to end (signal(7)): SIGHUP, SIGINT, SIGQUIT, SIGABRT, SIGTERM.
ENDING_SIGNALS = 1 << 1 | 1 << 2 | 1 << 3 | 1 << 6 | 1 << 15
_CLOCK_REALTIME = 0
#: Arguments that are numbers: the kernel looks at the lower half of most (`int`, `uid_t`), where
#: a larger one would come out as another.
_LEAST, _MOST = -(1 << 31), (1 << 32) - 1
_MOST_OF_ALL = (1 << 64) - 1
#: Room for any pid (PID_MAX_LIMIT is 4,194,304).
PID_WIDTH = 10


class LaunchProgram:
    """A list of entries in the making; :meth:`encode` gives what init reads.

    Every entry has a label: what to call it when it fails.
    """

    def __init__(self, report: Number = -1) -> None:
        """``report`` is the descriptor that takes a failure record, or -1."""
        self._report = report
        #: What is added to the labels of calls: under which circumstances they are made.
        self.remark = ""
        self._blobs = bytearray()
        #: Offsets among the blobs of cells that hold pointers.
        self._cells: list[int] = []
        self._entries: list[Entry] = []
        #: Which of the entries have something in them that is not known yet.
        self._unfilled: list[int] = []
        #: How many entries may be followed by the time; None while all may.
        self._timed: int | None = None
        #: What has just been done at each time that init writes.
        self.stamped: list[str] = []
        self._strings: dict[bytes, Pointer] = {}

    def blob(self, content: bytes) -> Pointer:
        """Put ``content`` into the program, 8-byte aligned, and return where it will be."""
        blobs = self._blobs
        blobs.extend(bytes(-len(blobs) % 8))
        pointer = Pointer(len(blobs))
        blobs.extend(content)
        return pointer

    def string(self, text: str) -> Pointer:
        """Put a zero-terminated string into the program (once, however often it is asked for)."""
        encoded = text.encode("utf-8", "surrogateescape") + b"\0"
        if len(encoded) != encoded.index(0) + 1:
            raise ValueError(f"{text!r} contains a zero byte")
        pointer = self._strings.get(encoded)
        if pointer is None:
            pointer = self._strings[encoded] = Pointer(len(self._blobs))
            self._blobs.extend(encoded)
        return pointer

    def strings(self, texts: Sequence[str]) -> Pointer:
        """Put an array of strings into the program, as execve(2) takes them."""
        pointers = [self.string(text) for text in texts]
        array = self.blob(b"".join([CELL.pack(pointer) for pointer in pointers]) + bytes(8))
        self._cells += [array + 8 * i for i in range(len(pointers))]
        return array

    def cell(self) -> Pointer:
        """Reserve 8 bytes for the result of a call."""
        return self.blob(bytes(8))

    def sock_fprog(self, bpf: bytes) -> Pointer:
        """Put a filter and the struct sock_fprog that leads to it into the program."""
        instructions = self.blob(bpf)
        program = self.blob(CELL.pack(len(bpf) // 8) + CELL.pack(instructions))
        self._cells.append(program + 8)
        return program

    def seccomp_filter(self, flags: int, program: Pointer) -> Pointer:
        """Put a filter for a hook into the program: its flags, and what :meth:`sock_fprog` gave."""
        pair = self.blob(CELL.pack(flags) + CELL.pack(program))
        self._cells.append(pair + 8)
        return pair

    def call(
        self,
        label: str,
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
        self._add(label + self.remark, _CALL, arguments, SYS[name], flags, target, only)

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
        arguments = (first, tuple(kept), tuple(until_executed))
        self._append((_CLOSE_OTHERS, 0, 0, arguments, NOWHERE, label, None), unfilled=True)

    def share(self, page: Number) -> None:
        """Map the memory file ``page`` (process/shared_page.py) and say there what fails."""
        self._add("share a page with the runtime", _SHARE, (page,))

    def spawn(self, label: str, *, until_executed: bool) -> None:
        """Go on in a new process, the sibling of this one, whose pid is in the shared page.

        :param until_executed: this process ends only when the other has executed its program or
            has ended; else at once.
        """
        self._add(label, _SPAWN, (int(until_executed),))

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

    def execute(self, label: Label, path: Text, args: Sequence[str], env: Texts) -> None:
        """Execute the program that all this was for."""
        self._add(label, _EXEC, (path, self.strings(args), env))

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
        placed: list[Any] = []
        unfilled = only is not None or isinstance(number, Late) or isinstance(label, tuple)
        most = _MOST_OF_ALL if kind in (_DROP_CAPABILITIES, _HOOK) else _MOST
        for argument in arguments:
            if isinstance(argument, int):
                if not _LEAST <= argument <= most:
                    raise Error(f"{label}: {int(argument)} does not fit in the call's argument")
                placed.append(argument)
            elif isinstance(argument, Late):
                unfilled = True
                placed.append(argument)
            else:
                placed.append(self._place(argument))
        self._append((kind, flags, number, tuple(placed), store, label, only), unfilled=unfilled)

    def _append(self, entry: Entry, *, unfilled: bool) -> None:
        if unfilled:
            self._unfilled.append(len(self._entries))
        self._entries.append(entry)

    def _place(self, value: str | bytes | Sequence[str]) -> Pointer:
        if isinstance(value, str):
            return self.string(value)
        return self.blob(value) if isinstance(value, bytes) else self.strings(value)

    def tell_no_more_times(self) -> None:
        """After the entries that follow, init writes down no more times (:mod:`pyrunc.trace`)."""
        if self._timed is None:
            self._timed = len(self._entries)

    def descriptors(self) -> set[str]:
        """Return the names of the descriptors that init is to inherit."""
        named = set()
        for index in self._unfilled:
            _, _, number, arguments, _, _, _ = self._entries[index]
            for value in (number, *arguments):
                for one in value if isinstance(value, tuple) else (value,):
                    if isinstance(one, Descriptor):
                        named.add(one.name)
        return named

    def filled(self, known: Known) -> LaunchProgram:
        """Return the program with what is ``known`` by now in the places of the names.

        With :data:`pyrunc.process.late.STAMPS` among it, init writes the time after each entry
        to that memory file.
        """
        filled = LaunchProgram(_number(self._report, known))
        filled._blobs = bytearray(self._blobs)
        filled._cells = list(self._cells)
        filled._strings = dict(self._strings)
        entries: list[Entry | None] = list(self._entries)
        for index in self._unfilled:
            entries[index] = filled._fill(self._entries[index], known)
        stamps = _number(STAMPS, known)
        timed = len(entries) if self._timed is None else self._timed
        if stamps < 0 or not timed:
            filled._entries = [entry for entry in entries if entry is not None]
            return filled
        time = filled.blob(bytes(16))
        filled._stamp("", time, stamps)
        for index, entry in enumerate(entries):
            if entry is not None:
                filled._entries.append(entry)
                # Its result would go to the call that tells the time.
                if index < timed and entry[4] != NEXT:
                    filled._stamp(_text(entry[5]), time, stamps)
        return filled

    def _fill(self, entry: Entry, known: Known) -> Entry | None:
        kind, flags, number, arguments, store, label, only = entry
        if only is not None and not _holds(only, known):
            return None
        if kind == _CLOSE_OTHERS:
            first, *lists = arguments
            arguments = _listed(first, *([_number(n, known) for n in some] for some in lists))
        placed: list[Any] = []
        for argument in arguments:
            value = argument
            if isinstance(argument, Descriptor):
                value = _number(argument, known)
            elif isinstance(argument, Late):
                value = known.get(argument.name, "")
            placed.append(value if isinstance(value, int) else self._place(value))
        if isinstance(label, tuple):
            words = [known.get(w.name, "") if isinstance(w, Late) else w for w in label]
            label = "".join(map(str, words))
        return kind, flags, _number(number, known), tuple(placed), store, label, None

    def _stamp(self, label: str, time: Pointer, stamps: int) -> None:
        at = 16 * len(self.stamped)
        self.call("", "clock_gettime", _CLOCK_REALTIME, time, ignore=True)
        self.call("", "pwrite64", stamps, time, 16, at, ignore=True)
        self.stamped.append(label)

    def encode(self) -> bytes:
        """Return the program as init reads it; it is :meth:`filled`, if there was need."""
        if self._unfilled:
            return self.filled({}).encode()
        placed: list[Any] = [
            (*entry[:5], self.string(_text(entry[5]).replace("\0", ""))) for entry in self._entries
        ]
        return encode(placed, bytearray(self._blobs), self._cells, _number(self._report, {}))

    def describe(self) -> list[str]:
        """Return the label of each entry, in order."""
        return [_text(entry[5]) for entry in self._entries]


def _number(number: Number, known: Known) -> int:
    if isinstance(number, int):
        return number
    value = known.get(number.name, -1)
    assert isinstance(value, int)
    return value


def _holds(only: Late, known: Known) -> bool:
    if isinstance(only, Descriptor):
        return _number(only, known) >= 0
    return bool(known.get(only.name))


def _text(label: Label) -> str:
    return label if isinstance(label, str) else "".join(map(str, label))


def _listed(first: int, kept: Sequence[int], until_executed: Sequence[int]) -> tuple[Any, ...]:
    numbers = {n: n for n in kept if n >= first}
    numbers |= {n: n | _CLOEXEC_TOO for n in until_executed if n >= first}
    listed = [numbers[n] for n in sorted(numbers)]
    return first, Struct(f"<{len(listed)}I").pack(*listed) if listed else 0, len(listed)
