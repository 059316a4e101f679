"""The library's default seccomp filter: the table, as BPF of our own and as libseccomp has it."""

from __future__ import annotations

import pytest
from cbpf import AARCH64, ALLOW, ERRNO, I386, X32_BIT, X86_64, Program

from pyrunc.linux.numbers import MACHINE
from pyrunc.security import default_filter
from pyrunc.spec.load import check

EPERM, ENOSYS, EAFNOSUPPORT = 1, 38, 97
MACHINES = {"x86_64": X86_64, "aarch64": AARCH64}


@pytest.fixture(params=list(MACHINES))
def verdict(request):
    """Ask the filter of each machine: name or number, and arguments."""
    program = Program(default_filter.assembled(request.param))
    which = list(MACHINES).index(request.param)

    def ask(number, *args):
        if isinstance(number, tuple):
            number = number[which]
        return program.verdict(MACHINES[request.param], number, args)

    return ask


def test_ordinary_calls_are_allowed(verdict):
    for number in ((0, 63), (1, 64), (59, 221), (9, 222), (41, 198), (56, 220), (101, 117)):
        assert verdict(number) == ALLOW


def test_calls_beside_the_namespaces_are_denied(verdict):
    for number in ((165, 40), (321, 280), (250, 219), (425, 425), (308, 268), (304, 265)):
        assert verdict(number) == ERRNO | EPERM


def test_new_namespaces_are_denied_new_threads_are_not(verdict):
    for flag in (0x20000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000):
        assert verdict((56, 220), flag | 17) == ERRNO | EPERM
    assert verdict((56, 220), 0x3D0F00) == ALLOW
    # Its arguments are in memory, which no filter sees: the C library falls back on clone(2).
    assert verdict(435) == ERRNO | ENOSYS


def test_arguments_that_are_denied(verdict):
    assert verdict((135, 92), 0xFFFFFFFF) == ALLOW
    assert verdict((135, 92), 0x0040000) == ERRNO | EPERM
    assert verdict((16, 29), 0, 0x5401) == ALLOW
    assert verdict((16, 29), 0, 0x5412) == ERRNO | EPERM
    # The kernel looks at the lower half only.
    assert verdict((16, 29), 0, 1 << 32 | 0x5412) == ERRNO | EPERM
    assert verdict((41, 198), 2) == ALLOW
    assert verdict((41, 198), 40) == ERRNO | EAFNOSUPPORT


def test_what_is_newer_than_the_table_is_not_there(verdict):
    assert verdict(456) == ALLOW
    assert verdict(457) == ERRNO | ENOSYS
    assert verdict(X32_BIT | 1) == ERRNO | ENOSYS


def test_other_abis_are_not_there():
    assert Program(default_filter.assembled("x86_64")).verdict(I386, 1) == ERRNO | ENOSYS


def test_the_section_is_a_good_config():
    config = {
        "ociVersion": "1.3.0",
        "root": {"path": "/"},
        "linux": {"seccomp": default_filter.section()},
    }
    assert check(config) == []


def test_libseccomp_makes_the_same_of_the_section():
    from pyrunc.security.libseccomp import Libseccomp
    from pyrunc.security.seccomp_compile import compile_filter

    try:
        Libseccomp()
    except Exception as error:
        pytest.skip(str(error))
    theirs = Program(compile_filter(default_filter.section()).bpf)
    ours = Program(default_filter.assembled())
    architecture = MACHINES[MACHINE]
    # Where a default allows, no section can say "nothing but these" of personality's argument.
    for number in set(range(457)) - {135, 92}:
        for arguments in ((), (0x10000000, 0x5412), (40,), (0x8,), (7,)):
            expected = theirs.verdict(architecture, number, arguments)
            assert ours.verdict(architecture, number, arguments) == expected, (number, arguments)
