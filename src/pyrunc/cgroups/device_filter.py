"""The device rules of cgroup v2: an eBPF program with the meaning that v1's kernel code gives them.

:func:`fold` and :func:`program` are pure. The kernel asks the program for each
open and mknod of a device (BPF_PROG_TYPE_CGROUP_DEVICE, bpf(2)).
"""

from __future__ import annotations

import posix
from _struct import Struct, pack, unpack_from
from errno import EINVAL

from pyrunc.linux.libc import address_of, syscall
from pyrunc.linux.numbers import SYS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from pyrunc.cgroups.devices import Rule

# enum of BPF_DEVCG_* in linux/bpf.h.
_TYPES = {"b": 1, "c": 2}
_ACCESSES = {"m": 1, "r": 2, "w": 4}
_ALL_ACCESSES = 7

_INSTRUCTION = Struct("<BBhi")
_LOAD_WORD = 0x61
_AND = 0x54
_SHIFT_RIGHT = 0x74
_MOVE = 0xBC
_MOVE_NUMBER = 0xB4
_JUMP_IF_NOT = 0x56
_JUMP_IF = 0x16
_EXIT = 0x95

_BPF_PROG_LOAD = 5
_BPF_PROG_ATTACH = 8
_BPF_PROG_DETACH = 9
_BPF_PROG_GET_FD_BY_ID = 13
_BPF_PROG_QUERY = 16
_BPF_PROG_TYPE_CGROUP_DEVICE = 15
_BPF_CGROUP_DEVICE = 6
_BPF_F_ALLOW_MULTI = 2
_BPF_F_REPLACE = 4
_MOST_PROGRAMS = 64


class Exceptions:
    """What a list of rules amounts to: a default, and the exceptions from it.

    ``accesses`` maps (kind, major, minor) to a mask of BPF_DEVCG_ACC_*.
    """

    __slots__ = ("accesses", "default_allow")

    def __init__(self) -> None:
        self.default_allow = True
        self.accesses: dict[tuple[str, int, int], int] = {}


def fold(rules: Iterable[Rule]) -> Exceptions:
    """Apply ``rules`` one after another as the v1 devices cgroup does (devices.rst).

    A rule for all devices sets the default and drops all exceptions. Any other adds to the
    exceptions when it contradicts the default; when it agrees, it only takes away from an
    exception for the very same numbers.
    """
    folded = Exceptions()
    for rule in rules:
        if rule.kind == "a":
            folded.default_allow = rule.allow
            folded.accesses.clear()
            continue
        key = (rule.kind, rule.major, rule.minor)
        mask = _mask(rule.access)
        if rule.allow != folded.default_allow:
            folded.accesses[key] = folded.accesses.get(key, 0) | mask
        elif key in folded.accesses:
            folded.accesses[key] &= ~mask
            if not folded.accesses[key]:
                del folded.accesses[key]
    return folded


def _mask(access: str) -> int:
    mask = 0
    for letter in access:
        mask |= _ACCESSES[letter]
    return mask


def program(folded: Exceptions) -> bytes:
    """Return the eBPF instructions: r2 type, r3 access, r4 major, r5 minor, r0 the verdict.

    Where nothing is allowed, an exception must cover all accesses that are asked for; where
    all is allowed, one that covers any of them denies (security/device_cgroup.c).
    """
    code = [
        _op(_LOAD_WORD, 2, 1, 0),
        _op(_MOVE, 3, 2),
        _op(_AND, 2, number=0xFFFF),
        _op(_SHIFT_RIGHT, 3, number=16),
        _op(_LOAD_WORD, 4, 1, 4),
        _op(_LOAD_WORD, 5, 1, 8),
    ]
    for (kind, major, minor), mask in folded.accesses.items():
        tests = [(_JUMP_IF_NOT, 2, _TYPES[kind])]
        if major >= 0:
            tests.append((_JUMP_IF_NOT, 4, major))
        if minor >= 0:
            tests.append((_JUMP_IF_NOT, 5, minor))
        # Each test jumps over the rest: those after it, two for the access, its test, verdict.
        left = len(tests) - 1 + 3 + 2
        for operation, register, number in tests:
            code.append(_op(operation, register, offset=left, number=number))
            left -= 1
        code.append(_op(_MOVE, 0, 3))
        if folded.default_allow:
            code.append(_op(_AND, 0, number=mask))
            code.append(_op(_JUMP_IF, 0, offset=2, number=0))
        else:
            code.append(_op(_AND, 0, number=_ALL_ACCESSES & ~mask))
            code.append(_op(_JUMP_IF_NOT, 0, offset=2, number=0))
        code.append(_op(_MOVE_NUMBER, 0, number=int(not folded.default_allow)))
        code.append(_op(_EXIT))
    code.append(_op(_MOVE_NUMBER, 0, number=int(folded.default_allow)))
    code.append(_op(_EXIT))
    return b"".join(code)


def _op(
    operation: int, target: int = 0, source: int = 0, offset: int = 0, number: int = 0
) -> bytes:
    if number >= 1 << 31:
        number -= 1 << 32
    return _INSTRUCTION.pack(operation, source << 4 | target, offset, number)


def attach(cgroup: int, code: bytes) -> None:
    """Let ``code`` decide for the cgroup directory ``cgroup``, in place of what decided before.

    :raises OSError: when the kernel refuses it.
    """
    loaded = _load(code)
    try:
        before = _attached(cgroup)
        if len(before) == 1:
            # One system call: no device is denied, or allowed, for a moment only.
            try:
                _attach(cgroup, loaded, _BPF_F_ALLOW_MULTI | _BPF_F_REPLACE, before[0])
                return
            except OSError as error:
                # BPF_F_REPLACE is known since Linux 5.6.
                if error.errno != EINVAL:
                    raise
        _attach(cgroup, loaded, _BPF_F_ALLOW_MULTI, 0)
        for old in before:
            attributes = pack("=IIII", cgroup, old, _BPF_CGROUP_DEVICE, 0)
            _bpf(_BPF_PROG_DETACH, attributes)
    finally:
        posix.close(loaded)


def _load(code: bytes) -> int:
    instructions = bytearray(code)
    licence = bytearray(b"Apache-2.0\0")
    # union bpf_attr: type, count, instructions, licence, log (level, size, buffer), kernel
    # version, flags, name, interface, expected attach type.
    attributes = pack(
        "=IIQQIIQII16sII",
        _BPF_PROG_TYPE_CGROUP_DEVICE,
        len(code) // 8,
        address_of(instructions),
        address_of(licence),
        0,
        0,
        0,
        0,
        0,
        b"pyrunc_devices",
        0,
        _BPF_CGROUP_DEVICE,
    )
    return _bpf(_BPF_PROG_LOAD, attributes)


def _attached(cgroup: int) -> list[int]:
    """Return descriptors of the device programs that the cgroup itself has."""
    ids = bytearray(4 * _MOST_PROGRAMS)
    query = bytearray(
        pack("=IIIIQI4x", cgroup, _BPF_CGROUP_DEVICE, 0, 0, address_of(ids), _MOST_PROGRAMS)
    )
    syscall(SYS["bpf"], _BPF_PROG_QUERY, query, 32)
    count: int = unpack_from("=I", query, 24)[0]
    numbers = unpack_from(f"={count}I", ids)
    return [_bpf(_BPF_PROG_GET_FD_BY_ID, pack("=III", number, 0, 0)) for number in numbers]


def _attach(cgroup: int, loaded: int, flags: int, replaced: int) -> None:
    attributes = pack("=IIIII", cgroup, loaded, _BPF_CGROUP_DEVICE, flags, replaced)
    _bpf(_BPF_PROG_ATTACH, attributes)


def _bpf(command: int, attributes: bytes) -> int:
    return syscall(SYS["bpf"], command, attributes, len(attributes))
