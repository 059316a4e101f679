"""Signals, durations, sizes, paths and tables, as they are typed and shown."""

from __future__ import annotations

import signal

import pytest

from pyrunc.cli import durations, output, paths, ps, signals, sizes, text
from pyrunc.errors import Error


@pytest.mark.parametrize("name", [s.name for s in signal.Signals])
def test_signals_are_numbered_as_on_this_machine(name: str) -> None:
    expected = signal.Signals[name].value
    assert signals.number(name) == expected
    assert signals.number(name.removeprefix("SIG")) == expected
    assert signals.number(name.lower()) == expected


@pytest.mark.parametrize(
    ("typed", "number"),
    [("9", 9), ("0", 0), ("64", 64), ("RTMIN+3", 37), ("SIGRTMAX-1", 63), ("POLL", 29)],
)
def test_signals_by_number_and_real_time_signals(typed: str, number: int) -> None:
    assert signals.number(typed) == number


@pytest.mark.parametrize(
    "typed", ["FOO", "", "65", "-5", "999999", "RTMIN+31", "RTMIN-1", "RTMAX+1", "SIGSIGTERM", "٩"]
)
def test_unknown_signals_are_refused(typed: str) -> None:
    with pytest.raises(Error, match="unknown signal"):
        signals.number(typed)


def test_an_unknown_signal_is_quoted() -> None:
    with pytest.raises(Error) as caught:
        signals.number('F"\x1b')
    assert str(caught.value) == 'unknown signal "F\\"\\x1b"'


@pytest.mark.parametrize(
    ("typed", "seconds"),
    [
        ("5s", 5),
        ("100ms", 0.1),
        ("1m30s", 90),
        ("1.5h", 5400),
        ("2us", 2e-6),
        ("2\u00b5s", 2e-6),
        ("7ns", 7e-9),
        (".5s", 0.5),
        ("5.s", 5),
        ("-5s", -5),
        ("+5s", 5),
        ("0", 0),
    ],
)
def test_durations(typed: str, seconds: float) -> None:
    assert durations.seconds(typed) == pytest.approx(seconds)


@pytest.mark.parametrize("typed", ["", "5", "s", ".s", "5x", "1.2.3s", "5 s", "5s ", "-", "5s3"])
def test_what_is_no_duration_is_refused(typed: str) -> None:
    with pytest.raises(ValueError):
        durations.seconds(typed)


def test_a_duration_longer_than_go_can_count_is_refused() -> None:
    with pytest.raises(OverflowError):
        durations.seconds("9999999999h")


@pytest.mark.parametrize(
    ("typed", "size"),
    [
        ("0", 0),
        ("4096", 4096),
        ("5b", 5),
        ("1k", 1024),
        ("512m", 512 << 20),
        ("512M", 512 << 20),
        ("1g", 1 << 30),
        ("2GB", 2 << 30),
        ("2GiB", 2 << 30),
        ("2 GiB", 2 << 30),
        ("1.5k", 1536),
        ("1t", 1 << 40),
        ("1p", 1 << 50),
        ("9007199254740993", 9007199254740993),
    ],
)
def test_sizes(typed: str, size: int) -> None:
    assert sizes.size(typed) == size


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("foo", "invalid size: 'foo'"),
        ("-5", "invalid size: '-5'"),
        ("", "invalid size: ''"),
        ("1.2.3", "invalid size: '1.2.3'"),
        ("5x", "invalid suffix: 'x'"),
        ("5kk", "invalid suffix: 'kk'"),
        ("9000000p", "invalid size: '9000000p'"),
    ],
)
def test_what_is_no_size_is_refused(typed: str, message: str) -> None:
    with pytest.raises(ValueError) as caught:
        sizes.size(typed)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("typed", "clean"),
    [
        ("/a/b", "/a/b"),
        ("/a//b/", "/a/b"),
        ("/a/./b/../c", "/a/c"),
        ("/../..", "/"),
        ("/", "/"),
        ("//a", "/a"),
    ],
)
def test_paths_are_cleaned_by_their_text(typed: str, clean: str) -> None:
    assert paths.absolute(typed) == clean


def test_relative_paths_start_at_the_current_directory(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(str(tmp_path))
    assert paths.absolute("x/../y") == f"{tmp_path}/y"
    assert paths.absolute(".") == str(tmp_path)


def test_a_table_of_nothing_is_its_header() -> None:
    header = ("ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER")
    assert output.table([header]) == (
        "ID          PID         STATUS      BUNDLE      CREATED     OWNER\n"
    )


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    rows = [("ID", "CREATED", "OWNER"), ("web", "2026-11-24T04:01:18.810690733Z", "root")]
    assert output.table(rows) == (
        "ID          CREATED                          OWNER\n"
        "web         2026-11-24T04:01:18.810690733Z   root\n"
    )


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("plain", "plain"),
        ("größe", "größe"),
        ("a\nb\tc", "a\\nb\\tc"),
        ("\x1b[31m", "\\x1b[31m"),
        ("\x7f", "\\x7f"),
        ("\u202e", "\\u202e"),
        ("\udcff", "\\xff"),
        ("\U000e0001", "\\U000e0001"),
    ],
)
def test_unprintable_text_becomes_visible(raw: str, shown: str) -> None:
    assert text.visible(raw) == shown


_PS = """\
UID        PID  PPID  C STIME TTY          TIME CMD
root         1     0  0 04:01 ?        00:00:00 init 42
root        42     1  0 04:01 ?        00:00:00 sleep 1
"""


def test_ps_keeps_the_header_and_the_containers_lines() -> None:
    assert ps.own_lines(_PS, [42]) == "".join(_PS.splitlines(keepends=True)[::2])


def test_ps_without_a_pid_column_is_an_error() -> None:
    with pytest.raises(Error, match="couldn't find PID field in ps output"):
        ps.own_lines("COMMAND\nls\n", [42])
