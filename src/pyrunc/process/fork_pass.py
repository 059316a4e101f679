"""A way through a filter that forbids forks, for the one fork that is still to come.

Without ``noNewPrivileges`` a filter can only be loaded while CAP_SYS_ADMIN is there. That must be
gone when a process shows itself in the container's pid namespace, and to get there takes a fork
(``plan/executed_process.py``): so that happens with the filter in force. clone(2) has five
arguments, and passes over a sixth. The filter gets a few instructions before its own that let a
clone through whose sixth argument is a random number, which nobody knows but the process that
makes this call, and that ends with it.
"""

from __future__ import annotations

import posix

from pyrunc.linux import bpf
from pyrunc.linux.numbers import SYS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.spec.types import Seccomp

#: The lower half of the sixth argument in struct seccomp_data; the upper one follows.
_SIXTH_ARGUMENT = bpf.FIRST_ARGUMENT + 5 * 8
_LETTING = ("SCMP_ACT_ALLOW", "SCMP_ACT_LOG")


def new() -> int:
    """Return a pass: 63 random bits."""
    return int.from_bytes(posix.urandom(8), "little") >> 1


def lets_fork(seccomp: Seccomp) -> bool:
    """Tell whether the rules of ``linux.seccomp`` allow clone(2), with some arguments at least."""
    rules = [rule for rule in seccomp.get("syscalls") or () if "clone" in rule["names"]]
    if not rules:
        return seccomp["defaultAction"] in _LETTING
    return any(rule["action"] in _LETTING for rule in rules)


def letting_through(filter_: bytes, fork_pass: int) -> bytes:
    """Return a filter that lets a clone(2) with the pass through; else it is ``filter_``.

    One that leaves no room for that is returned as it is.
    """
    halves = fork_pass & 0xFFFFFFFF, fork_pass >> 32
    program: list[bpf.Instruction | str] = []
    for offset, wanted in (
        (bpf.ARCHITECTURE, bpf.ARCHITECTURES[posix.uname().machine]),
        (bpf.NUMBER, SYS["clone"]),
        (_SIXTH_ARGUMENT, halves[0]),
        (_SIXTH_ARGUMENT + 4, halves[1]),
    ):
        program.append(bpf.Instruction(bpf.LOAD_WORD, offset))
        program.append(bpf.Instruction(bpf.JUMP_EQUAL, wanted, otherwise="rules"))
    program += [bpf.Instruction(bpf.RETURN, bpf.RET_ALLOW), "rules"]
    whole = bpf.assemble(program) + filter_
    return whole if len(whole) <= bpf.MAX_INSTRUCTIONS * bpf.INSTRUCTION_SIZE else filter_
