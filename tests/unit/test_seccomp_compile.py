"""Compiled seccomp filters: their verdicts, read from the BPF and asked of the kernel."""

from __future__ import annotations

import ctypes
import errno
from collections.abc import Sequence

import cbpf
import pytest
from seccomp_rules import (
    LIB,
    NATIVE,
    engine_profile,
    number_of,
    rule,
    section,
    x86_64_only,
)

from pyrunc.errors import Error
from pyrunc.linux import bpf
from pyrunc.security.libseccomp import LIBRARY
from pyrunc.security.seccomp_compile import ACTIONS, compile_filter

__all__ = ["engine_profile"]


try:
    ctypes.CDLL(LIBRARY)
except OSError:
    pytest.skip(f"{LIBRARY} is not installed", allow_module_level=True)


ALLOW = cbpf.ALLOW


def error(number: int) -> int:
    return cbpf.ERRNO | number


def compiled(*rules: dict, **more) -> cbpf.Program:
    return cbpf.Program(compile_filter(section(*rules, **more)).bpf)


@pytest.mark.parametrize(
    ("action", "more", "verdict"),
    [
        ("SCMP_ACT_KILL", {}, 0),
        ("SCMP_ACT_KILL_THREAD", {}, 0),
        ("SCMP_ACT_KILL_PROCESS", {}, 0x80000000),
        ("SCMP_ACT_TRAP", {}, 0x30000),
        ("SCMP_ACT_ERRNO", {}, 0x50001),
        ("SCMP_ACT_ERRNO", {"errnoRet": 38}, 0x50026),
        ("SCMP_ACT_ERRNO", {"errnoRet": 0}, 0x50000),
        ("SCMP_ACT_TRACE", {}, 0x7FF00001),
        ("SCMP_ACT_TRACE", {"errnoRet": 0xFFFF}, 0x7FF0FFFF),
        ("SCMP_ACT_LOG", {}, 0x7FFC0000),
    ],
)
def test_action(action, more, verdict):
    program = compiled(rule("getcwd", action, **more))
    assert program.verdict(NATIVE, number_of("getcwd")) == verdict
    assert program.verdict(NATIVE, number_of("read")) == ALLOW
    opposite = compiled(
        rule("read", "SCMP_ACT_ALLOW"),
        rule("openat2", "SCMP_ACT_ALLOW"),
        default=action,
        **({"defaultErrnoRet": more["errnoRet"]} if more else {}),
    )
    assert opposite.verdict(NATIVE, number_of("getcwd")) == verdict
    assert opposite.verdict(NATIVE, number_of("read")) == ALLOW


BIG = 0x1_0000_0005


@pytest.mark.parametrize(
    ("op", "value", "second", "hits", "misses"),
    [
        ("SCMP_CMP_EQ", BIG, None, [BIG], [5, BIG + 1, 1 << 32]),
        ("SCMP_CMP_NE", BIG, None, [5, BIG + 1, 0], [BIG]),
        ("SCMP_CMP_LT", BIG, None, [5, BIG - 1], [BIG, BIG + 1, 2 << 32]),
        ("SCMP_CMP_LE", BIG, None, [5, BIG], [BIG + 1, 2 << 32]),
        ("SCMP_CMP_GT", BIG, None, [BIG + 1, 2 << 32], [BIG, 0xFFFFFFFF]),
        ("SCMP_CMP_GE", BIG, None, [BIG, 2 << 32], [BIG - 1, 0xFFFFFFFF]),
        ("SCMP_CMP_MASKED_EQ", 0xF0, 0x10, [0x10, 0x1F, 0x310], [0x20, 0x30, 0]),
        ("SCMP_CMP_MASKED_EQ", 0xF0, None, [0, 0xF], [0x10]),
        ("SCMP_CMP_EQ", 7, 99, [7], [99]),
    ],
)
@pytest.mark.parametrize("index", [0, 5])
def test_operator(op, value, second, hits, misses, index):
    given = (index, op, value) if second is None else (index, op, value, second)
    program = compiled(rule("getcwd", "SCMP_ACT_ERRNO", given))
    before = (0xDEAD,) * index
    for hit in hits:
        assert program.verdict(NATIVE, number_of("getcwd"), (*before, hit)) == error(1), hit
    for miss in misses:
        assert program.verdict(NATIVE, number_of("getcwd"), (*before, miss)) == ALLOW, miss


def test_arguments_of_a_rule_hold_together():
    program = compiled(
        rule("socket", "SCMP_ACT_ERRNO", (0, "SCMP_CMP_EQ", 16), (2, "SCMP_CMP_EQ", 9))
    )
    verdicts = [
        program.verdict(NATIVE, number_of("socket"), args)
        for args in ((16, 0, 9), (16, 0, 8), (1, 0, 9))
    ]
    assert verdicts == [error(1), ALLOW, ALLOW]


def test_one_argument_twice_means_either():
    program = compiled(
        rule("getcwd", "SCMP_ACT_ERRNO", (0, "SCMP_CMP_EQ", 1), (0, "SCMP_CMP_EQ", 5))
    )
    verdicts = [program.verdict(NATIVE, number_of("getcwd"), (value,)) for value in (1, 5, 3)]
    assert verdicts == [error(1), error(1), ALLOW]


def test_of_two_rules_for_the_same_the_first_holds():
    program = compiled(rule("getcwd", errnoRet=5), rule("getcwd", errnoRet=6), rule("getcwd"))
    assert program.verdict(NATIVE, number_of("getcwd")) == error(5)


def test_rules_equal_to_the_default_and_unknown_names_are_left_out():
    program = compiled(rule("getcwd", "SCMP_ACT_ALLOW"), rule("no_such_call"), rule("mkdirat"))
    assert program.verdict(NATIVE, number_of("getcwd")) == ALLOW
    assert program.verdict(NATIVE, number_of("mkdirat")) == error(1)


def test_a_default_errno_other_than_that_of_a_rule_is_no_equal():
    program = compiled(
        rule("getcwd", errnoRet=1),
        rule("openat2", "SCMP_ACT_ALLOW"),
        default="SCMP_ACT_ERRNO",
        defaultErrnoRet=38,
    )
    assert program.verdict(NATIVE, number_of("getcwd")) == error(1)
    assert program.verdict(NATIVE, number_of("mkdirat")) == error(38)


@x86_64_only
def test_engine_profile_over_all_calls_architectures_and_arguments(engine_profile):
    program = cbpf.Program(compile_filter(engine_profile).bpf)
    arguments = [(), (8,), (131072,), (16, 3, 9), (16, 3, 8), (2, 1, 9), (0xFFFFFFFF,), (1 << 32,)]
    abis = (("x86_64", cbpf.X86_64, 0), ("x32", cbpf.X86_64, cbpf.X32_BIT), ("x86", cbpf.I386, 0))
    numbers: dict[str, dict[str | None, list[int]]] = {}
    for architecture, _, bit in abis:
        token = LIB.architecture(architecture)
        named = numbers[architecture] = {}
        for number in range(bit, bit + 620):
            named.setdefault(LIB.syscall_name(token, number), []).append(number)
    checked = 0
    for architecture, seen, bit in abis:
        by_number: dict[int, list[dict]] = {}
        for entry in engine_profile["syscalls"]:
            for name in entry["names"]:
                for number in numbers[architecture].get(name, ()):
                    by_number.setdefault(number, []).append(entry)
        newest = max(by_number)
        # libseccomp answers for socket(2) in socketcall(2) as well, whose arguments it cannot see.
        unclear = {number_of(name, "x86") for name in ("socketcall", "ipc")}
        for number in (*range(bit, bit + 620), bit | 0x3FFFFFFF, 0xFFFFFFFF):
            if architecture == "x86" and number in unclear:
                continue
            for args in arguments:
                # libseccomp takes x32 for a 32-bit ABI and compares the low halves there.
                words = args if architecture == "x86_64" else [arg & 0xFFFFFFFF for arg in args]
                expected = expected_verdict(by_number.get(number, []), words)
                if number > newest:
                    expected = error(errno.ENOSYS)
                assert program.verdict(seen, number, args) == expected, (architecture, number, args)
                checked += 1
    assert checked > 10_000
    assert program.verdict(cbpf.AARCH64, 0) == cbpf.KILL_THREAD


def expected_verdict(entries: list[dict], args: Sequence[int]) -> int:
    """Say what a profile means, in the plainest way: the first rule that holds, else EPERM."""
    padded = (*args, *(0,) * (6 - len(args)))
    for entry in entries:
        compare = {"SCMP_CMP_EQ": int.__eq__, "SCMP_CMP_NE": int.__ne__}
        if all(
            compare[arg["op"]](padded[arg["index"]], arg["value"])
            for arg in entry.get("args") or ()
        ):
            value = entry.get("errnoRet", 1) if entry["action"] == "SCMP_ACT_ERRNO" else 0
            return ACTIONS[entry["action"]] | value
    return error(errno.EPERM)


def old_profile(default: str = "SCMP_ACT_ERRNO", **more) -> cbpf.Program:
    names = ("read", "write", "openat", "statx")
    return compiled(*(rule(name, "SCMP_ACT_ALLOW") for name in names), default=default, **more)


@pytest.mark.parametrize(
    ("default", "verdict"),
    [
        ("SCMP_ACT_ERRNO", 0x50001),
        ("SCMP_ACT_KILL", 0),
        ("SCMP_ACT_KILL_PROCESS", 0x80000000),
        ("SCMP_ACT_TRAP", 0x30000),
    ],
)
def test_calls_newer_than_a_denying_profile_get_enosys(default, verdict):
    program = old_profile(default)
    assert program.verdict(NATIVE, number_of("statx")) == ALLOW
    assert program.verdict(NATIVE, number_of("statx") + 1) == error(errno.ENOSYS)
    assert program.verdict(NATIVE, number_of("openat2")) == error(errno.ENOSYS)
    assert program.verdict(NATIVE, 0x3FFFFFFF) == error(errno.ENOSYS)
    assert program.verdict(NATIVE, number_of("getcwd")) == verdict


def test_calls_that_only_a_denying_rule_names_are_known():
    program = compiled(rule("read", "SCMP_ACT_ALLOW"), rule("openat2"), default="SCMP_ACT_ERRNO")
    assert program.verdict(NATIVE, number_of("openat2")) == error(errno.EPERM)


@pytest.mark.parametrize("default", ["SCMP_ACT_LOG", "SCMP_ACT_TRACE"])
def test_calls_newer_than_an_open_profile_get_its_default(default):
    program = compiled(rule("read"), default=default)
    assert program.verdict(NATIVE, 5000) & 0xFFFF0000 == ACTIONS[default]


def test_a_profile_that_names_nothing_has_no_newer_calls():
    program = compiled(default="SCMP_ACT_ERRNO")
    assert program.verdict(NATIVE, 5000) == error(errno.EPERM)


@x86_64_only
def test_each_architecture_has_its_own_newest_call():
    program = old_profile(architectures=["SCMP_ARCH_X86", "SCMP_ARCH_X32"])
    assert program.verdict(cbpf.I386, number_of("statx", "x86")) == ALLOW
    assert program.verdict(cbpf.I386, number_of("statx", "x86") - 1) == error(errno.EPERM)
    assert program.verdict(cbpf.I386, number_of("statx", "x86") + 1) == error(errno.ENOSYS)
    x32 = number_of("statx", "x32")
    assert x32 & cbpf.X32_BIT
    assert program.verdict(cbpf.X86_64, x32) == ALLOW
    assert program.verdict(cbpf.X86_64, x32 - 1) == error(errno.EPERM)
    assert program.verdict(cbpf.X86_64, x32 + 1) == error(errno.ENOSYS)


@x86_64_only
def test_a_direct_socket_call_of_x86_is_not_newer_than_a_profile_that_names_it():
    program = compiled(
        rule("read", "SCMP_ACT_ALLOW"),
        rule("socket", "SCMP_ACT_ALLOW"),
        default="SCMP_ACT_ERRNO",
        architectures=["SCMP_ARCH_X86"],
    )
    assert [program.verdict(cbpf.I386, number) for number in (358, 359, 360)] == [
        error(errno.EPERM),
        ALLOW,
        error(errno.ENOSYS),
    ]


@x86_64_only
def test_native_architecture_is_covered_and_others_kill_unless_listed():
    program = compiled(rule("getcwd"), architectures=[])
    assert program.verdict(cbpf.X86_64, number_of("getcwd")) == error(1)
    assert program.verdict(cbpf.I386, number_of("read", "x86")) == cbpf.KILL_THREAD
    assert program.verdict(cbpf.X86_64, cbpf.X32_BIT) == cbpf.KILL_THREAD
    closed = old_profile(architectures=["SCMP_ARCH_X86_64"])
    assert closed.verdict(cbpf.I386, 5000) == cbpf.KILL_THREAD
    assert closed.verdict(cbpf.X86_64, cbpf.X32_BIT | 5000) == cbpf.KILL_THREAD


@x86_64_only
def test_architectures_that_cannot_run_here_change_nothing():
    foreign = ["SCMP_ARCH_LOONGARCH64", "SCMP_ARCH_S390X", "SCMP_ARCH_AARCH64", "SCMP_ARCH_PPC"]
    plain = compile_filter(section(rule("getcwd"))).bpf
    assert compile_filter(section(rule("getcwd"), architectures=foreign)).bpf == plain


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (section(default="SCMP_ACT_NOTIFY"), "cannot be used as default action"),
        (section(default="SCMP_ACT_FOO"), "'SCMP_ACT_FOO' is not a valid action"),
        (section(architectures=["SCMP_ARCH_FOO"]), "'SCMP_ARCH_FOO' is not a valid architecture"),
        (section(architectures=["X86"]), "'X86' is not a valid architecture"),
        (section(flags=["FOO"]), "'FOO' is not a known flag"),
        (section(rule("getcwd", errnoRet=65536)), "errno 65536 of SCMP_ACT_ERRNO is not in 0..40"),
        (section(rule("getcwd", "SCMP_ACT_KILL", errnoRet=1)), "SCMP_ACT_KILL takes no errno"),
        (section(defaultErrnoRet=1), "SCMP_ACT_ALLOW takes no errno"),
        (section(rule("")), "empty string is not a valid syscall"),
        (section(rule("getcwd", "SCMP_ACT_ERRNO", (6, "SCMP_CMP_EQ", 0))), "not 6"),
        (section(rule("getcwd", "SCMP_ACT_ERRNO", (0, "XX", 0))), "'XX' is not a valid operator"),
        (section(rule("mkdirat", "SCMP_ACT_NOTIFY")), "listenerPath is not set"),
        (
            section(rule("write", "SCMP_ACT_NOTIFY"), listenerPath="/x"),
            "SCMP_ACT_NOTIFY cannot be used for the write syscall",
        ),
    ],
)
def test_a_filter_that_cannot_be_built_is_refused(wrong, words):
    with pytest.raises(Error, match=r"^seccomp: ") as refusal:
        compile_filter(wrong)
    assert words in str(refusal.value)


def test_a_filter_longer_than_the_kernel_takes_is_refused():
    many = [rule("getcwd", "SCMP_ACT_ERRNO", (0, "SCMP_CMP_EQ", n << 32)) for n in range(3000)]
    with pytest.raises(Error, match="instructions, the kernel takes 4096 at most"):
        compile_filter(section(*many))


@pytest.mark.parametrize(
    ("names", "notify", "flags"),
    [
        (None, False, 4),
        ([], False, 0),
        (["SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_TSYNC"], False, 3),
        (["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"], False, 0),
        (None, True, 12),
        (["SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"], True, 40),
    ],
)
def test_flags(names, notify, flags):
    action = "SCMP_ACT_NOTIFY" if notify else "SCMP_ACT_ERRNO"
    asked = section(rule("mkdirat", action), listenerPath="/run/agent.sock")
    if names is not None:
        asked["flags"] = names
    result = compile_filter(asked)
    assert (result.flags, result.notify) == (flags, notify)


def test_jumps_backwards_or_too_far_are_refused():
    jump = bpf.Instruction(bpf.JUMP_EQUAL, 0, "there", None)
    allow = bpf.Instruction(bpf.RETURN, ALLOW)
    assert cbpf.Program(bpf.assemble([jump, allow, "there", allow])).verdict(0, 0) == ALLOW
    with pytest.raises(ValueError, match="no jump"):
        bpf.assemble(["there", jump])
    with pytest.raises(ValueError, match="no jump"):
        bpf.assemble([jump, *[allow] * 256, "there"])
    with pytest.raises(ValueError, match="no jump"):
        bpf.assemble([jump])
