"""How a launch program is laid out for init: ``init/launch.h`` in Python.

Addresses are not known yet, so everything that must hold one is written as an
offset into the file and listed for relocation.
"""

from __future__ import annotations

from _struct import Struct

from pyrunc.process.failure import MAGIC
from pyrunc.process.late import Descriptor, Late

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from pyrunc.process.late import Known

    Text = str | Late
    Number = int | Descriptor
    Label = str | tuple[Text, ...]
    #: Kind, flags, number, arguments, where the result goes, label, what it is left out without.
    Entry = tuple[int, int, Number, Sequence[Any], int, Label, Late | None]

#: The one kind of entry whose arguments are lists.
CLOSE_OTHERS = 5
#: Where the result of a call goes: nowhere, or into the first argument of the next.
NOWHERE, NEXT = -1, -2
_MASK = (1 << 64) - 1
_CLOEXEC_TOO = 1 << 31
_CELL = Struct("<Q")
_HEADER = Struct("<IIIIIi8x")
_ENTRY = Struct("<IIQQQQQQQQQ")
_SIZE = _ENTRY.size
#: Places among the values of an entry. From the number on each has 8 bytes, and it has the third 8.
_ARGUMENTS, _STORE, _LABEL = 3, 9, 10


def _offset(place: int) -> int:
    return 8 * place - 8


class Pointer(int):
    """An offset among the blobs; adding to it gives another one."""

    __slots__ = ()

    def __add__(self, offset: int) -> Pointer:
        return Pointer(int(self) + offset)


class Blobs:
    """What pointers lead to: strings, arrays, structures."""

    def __init__(self) -> None:
        self._blobs = bytearray()
        #: Offsets among the blobs of cells that hold pointers.
        self._cells: list[int] = []
        self._strings: dict[str, Pointer] = {}

    def blob(self, content: bytes) -> Pointer:
        """Put ``content`` into the program, 8-byte aligned, and return where it will be."""
        blobs = self._blobs
        blobs.extend(bytes(-len(blobs) % 8))
        pointer = Pointer(len(blobs))
        blobs.extend(content)
        return pointer

    def string(self, text: str) -> Pointer:
        """Put a zero-terminated string into the program (once, however often it is asked for)."""
        pointer = self._strings.get(text)
        if pointer is None:
            if "\0" in text:
                raise ValueError(f"{text!r} contains a zero byte")
            pointer = self._strings[text] = Pointer(len(self._blobs))
            self._blobs.extend(text.encode("utf-8", "surrogateescape") + b"\0")
        return pointer

    def strings(self, texts: Sequence[str]) -> Pointer:
        """Put an array of strings into the program, as execve(2) takes them."""
        pointers = [self.string(text) for text in texts]
        array = self.blob(Struct(f"<{len(pointers)}Q8x").pack(*pointers))
        self._cells.extend(range(array, array + 8 * len(pointers), 8))
        return array

    def cell(self) -> Pointer:
        """Reserve 8 bytes for the result of a call."""
        return self.blob(bytes(8))

    def pair(self, number: int, pointer: Pointer) -> Pointer:
        """Put a number and a pointer into the program, 8 bytes each."""
        pair = self.blob(_CELL.pack(number) + _CELL.pack(pointer))
        self._cells.append(pair + 8)
        return pair


class FilledProgram(Blobs):
    """A launch program with what is known by now in the places of the names."""

    def __init__(self, blobs: Blobs, known: Known, report: Number) -> None:
        """Begin without entries; ``blobs`` are copied."""
        self._blobs = bytearray(blobs._blobs)
        self._cells = list(blobs._cells)
        self._strings = dict(blobs._strings)
        self._known = known
        #: The named descriptors that init is to inherit.
        self.descriptors: set[int] = set()
        #: What has just been done at each time that init writes.
        self.stamped: list[str] = []
        self._labels: list[str] = []
        #: The values of each entry; pointers are offsets among the blobs.
        self._rows: list[list[int]] = []
        #: The row and the place in it of pointers, but for labels.
        self._pointers: list[tuple[int, int]] = []
        #: The rows that give their result to the next.
        self._giving: list[int] = []
        self._report = report if isinstance(report, int) else self._look_up(report)

    def add(self, entry: Entry) -> bool:
        """Add an entry unless it is to be left out; return whether it was added.

        This is done for each of forty entries of every command: types are compared, not asked.
        """
        kind, flags, number, arguments, store, label, only = entry
        if only is not None and not self._holds(only):
            return False
        index = len(self._rows)
        text = label if type(label) is str else self._text(label)
        values = [kind, flags, self._number(number), 0, 0, 0, 0, 0, 0, 0, self._label(text)]
        if kind == CLOSE_OTHERS:
            arguments = self._listed(*arguments)
        place = _ARGUMENTS
        for argument in arguments:
            its_type = type(argument)
            if its_type is int:
                values[place] = argument & _MASK
            elif its_type is Descriptor:
                values[place] = self._number(argument)
            else:
                values[place] = argument if its_type is Pointer else self._place(argument)
                self._pointers.append((index, place))
            place += 1
        if store >= 0:
            values[_STORE] = store
            self._pointers.append((index, _STORE))
        elif store == NEXT:
            self._giving.append(index)
        self._labels.append(text)
        self._rows.append(values)
        return True

    def _holds(self, only: Late) -> bool:
        if isinstance(only, Descriptor):
            return self._look_up(only) >= 0
        return bool(self._known.get(only.name))

    def _text(self, label: Label) -> str:
        known = self._known
        words = [known.get(w.name, "") if isinstance(w, Late) else w for w in label]
        return "".join(map(str, words))

    def _label(self, text: str) -> int:
        return self.string(text.replace("\0", "") if "\0" in text else text)

    def _look_up(self, descriptor: Descriptor) -> int:
        value = self._known.get(descriptor.name, -1)
        assert isinstance(value, int)
        return value

    def _number(self, number: Number) -> int:
        if type(number) is not int:
            assert isinstance(number, Descriptor)
            number = self._look_up(number)
            if number >= 0:
                self.descriptors.add(number)
        return number & _MASK

    def _place(self, value: Late | str | bytes | Sequence[str]) -> Pointer:
        if isinstance(value, Late):
            found = self._known.get(value.name, "")
            assert not isinstance(found, int)
            value = found
        if isinstance(value, str):
            return self.string(value)
        return self.blob(value) if isinstance(value, bytes) else self.strings(value)

    def _listed(
        self, first: int, kept: Sequence[Number], until_executed: Sequence[Number]
    ) -> tuple[Any, ...]:
        listed = {}
        for numbers, flag in (kept, 0), (until_executed, _CLOEXEC_TOO):
            for one in numbers:
                number = self._number(one)
                # Those that are not there are large now.
                if first <= number < _CLOEXEC_TOO:
                    listed[number] = number | flag
        values = [listed[number] for number in sorted(listed)]
        return first, Struct(f"<{len(values)}I").pack(*values) if values else 0, len(values)

    def describe(self) -> list[str]:
        """Return the label of each entry, in order."""
        return self._labels

    def encode(self) -> bytes:
        """Return the program as init reads it; to be called once."""
        rows, pointers, cells, blobs = self._rows, self._pointers, self._cells, self._blobs
        total = len(rows) + len(self._giving) + len(pointers) + len(cells)
        # How many relocations there are decides where everything else lies.
        at = (_HEADER.size + 4 * total + 7) // 8 * 8
        blobs_at = at + len(rows) * _SIZE
        relocations = [*range(at + _offset(_LABEL), blobs_at, _SIZE)]
        for index, place in pointers:
            rows[index][place] += blobs_at
            relocations.append(at + index * _SIZE + _offset(place))
        for index in self._giving:
            rows[index][_STORE] = at + (index + 1) * _SIZE + _offset(_ARGUMENTS)
            relocations.append(at + index * _SIZE + _offset(_STORE))
        for cell in cells:
            _CELL.pack_into(blobs, cell, _CELL.unpack_from(blobs, cell)[0] + blobs_at)
            relocations.append(cell + blobs_at)
        size = blobs_at + len(blobs)
        parts: list[bytes | bytearray] = [
            _HEADER.pack(MAGIC, size, total, len(rows), at, self._report)
        ]
        parts.append(Struct(f"<{total}I").pack(*relocations).ljust(at - _HEADER.size, b"\0"))
        for values in rows:
            values[_LABEL] += blobs_at
            parts.append(_ENTRY.pack(*values))
        parts.append(blobs)
        return b"".join(parts)
