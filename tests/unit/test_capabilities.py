"""Capability sets: names to masks, what cannot be granted, and the calls that set them."""

from __future__ import annotations

import os

import pytest

from pyrunc.linux.libc import syscall
from pyrunc.linux.numbers import SYS
from pyrunc.security import capabilities
from pyrunc.security.capabilities import (
    NUMBERS,
    CapabilitySets,
    capability_calls,
    dropped,
    full,
    names_of,
    own,
    wanted,
)

LAST = 40
KILL, CHOWN, SYS_RESOURCE = (
    1 << NUMBERS[f"CAP_{name}"] for name in ("KILL", "CHOWN", "SYS_RESOURCE")
)
CLONE_NEWUSER = 0x10000000
PR_CAPBSET_DROP = 24


def status_sets(pid: str = "self") -> CapabilitySets:
    with open(f"/proc/{pid}/status") as status:
        fields = dict(line.split(":", 1) for line in status)
    return CapabilitySets(
        *(int(fields[name], 16) for name in ("CapBnd", "CapEff", "CapInh", "CapPrm", "CapAmb"))
    )


def test_numbers_are_those_of_the_kernel_header():
    assert len(NUMBERS) == 41
    assert NUMBERS["CAP_CHOWN"] == 0
    assert NUMBERS["CAP_SYS_ADMIN"] == 21
    assert NUMBERS["CAP_SETFCAP"] == 31
    assert NUMBERS["CAP_MAC_OVERRIDE"] == 32
    assert NUMBERS["CAP_CHECKPOINT_RESTORE"] == 40


def test_last_cap_is_what_the_kernel_says():
    with open("/proc/sys/kernel/cap_last_cap") as file:
        assert capabilities.last_cap() == int(file.read())


def test_own_sets_are_those_of_proc_status():
    sets, _ = own()
    shown = status_sets()
    shown.ambient = 0
    assert sets == shown


@pytest.mark.parametrize("section", [None, {}])
def test_without_a_section_there_are_no_capabilities(section):
    assert wanted(section, full(LAST), LAST) == (CapabilitySets(), [])


def test_names_are_taken_in_capitals_only_and_unknown_ones_warned_about_once():
    section = {
        "bounding": ["CAP_KILL", "kill", "CAP_X"],
        "permitted": ["CAP_KILL", "CAP_X", "cap_kill"],
    }
    sets, warnings = wanted(section, full(LAST), LAST)
    assert sets == CapabilitySets(bounding=KILL, permitted=KILL)
    assert warnings == ["ignoring unknown or unavailable capabilities: [CAP_X cap_kill kill]"]


def test_what_the_runtime_lacks_is_left_out_with_a_warning():
    has = full(LAST)
    for name in ("bounding", "permitted", "effective"):
        setattr(has, name, getattr(has, name) & ~SYS_RESOURCE)
    every = {name: list(NUMBERS) for name in ("bounding", "permitted", "effective")}
    sets, warnings = wanted(every, has, LAST)
    assert sets == CapabilitySets(has.bounding, has.effective, 0, has.permitted)
    assert warnings == ["ignoring unknown or unavailable capabilities: [CAP_SYS_RESOURCE]"]


def test_a_capability_newer_than_the_kernel_is_unavailable():
    section = {"bounding": ["CAP_BPF"], "permitted": ["CAP_BPF"]}
    sets, warnings = wanted(section, full(37), 37)
    assert sets == CapabilitySets()
    assert warnings == ["ignoring unknown or unavailable capabilities: [CAP_BPF]"]


def test_sets_that_the_kernel_would_refuse_are_narrowed():
    both = ["CAP_KILL", "CAP_CHOWN"]
    sets, warnings = wanted(
        {"bounding": ["CAP_KILL"], "permitted": both, "effective": both, "inheritable": both},
        full(LAST),
        LAST,
    )
    assert sets == CapabilitySets(KILL, KILL | CHOWN, KILL, KILL | CHOWN)
    assert warnings == ["ignoring unknown or unavailable capabilities: [CAP_CHOWN]"]


def test_ambient_needs_permitted_and_inheritable():
    section = {
        "bounding": ["CAP_KILL", "CAP_CHOWN"],
        "permitted": ["CAP_KILL", "CAP_CHOWN"],
        "inheritable": ["CAP_KILL"],
        "ambient": ["CAP_KILL", "CAP_CHOWN"],
    }
    sets, warnings = wanted(section, full(LAST), LAST)
    assert sets.ambient == KILL
    assert warnings == [
        "ambient capabilities that are not both permitted and inheritable have no effect: "
        "[CAP_CHOWN]"
    ]


@pytest.mark.parametrize("is_root", [True, False])
def test_all_capabilities_as_ambient_are_a_habit_for_root(is_root):
    """So Buildah has them; another user's are meant."""
    sets = ("bounding", "permitted", "effective", "ambient")
    section = {name: ["CAP_KILL"] for name in sets}
    warnings = wanted(section, full(LAST), LAST, is_root=is_root)[1]
    assert bool(warnings) is not is_root


def test_every_capability_outside_the_bounding_set_is_dropped_even_without_a_name():
    mask = dropped(CapabilitySets(bounding=KILL), full(45), 45)
    assert mask == sum(1 << number for number in range(46)) - KILL


def test_nothing_is_dropped_without_setpcap_when_nothing_is_left_to_drop():
    assert dropped(CapabilitySets(), CapabilitySets(), LAST) == 0
    # Had it more than it says, it would keep that.
    assert dropped(CapabilitySets(), CapabilitySets(bounding=KILL), LAST) == (2 << LAST) - 1


def test_calls_after_setresuid_are_capset_then_ambient():
    mask = KILL | 1 << 40
    before, after = capability_calls(CapabilitySets(mask, KILL, mask, mask, mask))
    assert before == [("keep capabilities across setresuid", "prctl", 8, 1)]
    assert [call[1:] for call in after] == [
        (
            "capset",
            bytes.fromhex("2205082000000000"),
            bytes.fromhex("200000002000000020000000000000000001000000010000"),
        ),
        ("prctl", 47, 4),
        ("prctl", 47, 2, 5),
        ("prctl", 47, 2, 40),
        ("prctl", 8, 0),
    ]


def test_names_of_a_mask():
    assert names_of(KILL | CHOWN) == ["CAP_CHOWN", "CAP_KILL"]


def in_user_namespace(action) -> str:
    """Fork, become root of a new user namespace, run ``action`` and return what it says."""
    uid, gid = os.geteuid(), os.getegid()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            try:
                syscall(SYS["unshare"], CLONE_NEWUSER)
            except OSError:
                answer = "no user namespaces"
            else:
                for name, text in (
                    ("setgroups", "deny"),
                    ("uid_map", f"0 {uid} 1"),
                    ("gid_map", f"0 {gid} 1"),
                ):
                    with open(f"/proc/self/{name}", "w") as file:
                        file.write(text)
                answer = action()
        except BaseException as error:
            answer = repr(error)
        os.write(writing, answer.encode())
        os._exit(0)
    os.close(writing)
    with open(reading) as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    if answer == "no user namespaces":
        pytest.skip("user namespaces are not available")
    return answer


def test_the_calls_leave_exactly_the_sets_asked_for():
    both = ["CAP_KILL", "CAP_CHOWN"]
    section = {
        "bounding": [*both, "CAP_SYS_ADMIN"],
        "permitted": both,
        "effective": ["CAP_KILL"],
        "inheritable": both,
        "ambient": ["CAP_CHOWN"],
    }

    def apply() -> str:
        has, last = own()
        assert has == full(last), has
        sets, warnings = wanted(section, has, last)
        assert not warnings
        for number in range(64):
            if dropped(sets, has, last) >> number & 1:
                syscall(SYS["prctl"], PR_CAPBSET_DROP, number)
        before, after = capability_calls(sets)
        for _, name, *arguments in (*before, ("", "setresuid", 0, 0, 0), *after):
            syscall(SYS[name], *arguments)
        return f"{status_sets()} {sets}"

    expected = CapabilitySets(
        KILL | CHOWN | 1 << NUMBERS["CAP_SYS_ADMIN"], KILL, KILL | CHOWN, KILL | CHOWN, CHOWN
    )
    assert in_user_namespace(apply) == f"{expected} {expected}"
