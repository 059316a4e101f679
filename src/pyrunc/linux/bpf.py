"""A very small assembler for classic BPF as seccomp uses it (linux/filter.h, seccomp(2)).

It knows labels, the handful of instructions a verdict on a system call's number needs, and the
answers a filter can give. Filters with rules on arguments come from libseccomp instead.
"""

from __future__ import annotations

from _struct import pack

# Offsets in struct seccomp_data; of the arguments the lower halves.
NUMBER = 0
ARCHITECTURE = 4
FIRST_ARGUMENT, SECOND_ARGUMENT = 16, 24

LOAD_WORD = 0x20  # BPF_LD | BPF_W | BPF_ABS
JUMP_EQUAL = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
JUMP_GREATER = 0x25  # BPF_JMP | BPF_JGT | BPF_K
JUMP_GREATER_EQUAL = 0x35  # BPF_JMP | BPF_JGE | BPF_K
JUMP_SET = 0x45  # BPF_JMP | BPF_JSET | BPF_K
RETURN = 0x06  # BPF_RET | BPF_K

RET_KILL_PROCESS = 0x80000000
RET_ERRNO = 0x00050000
RET_ALLOW = 0x7FFF0000
#: AUDIT_ARCH_* of linux/audit.h, by machine.
ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
MAX_INSTRUCTIONS = 4096  # BPF_MAXINSNS
INSTRUCTION_SIZE = 8  # struct sock_filter: code, jt, jf, k


class Instruction:
    """One instruction; ``then`` and ``otherwise`` name labels, None means the next instruction."""

    __slots__ = ("code", "k", "otherwise", "then")

    def __init__(
        self, code: int, k: int, then: str | None = None, otherwise: str | None = None
    ) -> None:
        self.code = code
        self.k = k
        self.then = then
        self.otherwise = otherwise


def assemble(program: list[Instruction | str]) -> bytes:
    """Return the struct sock_filter array of ``program``, in which a string is a label.

    A label after the last instruction stands for whatever is appended to the result. Jumps go
    forward and by at most 255 instructions.

    :raises ValueError: for a label that is missing, behind, or too far away.
    """
    places: dict[str, int] = {}
    instructions: list[Instruction] = []
    for item in program:
        if isinstance(item, str):
            places[item] = len(instructions)
        else:
            instructions.append(item)

    def distance(label: str | None, at: int) -> int:
        if label is None:
            return 0
        steps = places.get(label, -1) - at - 1
        if not 0 <= steps <= 255:
            raise ValueError(f"BPF: no jump from instruction {at} to {label}")
        return steps

    return b"".join(
        pack(
            "=HBBI",
            instruction.code,
            distance(instruction.then, at),
            distance(instruction.otherwise, at),
            instruction.k,
        )
        for at, instruction in enumerate(instructions)
    )
