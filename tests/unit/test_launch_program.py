"""The launch program as bytes: what init.c expects, and mistakes that must not get that far."""

from __future__ import annotations

import struct

import pytest

from pyrunc.process.failure import MAGIC, parse_failure
from pyrunc.process.launch import LaunchProgram

HEADER = struct.Struct("<IIIIIi8x")
ENTRY = struct.Struct("<II9Q")


def relocated(program: bytes, base: int = 0) -> bytearray:
    """Do what init does when it has mapped the program at ``base``."""
    memory = bytearray(program)
    count = HEADER.unpack_from(program)[2]
    for (cell,) in struct.iter_unpack("<I", program[HEADER.size : HEADER.size + 4 * count]):
        (value,) = struct.unpack_from("<Q", memory, cell)
        struct.pack_into("<Q", memory, cell, value + base)
    return memory


def entries(memory: bytes) -> list[tuple[int, ...]]:
    _, _, _, count, at, _ = HEADER.unpack_from(memory)
    return [ENTRY.unpack_from(memory, at + index * ENTRY.size) for index in range(count)]


def text(memory: bytes, at: int) -> str:
    return memory[at : memory.index(0, at)].decode()


def test_header_tells_size_entries_and_report() -> None:
    program = LaunchProgram(report=7)
    program.call("who", "getpid")
    encoded = program.encode()
    magic, size, _, count, at, report = HEADER.unpack_from(encoded)
    assert (magic, size, count, report) == (MAGIC, len(encoded), 1, 7)
    assert at % 8 == 0


def test_strings_and_arrays_lie_where_their_pointers_lead() -> None:
    program = LaunchProgram()
    program.execute("run it", "/bin/true", ["true", "-v"], ["A=1"])
    memory = relocated(program.encode())
    (entry,) = entries(memory)
    path, argv, envp = entry[3:6]
    assert text(memory, path) == "/bin/true"
    pointers = struct.unpack_from("<3Q", memory, argv)
    assert [text(memory, pointer) for pointer in pointers[:2]] == ["true", "-v"]
    assert pointers[2] == 0
    assert text(memory, struct.unpack_from("<Q", memory, envp)[0]) == "A=1"
    assert text(memory, entry[10]) == "run it"


def test_pointers_are_relocated_and_numbers_are_not() -> None:
    program = LaunchProgram()
    program.call("open", "openat", -100, "/x", 5)
    encoded = program.encode()
    (low,), (high,) = entries(relocated(encoded)), entries(relocated(encoded, 0x10000))
    assert low[3] == high[3] == (-100) & (1 << 64) - 1
    assert high[4] - low[4] == 0x10000
    assert low[5] == high[5] == 5


def test_store_in_next_aims_at_the_next_first_argument() -> None:
    program = LaunchProgram()
    program.call("open", "openat", -100, "/x", 0, store_in_next=True)
    program.call("close", "close", 0)
    encoded = program.encode()
    at = HEADER.unpack_from(encoded)[4]
    assert entries(relocated(encoded))[0][9] == at + ENTRY.size + 16


def test_a_filter_is_preceded_by_its_length_in_instructions() -> None:
    program = LaunchProgram()
    program.call("filter", "prctl", 22, 2, program.sock_fprog(bytes(range(24))))
    memory = relocated(program.encode())
    length, at = struct.unpack_from("<QQ", memory, entries(memory)[0][5])
    assert length == 3
    assert memory[at : at + 24] == bytes(range(24))


def test_blobs_are_aligned_after_strings() -> None:
    program = LaunchProgram()
    program.string("odd")
    assert program.cell() % 8 == 0


def test_a_string_is_stored_once() -> None:
    program = LaunchProgram()
    assert program.string("PATH=/bin") == program.string("PATH=/bin")


def test_a_string_with_a_zero_byte_is_refused() -> None:
    with pytest.raises(ValueError, match="zero byte"):
        LaunchProgram().string("/bin/true\0/etc/shadow")


def test_bytes_that_are_no_utf8_pass_through() -> None:
    program = LaunchProgram()
    program.execute("go", "/\udcff", ["\udcff"], [])
    assert b"/\xff\0" in program.encode()


def test_describe_lists_the_labels_in_order() -> None:
    program = LaunchProgram()
    program.reset_signals()
    program.call("enter the root", "chdir", "/")
    assert program.describe() == ["reset the signals", "enter the root"]


def test_a_failure_record_is_taken_apart() -> None:
    record = struct.pack("<5I", MAGIC, 3, 2, 0, 4) + b"open"
    assert parse_failure(record) == (3, 2, 0, "open")


@pytest.mark.parametrize(
    "record",
    [
        b"",
        bytes(20),
        struct.pack("<5I", MAGIC, 0, 1, 0, 9) + b"short",
        struct.pack("<4I", MAGIC, 0, 1, 0),
    ],
)
def test_what_is_no_failure_record_is_none(record: bytes) -> None:
    assert parse_failure(record) is None
