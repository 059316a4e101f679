"""Classic BPF as the kernel runs it for seccomp: enough of it to read a filter's verdicts."""

from __future__ import annotations

import struct

ERRNO = 0x00050000
ALLOW = 0x7FFF0000
KILL_THREAD = 0

X86_64 = 0xC000003E
I386 = 0x40000003
AARCH64 = 0xC00000B7
X32_BIT = 0x40000000


class Program:
    """A struct sock_filter array, checked as bpf_check_classic() would and ready to run."""

    def __init__(self, bpf: bytes) -> None:
        self.instructions = list(struct.iter_unpack("=HBBI", bpf))
        assert 0 < len(self.instructions) <= 4096
        for at, (code, then, otherwise, k) in enumerate(self.instructions):
            left = len(self.instructions) - at - 1
            if code == 0x05:
                assert k < left
            elif code & 7 == 5:
                assert max(then, otherwise) < left
        assert self.instructions[-1][0] & 7 == 6

    def verdict(self, architecture: int, number: int, args: tuple[int, ...] = ()) -> int:
        """Return SECCOMP_RET_* for one system call."""
        arguments = (*args, *(0,) * (6 - len(args)))
        seen = struct.pack("<IIQ6Q", number & 0xFFFFFFFF, architecture, 0, *arguments)
        words = struct.unpack("<16I", seen)
        at = accumulator = 0
        while True:
            code, then, otherwise, k = self.instructions[at]
            at += 1
            if code == 0x20:
                assert k % 4 == 0
                accumulator = words[k // 4]
            elif code == 0x15:
                at += then if accumulator == k else otherwise
            elif code == 0x25:
                at += then if accumulator > k else otherwise
            elif code == 0x35:
                at += then if accumulator >= k else otherwise
            elif code == 0x45:
                at += then if accumulator & k else otherwise
            elif code == 0x54:
                accumulator &= k
            elif code == 0x05:
                at += k
            elif code == 0x06:
                return k
            else:
                raise AssertionError(f"unexpected instruction {code:#x}")
