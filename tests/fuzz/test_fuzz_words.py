"""Command lines, ids, mount options, sizes, times, signals: understood, or refused as misused."""

from __future__ import annotations

import contextlib
import importlib

from hypothesis import example, given
from hypothesis import strategies as st
from strange import NUMBERS, TEXTS

from pyrunc import ids
from pyrunc.cli import durations, flags, signals, sizes, text
from pyrunc.cli.commands import COMMANDS, GLOBAL_FLAGS
from pyrunc.cli.update import limits
from pyrunc.container.entering.exec_process import parse_user
from pyrunc.container.entering.sub_cgroup import below
from pyrunc.container.record.store import check_id
from pyrunc.errors import Error
from pyrunc.process.failure import describe_failure, parse_failure
from pyrunc.rootfs.options import parse_options

TABLES = {
    name: importlib.import_module(f"pyrunc.cli.{module}").FLAGS for name, module in COMMANDS.items()
}
FLAGS = [
    name
    for table in (GLOBAL_FLAGS, *TABLES.values())
    for flag in table
    for name in flag[0].split(",")
]
LONG = TEXTS | NUMBERS.map(str)
WORDS = st.one_of(
    LONG,
    st.sampled_from(FLAGS).map(lambda name: f"--{name}"),
    st.builds("--{}={}".format, st.sampled_from(FLAGS), LONG),
    st.builds("-{}".format, LONG),
)


@given(st.sampled_from(sorted(TABLES)), st.lists(WORDS, max_size=6))
def test_command_lines(name, words):
    for table in (GLOBAL_FLAGS, TABLES[name]):
        with contextlib.suppress(flags.UsageError):
            options, arguments = flags.parse(table, words)
            assert all(argument in words for argument in arguments)
            if name == "update" and table is not GLOBAL_FLAGS:
                with contextlib.suppress(Error, flags.UsageError):
                    limits({**options, "resources": ""})


@given(LONG)
@example("000000000004294967295")
@example("0" * 40 + "18446744073709551616")
def test_ids(word):
    """All that is taken is plain digits, and an id that the kernel knows."""
    try:
        number = ids.parse(word)
    except (ValueError, OverflowError):
        return
    assert word.isascii()
    assert word.isdigit()
    assert number == int(word) < 2**32 - 1


@given(st.lists(LONG, min_size=1, max_size=3).map(":".join))
def test_users(word):
    with contextlib.suppress(Error):
        uid, gid = parse_user(word)
        assert 0 <= uid < 2**32 - 1
        assert gid is None or 0 <= gid < 2**32 - 1


@given(LONG)
def test_container_ids(word):
    try:
        check_id(word)
    except Error:
        return
    assert word not in ("", ".", "..")
    assert "/" not in word
    assert word.isascii()
    assert word.isprintable()


@given(st.lists(LONG | st.builds("{}={}".format, LONG, LONG), max_size=6))
def test_mount_options(words):
    with contextlib.suppress(Error):
        parse_options(words)


@given(LONG)
def test_sizes_times_signals(word):
    for parse in (sizes.size, durations.seconds, signals.number):
        with contextlib.suppress(Error, ValueError):
            assert parse(word) is not None


@given(LONG)
def test_what_is_shown_has_no_escape_codes(word):
    for shown in (text.visible(word), text.quoted(word)):
        assert all(letter.isprintable() or letter in "\n\t" for letter in shown)


@given(st.lists(LONG, max_size=3))
def test_cgroups_below(words):
    paths = {"memory": "/sys/fs/cgroup/memory/x", "cpu": "/sys/fs/cgroup/cpu/x"}
    with contextlib.suppress(Error):
        for path in below(paths, words).values():
            assert ".." not in path.split("/")
            assert path.startswith("/sys/fs/cgroup/")


@given(st.binary(max_size=80) | st.binary(max_size=60).map(lambda tail: b"Lng1" + tail))
def test_failure_records(record):
    failure = parse_failure(record)
    if failure is not None:
        assert describe_failure(failure)
