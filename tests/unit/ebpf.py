"""Just enough of an eBPF machine to run a device filter (instruction-set.rst)."""

from __future__ import annotations

import struct

MASK = 0xFFFFFFFF


def run(program: bytes, kind: str, major: int, minor: int, access: str) -> int:
    """Return what ``program`` answers for one access to a device."""
    types = {"b": 1, "c": 2}
    accesses = {"m": 1, "r": 2, "w": 4}
    asked = sum(accesses[letter] for letter in access)
    context = struct.pack("=III", asked << 16 | types[kind], major, minor)
    registers = [0] * 11
    at = 0
    while True:
        operation, both, offset, number = struct.unpack_from("<BBhi", program, 8 * at)
        target, source = both & 15, both >> 4
        at += 1
        if operation == 0x61:
            registers[target] = struct.unpack_from("=I", context, offset)[0]
        elif operation == 0x54:
            registers[target] &= number & MASK
        elif operation == 0x74:
            registers[target] >>= number
        elif operation == 0xBC:
            registers[target] = registers[source]
        elif operation == 0xB4:
            registers[target] = number & MASK
        elif operation == 0x56:
            at += offset if registers[target] != number & MASK else 0
        elif operation == 0x16:
            at += offset if registers[target] == number & MASK else 0
        elif operation == 0x95:
            return registers[0]
        else:
            raise AssertionError(f"unknown instruction {operation:#x}")
