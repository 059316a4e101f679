"""What makes system calls: the native module and its stand-in."""

from __future__ import annotations

import os
import time
from ctypes import ArgumentError
from errno import ENOENT
from types import ModuleType

import pytest

from pyrunc.linux import through_ctypes
from pyrunc.linux.numbers import SYS

try:
    from pyrunc.linux import _syscall
except ImportError:
    _syscall = None  # type: ignore[assignment]


@pytest.fixture(params=["native", "ctypes"])
def module(request: pytest.FixtureRequest) -> ModuleType:
    if request.param == "ctypes":
        return through_ctypes
    if _syscall is None:
        pytest.skip("pyrunc.linux._syscall was not built here")
    return _syscall


def test_a_result_is_returned(module: ModuleType) -> None:
    assert module.call(SYS["prctl"], 3) in (0, 1, 2)  # PR_GET_DUMPABLE
    assert module.call(SYS["fcntl"], 0, 1) >= 0  # F_GETFD


def test_an_error_is_a_negative_errno(module: ModuleType) -> None:
    assert module.call(SYS["openat"], -100, b"/no/such/file\0", 0) == -ENOENT


def test_bytes_are_read_and_bytearrays_written_by_the_kernel(module: ModuleType) -> None:
    reading, writing = os.pipe()
    try:
        assert module.call(SYS["write"], writing, b"word", 4) == 4
        assert os.read(reading, 9) == b"word"
    finally:
        os.close(reading)
        os.close(writing)
    answer = bytearray(16)
    assert module.call(SYS["clock_gettime"], time.CLOCK_REALTIME, answer) == 0
    assert abs(int.from_bytes(answer[:8], "little") - time.time()) < 5


def test_numbers_of_all_sixty_four_bits_are_passed(module: ModuleType) -> None:
    mask = bytearray(8)
    everything = (1 << 64) - 1
    assert module.call(SYS["fcntl"], everything, 1) == module.call(SYS["fcntl"], -1, 1) < 0
    # SIG_BLOCK, no new mask, the old one.
    assert module.call(SYS["rt_sigprocmask"], 0, 0, mask, 8) == 0


def test_an_address_is_where_the_bytes_lie(module: ModuleType) -> None:
    name = bytearray(b"/no/such/file\0")
    assert module.call(SYS["openat"], -100, module.address_of(name), 0) == -ENOENT
    assert module.address_of(name) == module.address_of(name)


def test_what_is_neither_number_nor_bytes_is_refused(module: ModuleType) -> None:
    with pytest.raises((TypeError, ArgumentError)):
        module.call(SYS["fcntl"], 1.5, 1)


def test_buffers_are_given_back(module: ModuleType) -> None:
    """One that is still held could not change its size."""
    held = bytearray(8)
    module.call(SYS["rt_sigprocmask"], 0, 0, held, 8)
    module.address_of(held)
    held.append(0)
    if module is _syscall:
        with pytest.raises(TypeError):
            module.call(SYS["fcntl"], held, "text")
        held.append(0)
