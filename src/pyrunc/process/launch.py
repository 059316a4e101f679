"""The launch program: what Python decides and init carries out.

The format and the kinds of entries are described in ``init/launch.h``; this is
their other half. Addresses are not known yet, so everything that must hold one
is written as an offset into the file and listed for relocation.
"""

from __future__ import annotations

from _struct import Struct

from pyrunc.errors import Error
from pyrunc.linux.numbers import SYS
from pyrunc.process.failure import MAGIC

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_CALL, _AWAIT, _AWAIT_LIVING, _REPORT_TO, _RESET_SIGNALS, _CLOSE_OTHERS, _SHARE = range(7)
_SPAWN, _SPAWN_INTO, _CHECK_CWD, _HOOK, _EXEC, _DROP_CAPABILITIES, _OWN_PID = range(7, 14)
_IGNORE = 1
_INDIRECT = 2
_MAY_BE_FORBIDDEN = 4
_CLOEXEC_TOO = 1 << 31
#: What asks a process to end (signal(7)): SIGHUP, SIGINT, SIGQUIT, SIGABRT, SIGTERM.
_ENDING_SIGNALS = 1 << 1 | 1 << 2 | 1 << 3 | 1 << 6 | 1 << 15
_CLOCK_REALTIME = 0
_HEADER = Struct("<IIIIIi8x")
_ENTRY = Struct("<IIQQQQQQQQQ")
_CELL = Struct("<Q")
_FIRST_ARGUMENT = 16
_STORE = 64
_LABEL = 72
_MASK = (1 << 64) - 1
#: Arguments that are numbers: the kernel looks at the lower half of most (`int`, `uid_t`), where
#: a larger one would come out as another.
_LEAST, _MOST = -(1 << 31), (1 << 32) - 1
#: Room for any pid (PID_MAX_LIMIT is 4,194,304).
PID_WIDTH = 10


class Pointer(int):
    """An offset among the blobs; adding to it gives another one."""

    __slots__ = ()

    def __add__(self, offset: int) -> Pointer:
        return Pointer(int(self) + offset)


class LaunchProgram:
    """A list of entries in the making; :meth:`encode` gives what init reads.

    Every entry has a label: what to call it when it fails.
    """

    def __init__(self, report: int = -1) -> None:
        """``report`` is the descriptor that takes a failure record, or -1."""
        self._report = report
        #: What is added to the labels of calls: under which circumstances they are made.
        self.remark = ""
        self._blobs = bytearray()
        #: Offsets among the blobs of cells that hold pointers.
        self._blob_relocations: list[int] = []
        self._entries: list[tuple[int, int, int, tuple[int, ...], int, Pointer]] = []
        self._labels: list[str] = []
        self._stamps = -1
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
        array = self.blob(b"".join([_CELL.pack(pointer) for pointer in pointers]) + bytes(8))
        self._blob_relocations += [array + 8 * i for i in range(len(pointers))]
        return array

    def cell(self) -> Pointer:
        """Reserve 8 bytes for the result of a call."""
        return self.blob(bytes(8))

    def sock_fprog(self, bpf: bytes) -> Pointer:
        """Put a filter and the struct sock_fprog that leads to it into the program."""
        instructions = self.blob(bpf)
        program = self.blob(_CELL.pack(len(bpf) // 8) + _CELL.pack(instructions))
        self._blob_relocations.append(program + 8)
        return program

    def call(
        self,
        label: str,
        name: str,
        *arguments: int | Pointer | bytes | str,
        ignore: bool = False,
        store: Pointer | None = None,
        store_in_next: bool = False,
        indirect: bool = False,
        may_be_forbidden: bool = False,
    ) -> int:
        """Add the system call ``name``; ``bytes`` and ``str`` are passed by address.

        :param ignore: go on when it fails.
        :param store: where its result goes (8 bytes).
        :param store_in_next: let its result be the first argument of the next entry.
        :param may_be_forbidden: go on when a seccomp filter does not let it be made.
        :param indirect: the first argument is where the call's is, in 8 bytes.
        :raises Error: when a number does not fit in 32 bits.
        """
        target = -1 if store is None else int(store)
        flags = (_IGNORE if ignore else 0) | (_INDIRECT if indirect else 0)
        flags |= _MAY_BE_FORBIDDEN if may_be_forbidden else 0
        if store_in_next:
            target = -2
        return self._add(label + self.remark, _CALL, arguments, SYS[name], flags, target)

    def await_byte(self, label: str, descriptor: int) -> int:
        """Wait for one byte; end without a word if the other side goes away."""
        return self._add(label, _AWAIT, (descriptor,))

    def await_living(self, label: str, descriptor: int, peer: int) -> int:
        """Wait for one byte, while somebody reads from the fifo ``peer``; else end."""
        return self._add(label, _AWAIT_LIVING, (descriptor, peer))

    def report_to(self, descriptor: int) -> int:
        """From here on send failure records to ``descriptor``."""
        return self._add("report elsewhere", _REPORT_TO, (descriptor,))

    def reset_signals(self) -> int:
        """Give every signal its default action and block none.

        Until execve SIGTERM and its like end even the first process of a pid namespace.
        """
        return self._add("reset the signals", _RESET_SIGNALS, (_ENDING_SIGNALS,))

    def drop_capabilities(self, mask: int) -> int:
        """Drop those with a bit in ``mask`` from the bounding set (PR_CAPBSET_DROP)."""
        return self._add("drop capabilities from the bounding set", _DROP_CAPABILITIES, (mask,))

    def close_others(self, first: int, kept: Sequence[int], until_executed: Sequence[int]) -> int:
        """Close all descriptors from ``first`` on but for ``kept`` and ``until_executed``.

        The latter end at the next execve. Those below zero stand for nothing.
        """
        numbers = {n: n for n in kept if n >= first}
        numbers |= {n: n | _CLOEXEC_TOO for n in until_executed if n >= first}
        listed = [numbers[n] for n in sorted(numbers)]
        array = Struct(f"<{len(listed)}I").pack(*listed) if listed else 0
        label = "close the descriptors of others"
        return self._add(label, _CLOSE_OTHERS, (first, array, len(listed)))

    def share(self, page: int) -> int:
        """Map the memory file ``page`` (process/shared_page.py) and say there what fails."""
        return self._add("share a page with the runtime", _SHARE, (page,))

    def spawn(self, label: str, *, until_executed: bool) -> int:
        """Go on in a new process, the sibling of this one, whose pid is in the shared page.

        :param until_executed: this process ends only when the other has executed its program or
            has ended; else at once.
        """
        return self._add(label, _SPAWN, (int(until_executed),))

    def own_pid(self, place: Pointer, filling: bytes) -> int:
        """Write the own pid to the :data:`PID_WIDTH` bytes at ``place``, in decimal."""
        return self._add("look up the own pid", _OWN_PID, (place, PID_WIDTH, filling[0]))

    def spawn_into(self, label: str, pid_to: int, cgroup: int) -> int:
        """Go on in a sibling that is born in a cgroup of v2, whose pid is written to ``pid_to``.

        Where the cgroup takes no process this one goes on, and the number is a negative errno.
        """
        return self._add(label, _SPAWN_INTO, (pid_to, cgroup))

    def check_cwd(self, label: str) -> int:
        """Fail when the working directory lies outside the root."""
        return self._add(label, _CHECK_CWD, ())

    def hook(
        self,
        label: str,
        path: str,
        args: Sequence[str],
        env: Sequence[str],
        stdin: int,
        output: int,
        timeout: int,
        seccomp: Pointer | None,
    ) -> int:
        """Run a hook with the memory file ``stdin``; what it prints goes to the one ``output``.

        :param timeout: in seconds, 0 for none.
        :param seccomp: the filter that it gets (:meth:`seccomp_filter`).
        """
        strings = (self.string(path), self.strings(args), self.strings(env))
        arguments = (*strings, stdin, timeout, 0 if seccomp is None else seccomp)
        return self._add(label, _HOOK, arguments, output & _MASK)

    def seccomp_filter(self, flags: int, program: Pointer) -> Pointer:
        """Put a filter for a hook into the program: its flags, and what :meth:`sock_fprog` gave."""
        pair = self.blob(_CELL.pack(flags) + _CELL.pack(program))
        self._blob_relocations.append(pair + 8)
        return pair

    def execute(self, label: str, path: str, args: Sequence[str], env: Sequence[str]) -> int:
        """Execute the program that all this was for."""
        arguments = (self.string(path), self.strings(args), self.strings(env))
        return self._add(label, _EXEC, arguments)

    def _add(
        self,
        label: str,
        kind: int,
        arguments: Sequence[int | Pointer | bytes | str],
        number: int = 0,
        flags: int = 0,
        store: int = -1,
    ) -> int:
        placed = []
        most = _MASK if kind in (_DROP_CAPABILITIES, _HOOK) else _MOST
        for argument in arguments:
            if isinstance(argument, int):
                if not _LEAST <= argument <= most:
                    raise Error(f"{label}: {int(argument)} does not fit in the call's argument")
                placed.append(argument)
            elif isinstance(argument, str):
                placed.append(self.string(argument))
            else:
                placed.append(self.blob(argument))
        entry = (kind, flags, number, tuple(placed), store, self.string(label.replace("\0", "")))
        self._entries.append(entry)
        self._labels.append(label)
        index = len(self._entries) - 1
        if self._stamps >= 0 and store != -2:
            self._stamp(label)
        return index

    def stamp_into(self, descriptor: int) -> None:
        """Have init write the time after each entry to a memory file (:mod:`pyrunc.trace`).

        ``descriptor`` may be -1, for no more of it.
        """
        self._stamps = descriptor
        if descriptor >= 0:
            self._time = self.blob(bytes(16))
            self._stamp("")

    def _stamp(self, label: str) -> None:
        descriptor, self._stamps = self._stamps, -1
        at = 16 * len(self.stamped)
        self.call("", "clock_gettime", _CLOCK_REALTIME, self._time, ignore=True)
        self.call("", "pwrite64", descriptor, self._time, 16, at, ignore=True)
        self.stamped.append(label)
        self._stamps = descriptor

    def encode(self) -> bytes:
        """Return the program as init reads it."""
        count = len(self._entries)
        relocations: list[int] = []
        # How many relocations there will be decides where everything else lies.
        total = len(self._blob_relocations) + sum(
            1 + (store != -1) + sum(isinstance(a, Pointer) for a in arguments)
            for _, _, _, arguments, store, _ in self._entries
        )
        entries_at = (_HEADER.size + 4 * total + 7) // 8 * 8
        blobs_at = entries_at + count * _ENTRY.size
        entries = []
        at = entries_at
        for kind, flags, number, arguments, store, label in self._entries:
            values = [0] * 6
            for index, argument in enumerate(arguments):
                if isinstance(argument, Pointer):
                    values[index] = argument + blobs_at
                    relocations.append(at + _FIRST_ARGUMENT + 8 * index)
                else:
                    values[index] = argument & _MASK
            if store == -1:
                target = 0
            else:
                target = at + _ENTRY.size + _FIRST_ARGUMENT if store == -2 else store + blobs_at
                relocations.append(at + _STORE)
            relocations.append(at + _LABEL)
            entries.append(_ENTRY.pack(kind, flags, number, *values, target, label + blobs_at))
            at += _ENTRY.size
        blobs = self._blobs
        for cell in self._blob_relocations:
            _CELL.pack_into(blobs, cell, _CELL.unpack_from(blobs, cell)[0] + blobs_at)
            relocations.append(cell + blobs_at)
        self._blob_relocations.clear()
        table = Struct(f"<{total}I").pack(*relocations)
        header = _HEADER.pack(MAGIC, blobs_at + len(blobs), total, count, entries_at, self._report)
        padding = bytes(entries_at - _HEADER.size - len(table))
        return b"".join((header, table, padding, *entries, blobs))

    def describe(self) -> list[str]:
        """Return the label of each entry, in order."""
        return list(self._labels)
