"""How a launch program is laid out for init: ``init/launch.h`` in Python.

Addresses are not known yet, so everything that must hold one is written as an
offset into the file and listed for relocation.
"""

from __future__ import annotations

from _struct import Struct

from pyrunc.process.failure import MAGIC

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    #: Kind, flags, number, arguments, where the result goes, label.
    Placed = tuple[int, int, int, Sequence[int], int, int]

#: Where the result of a call goes: nowhere, or into the first argument of the next.
NOWHERE, NEXT = -1, -2
CELL = Struct("<Q")
MASK = (1 << 64) - 1
_HEADER = Struct("<IIIIIi8x")
_ENTRY = Struct("<IIQQQQQQQQQ")
_FIRST_ARGUMENT = 16
_STORE = 64
_LABEL = 72


class Pointer(int):
    """An offset among the blobs; adding to it gives another one."""

    __slots__ = ()

    def __add__(self, offset: int) -> Pointer:
        return Pointer(int(self) + offset)


def encode(entries: Sequence[Placed], blobs: bytearray, cells: Sequence[int], report: int) -> bytes:
    """Return the program as init reads it.

    :param blobs: what pointers lead to; taken, and changed.
    :param cells: offsets among the blobs of cells that hold pointers.
    :param report: descriptor for a failure record, or -1.
    """
    count = len(entries)
    relocations: list[int] = []
    # How many relocations there will be decides where everything else lies.
    total = len(cells)
    for _, _, _, arguments, store, _ in entries:
        total += 1 + (store != NOWHERE)
        for argument in arguments:
            total += isinstance(argument, Pointer)
    entries_at = (_HEADER.size + 4 * total + 7) // 8 * 8
    blobs_at = entries_at + count * _ENTRY.size
    encoded = []
    at = entries_at
    for kind, flags, number, arguments, store, label in entries:
        values = [0] * 6
        for index, argument in enumerate(arguments):
            if isinstance(argument, Pointer):
                values[index] = argument + blobs_at
                relocations.append(at + _FIRST_ARGUMENT + 8 * index)
            else:
                values[index] = argument & MASK
        if store == NOWHERE:
            target = 0
        else:
            target = at + _ENTRY.size + _FIRST_ARGUMENT if store == NEXT else store + blobs_at
            relocations.append(at + _STORE)
        relocations.append(at + _LABEL)
        encoded.append(_ENTRY.pack(kind, flags, number & MASK, *values, target, label + blobs_at))
        at += _ENTRY.size
    for cell in cells:
        CELL.pack_into(blobs, cell, CELL.unpack_from(blobs, cell)[0] + blobs_at)
        relocations.append(cell + blobs_at)
    table = Struct(f"<{total}I").pack(*relocations)
    header = _HEADER.pack(MAGIC, blobs_at + len(blobs), total, count, entries_at, report)
    padding = bytes(entries_at - _HEADER.size - len(table))
    return b"".join((header, table, padding, *encoded, blobs))
