"""Command lines are understood as Go's flag package understands them."""

from __future__ import annotations

import pytest

from pyrunc.cli import flags
from pyrunc.cli.flags import UsageError, parse

TABLE: flags.Table = (
    ("bundle,b", "str", "a path"),
    ("detach,d", "bool", "a switch"),
    ("preserve-fds", "int", "a number"),
    ("env,e", "list", "many"),
    ("additional-gids,g", "ids", "many numbers"),
    ("interval", "duration", "a time", 5.0),
)


@pytest.mark.parametrize(
    ("words", "option", "value", "arguments"),
    [
        (["--bundle", "/b", "id"], "bundle", "/b", ["id"]),
        (["--bundle=/b", "id"], "bundle", "/b", ["id"]),
        (["-bundle=/b", "id"], "bundle", "/b", ["id"]),
        (["-b", "/b", "id"], "bundle", "/b", ["id"]),
        (["--b=/b", "id"], "bundle", "/b", ["id"]),
        (["id", "--bundle", "/b"], "bundle", "/b", ["id"]),
        (["--bundle", "-d", "id"], "bundle", "-d", ["id"]),
        (["--bundle=", "id"], "bundle", "", ["id"]),
        (["--bundle=a=b"], "bundle", "a=b", []),
        (["--detach", "id"], "detach", True, ["id"]),
        (["-d=false", "id"], "detach", False, ["id"]),
        (["--detach=T"], "detach", True, []),
        (["--detach", "false"], "detach", True, ["false"]),
        (["--preserve-fds", "3"], "preserve_fds", 3, []),
        (["--preserve-fds=0x10"], "preserve_fds", 16, []),
        (["--preserve-fds=-1"], "preserve_fds", -1, []),
        (["--preserve-fds=017"], "preserve_fds", 15, []),
        (["-e", "A=1", "id", "--env=B=2"], "env", ["A=1", "B=2"], ["id"]),
        (["-g", "1", "-g", "2"], "additional_gids", [1, 2], []),
        (["--interval", "1m30s"], "interval", 90.0, []),
        (["id"], "interval", 5.0, ["id"]),
        (["id", "--", "--bundle", "x"], "bundle", "", ["id", "--bundle", "x"]),
        (["-", "id"], "bundle", "", ["-", "id"]),
        (["", "id"], "bundle", "", ["", "id"]),
        (["id", "-h"], "help", True, ["id"]),
    ],
)
def test_words_are_sorted_into_options_and_arguments(
    words: list[str], option: str, value: object, arguments: list[str]
) -> None:
    options, rest = parse(TABLE, words)
    assert options[option] == value
    assert rest == arguments


def test_what_follows_the_first_argument_is_left_alone_when_asked() -> None:
    options, rest = parse(TABLE, ["-d", "id", "ls", "-b", "--", "x"], flags_anywhere=False)
    assert options["detach"] is True
    assert options["bundle"] == ""
    assert rest == ["id", "ls", "-b", "--", "x"]


def test_options_really_given_are_told_from_absent_ones() -> None:
    options, _ = parse(TABLE, ["--bundle=", "-d"])
    assert options["given"] == {"bundle", "detach"}


def test_two_parses_share_no_list() -> None:
    parse(TABLE, ["-e", "A=1"])
    assert parse(TABLE, [])[0]["env"] == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--nope"], "flag provided but not defined: -nope"),
        (["-nope=1"], "flag provided but not defined: -nope"),
        (["-dx"], "flag provided but not defined: -dx"),
        (["--bundle"], "flag needs an argument: -bundle"),
        (["-b"], "flag needs an argument: -b"),
        (["---bundle"], "bad flag syntax: ---bundle"),
        (["--=x"], "bad flag syntax: --=x"),
        (["--detach=maybe"], 'invalid boolean value "maybe" for -detach: parse error'),
        (["--preserve-fds", "x"], 'invalid value "x" for flag -preserve-fds: parse error'),
        (["--preserve-fds="], 'invalid value "" for flag -preserve-fds: parse error'),
        (["--preserve-fds= 1"], 'invalid value " 1" for flag -preserve-fds: parse error'),
        (
            ["--preserve-fds", "9" * 20],
            f'invalid value "{"9" * 20}" for flag -preserve-fds: value out of range',
        ),
        (
            ["--preserve-fds", "\u0663"],
            'invalid value "\u0663" for flag -preserve-fds: parse error',
        ),
        (["--interval", "5"], 'invalid value "5" for flag -interval: parse error'),
        (
            ["-g", "x"],
            'invalid value "x" for flag -g: strconv.ParseInt: parsing "x": invalid syntax',
        ),
    ],
)
def test_misuse_is_named_in_the_words_of_go(words: list[str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(TABLE, words)
    assert str(caught.value) == message
