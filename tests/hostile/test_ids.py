"""Ids as text and as numbers: none is cut to the 32 bits that the kernel looks at."""

from __future__ import annotations

import pytest

from pyrunc import ids
from pyrunc.container.entering.exec_process import ExecOptions, process_of
from pyrunc.errors import Error
from pyrunc.process.last_mile import LastMile
from pyrunc.process.launch import LaunchProgram

#: Each ran its program as root of the container, or as an internal error, when ids were read
#: with int() and masked on their way to init.
NO_IDS = (
    "4294967295",
    "000000000004294967295",
    "4294967296",
    "0000000000000000000000004294967296",
    "18446744073709551615",
    "0018446744073709551615",
    "18446744073709551616",
    "9" * 5000,
    "-1",
    "+1",
    " 1",
    "1 ",
    "1\n",
    "0x10",
    "1_0",
    "",
    "\u0661",
    "\u00b2",
    "me",
)


@pytest.mark.parametrize("text", NO_IDS)
def test_what_is_no_id(text):
    with pytest.raises((ValueError, OverflowError)):
        ids.parse(text)


@pytest.mark.parametrize(
    ("text", "number"),
    [("0", 0), ("00", 0), ("0" * 5000, 0), ("007", 7), ("0000000000004294967294", 4294967294)],
)
def test_what_is_an_id(text, number):
    assert ids.parse(text) == number


@pytest.mark.parametrize("text", [n for n in NO_IDS if n])
def test_exec_as_nobody_who_can_be(make_bundle, pyrunc, text):
    """As uid, as gid, as one more group."""
    container = pyrunc.start(make_bundle(args=["sleep", "1000"]))
    for words in (
        (f"--user={text}",),
        (f"--user=1:{text}",),
        (f"--user={text}:1",),
        (f"--additional-gids={text}",),
    ):
        result = pyrunc("exec", *words, container.id, "id")
        assert result.code != 0, (words, result)
        assert "uid=" not in result.stdout
        assert "internal error" not in result.stderr, result


def test_exec_with_ids_that_are(make_bundle, pyrunc):
    container = pyrunc.start(make_bundle(args=["sleep", "1000"]))
    result = pyrunc(
        "exec", "-u", "4294967294:0007", "-g", "4294967293", "-g", "08", container.id, "id"
    )
    assert result.stdout == "uid=4294967294 gid=7 groups=8,4294967293\n", result


@pytest.mark.parametrize("number", [-1, 2**32 - 1, 2**32, 2**64 - 1, 2**64, True, 1.0, "1", None])
def test_the_library_takes_no_other_numbers(number):
    with pytest.raises(Error, match="is no id"):
        process_of({}, ExecOptions(args=["true"], additional_gids=[number]), [])  # type: ignore[typeddict-item]


@pytest.mark.parametrize(
    "options",
    [
        {"args": ["a\0b"]},
        {"args": ["a"], "env": ["A=\0"]},
        {"args": ["a"], "cwd": "/\0"},
        {"args": [1]},
        {"args": ["a"], "user": "1:2:3"},
        {"args": ["a"], "user": "root"},
        {"args": ["a"], "caps": [None]},
    ],
)
def test_the_library_takes_no_other_texts(options):
    """Seen: ValueError and TypeError came out of the launch program's maker."""
    with pytest.raises(Error, match="exec failed"):
        process_of({}, ExecOptions(**options), [])


@pytest.mark.parametrize("user", [{"uid": 2**32}, {"gid": 2**32 - 1}, {"additionalGids": [-1]}])
def test_the_last_mile_looks_again(user):
    """Whatever made the process: setresuid(2**32) would be setresuid(0), and -1 no change."""
    last_mile = LastMile({"args": ["a"], "cwd": "/", "user": user})
    with pytest.raises(Error, match="is no id"):
        last_mile.add_privileges(LaunchProgram())


@pytest.mark.parametrize("number", [2**32, 2**63, 2**64, -(2**31) - 1])
def test_a_number_that_does_not_fit_is_never_cut(number):
    """Seen: masked to 64 bits in silence, of which the kernel takes 32."""
    with pytest.raises(Error, match="does not fit"):
        LaunchProgram().call("set umask", "umask", number)


@pytest.mark.parametrize("member", ["uid", "gid", "additionalGids", "device", "mapping"])
def test_a_config_with_ids_that_cannot_be(make_bundle, pyrunc, member):
    bundle = make_bundle(args=["id"])
    match member:
        case "device":
            bundle.linux["devices"] = [
                {"path": "/dev/x", "type": "c", "major": 1, "minor": 3, "uid": 2**32 - 1}
            ]
        case "mapping":
            bundle.user_namespace(host=2**32 - 2, size=2)
        case "additionalGids":
            bundle.process["user"][member] = [2**32 - 1]
        case _:
            bundle.process["user"][member] = 2**32 - 1
    result = pyrunc.run(bundle)
    assert (result.code, result.stdout) == (1, "")
    assert "expected" in result.stderr
    assert "internal error" not in result.stderr
