"""Compiled seccomp filters: what the kernel makes of them."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import signal
import struct

import cbpf
import pytest
from seccomp_rules import (
    NATIVE,
    engine_profile,
    number_of,
    rule,
    section,
    x86_64_only,
)

from pyrunc.linux import bpf
from pyrunc.linux.libc import syscall
from pyrunc.linux.numbers import SYS
from pyrunc.security.seccomp_compile import compile_filter

__all__ = ["engine_profile"]


def under_filter(bpf_bytes: bytes, flags: int, action) -> str | int:
    """Fork, load the filter, run ``action``; return what it says, or the signal that killed it."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            array = ctypes.create_string_buffer(bpf_bytes)
            size = len(bpf_bytes) // bpf.INSTRUCTION_SIZE
            program = struct.pack("HxxxxxxP", size, ctypes.addressof(array))
            syscall(SYS["prctl"], 38, 1)  # PR_SET_NO_NEW_PRIVS
            syscall(SYS["seccomp"], 1, flags, program)  # SECCOMP_SET_MODE_FILTER
            os.write(writing, str(action()).encode())
            status = 0
        except BaseException as failure:
            os.write(writing, repr(failure).encode())
        finally:
            os._exit(status)
    os.close(writing)
    with open(reading) as pipe:
        said = pipe.read()
    _, status = os.waitpid(child, 0)
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else said


def errno_of(number: int, *args: int) -> str:
    try:
        syscall(number, *args)
    except OSError as failure:
        return errno.errorcode[failure.errno or 0]
    return "done"


def test_kernel_answers_with_the_errno_of_the_rule():
    result = compile_filter(section(rule("getcwd", errnoRet=errno.ENOSYS)))
    answer = under_filter(
        result.bpf,
        result.flags,
        lambda: [errno_of(number_of("getcwd")), errno_of(SYS["getpid"])],
    )
    assert answer == "['ENOSYS', 'done']"


def test_kernel_takes_the_engine_profile(engine_profile):
    result = compile_filter(engine_profile)

    def ask() -> list[str]:
        return [
            errno_of(SYS["getpid"]),
            errno_of(number_of("swapoff")),  # denied by a rule
            errno_of(number_of("mq_open") if NATIVE == cbpf.AARCH64 else 174),  # by the default
            errno_of(0x3FFFFFF0),  # unknown
            errno_of(number_of("socket"), 16, 3, 9),
            errno_of(number_of("socket"), 1, 1, 0),
        ]

    answer = under_filter(result.bpf, result.flags, ask)
    denied = "EFAULT" if NATIVE == cbpf.AARCH64 else "EPERM"
    assert answer == str(["done", "EPERM", denied, "ENOSYS", "EINVAL", "done"])


def test_kernel_kills():
    result = compile_filter(section(rule("getcwd", "SCMP_ACT_KILL_PROCESS")))
    answer = under_filter(result.bpf, result.flags, lambda: errno_of(number_of("getcwd")))
    assert answer == signal.SIGSYS


def test_kernel_gives_a_listener_for_a_filter_that_notifies():
    result = compile_filter(
        section(rule("mkdirat", "SCMP_ACT_NOTIFY"), listenerPath="/run/agent.sock")
    )

    def list_descriptors() -> bool:
        names = [os.readlink(f"/proc/self/fd/{fd}") for fd in range(3, 20) if is_open(fd)]
        return "anon_inode:seccomp notify" in names

    assert under_filter(result.bpf, result.flags, list_descriptors) == "True"


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


@x86_64_only
def test_the_32_bit_entry_is_killed_or_filtered():
    # push rbx; mov eax, 183 (getcwd of i386); xor ebx, ebx; xor ecx, ecx; int 0x80; pop rbx; ret
    code = bytes.fromhex("53b8b700000031db31c9cd805bc3")
    page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    page.write(code)
    call = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))
    open_filter = compile_filter(section(architectures=["SCMP_ARCH_X86"]))
    if under_filter(open_filter.bpf, 0, call) != str(-errno.ERANGE):
        pytest.skip("the kernel runs no 32-bit system calls")

    for listed, answer in (([], signal.SIGSYS), (["SCMP_ARCH_X86"], str(-errno.ENOTTY))):
        result = compile_filter(
            section(rule("getcwd", errnoRet=errno.ENOTTY), architectures=listed)
        )
        assert under_filter(result.bpf, result.flags, call) == answer
