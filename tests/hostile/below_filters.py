"""Filters around the runtime: calls that an older kernel, or an outer container, refuses."""

from __future__ import annotations

import ctypes
import errno
import struct

from pyrunc.linux import bpf
from pyrunc.linux.bpf import Instruction
from pyrunc.linux.numbers import SYS

_FSCONFIG_SET_FD = 5


def loading(program: bytes):
    """Return the option for a command that runs below this filter (struct sock_filter array)."""
    text = ctypes.create_string_buffer(program, len(program))
    length = len(program) // bpf.INSTRUCTION_SIZE
    pointer = struct.pack("@HP", length, ctypes.addressof(text))
    libc = ctypes.CDLL(None, use_errno=True)

    def load():
        assert text  # keeps what `pointer` leads to
        if libc.prctl(22, 2, pointer, 0, 0):  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER
            raise OSError(ctypes.get_errno(), "cannot load the filter")

    return {"preexec_fn": load}


def before_procfs_of_another(**refused: str):
    """Let procfs know no option `pidns`, as before Linux 6.18; ``refused`` is call=errno's name."""
    program = [
        Instruction(bpf.LOAD_WORD, bpf.NUMBER),
        Instruction(bpf.JUMP_EQUAL, SYS["fsconfig"], "command"),
        *(Instruction(bpf.JUMP_EQUAL, SYS[name], name) for name in refused),
        *("allow", Instruction(bpf.RETURN, bpf.RET_ALLOW)),
        *("command", Instruction(bpf.LOAD_WORD, bpf.SECOND_ARGUMENT)),
        Instruction(bpf.JUMP_EQUAL, _FSCONFIG_SET_FD, None, "allow again"),
        Instruction(bpf.RETURN, bpf.RET_ERRNO | errno.EINVAL),
        *("allow again", Instruction(bpf.RETURN, bpf.RET_ALLOW)),
    ]
    for name, error in refused.items():
        program += [name, Instruction(bpf.RETURN, bpf.RET_ERRNO | getattr(errno, error))]
    return loading(bpf.assemble(program))
