"""The log has the form engines parse, whatever is written to it."""

from __future__ import annotations

import json
import os
import stat
import time
from pathlib import Path

import pytest

from pyrunc.cli.log import Log, json_entry, text_entry, timestamp
from pyrunc.errors import Error

NOW = "2026-01-02T03:04:05Z"


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("container does not exist", '"container does not exist"'),
        ("word", "word"),
        ("/a-b_c.d@e^f+g", "/a-b_c.d@e^f+g"),
        ("", ""),
        ('a "b"', '"a \\"b\\""'),
        ("a\\b", '"a\\\\b"'),
        ("tab\there", '"tab\\there"'),
        ("\x1b[2J", '"\\x1b[2J"'),
        ("caf\u00e9", '"caf\u00e9"'),
        ("bad\udc80byte", '"bad\\x80byte"'),
    ],
)
def test_text_entries_quote_as_logrus_does(message: str, shown: str) -> None:
    assert text_entry(NOW, "error", message) == f'time="{NOW}" level=error msg={shown}\n'


@pytest.mark.parametrize("message", ["plain", 'a "b" \\', "\x1b\x7f\n", "caf\u00e9 \U0001f600"])
def test_json_entries_are_one_line_that_reads_back(message: str) -> None:
    entry = json_entry(NOW, "error", message)
    assert entry.count("\n") == 1
    assert entry.isascii()
    assert entry[:-1].isprintable()
    assert json.loads(entry) == {"level": "error", "msg": message, "time": NOW}
    assert list(json.loads(entry)) == ["level", "msg", "time"]


def test_a_stray_byte_is_named_in_json() -> None:
    assert json.loads(json_entry(NOW, "error", "x\udcff"))["msg"] == "x\\xff"


@pytest.mark.parametrize(
    ("zone", "shown"),
    [
        ("UTC0", "2026-01-02T03:04:05Z"),
        ("EST5", "2026-01-01T22:04:05-05:00"),
        ("IST-5:30", "2026-01-02T08:34:05+05:30"),
    ],
)
def test_times_are_in_the_local_zone(
    zone: str, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        assert timestamp(1767323045.9) == shown
    finally:
        monkeypatch.undo()
        time.tzset()


def test_errors_go_to_the_file_and_bare_to_stderr(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "log"
    path.write_text("before\n")
    log = Log()
    log.configure(str(path), "json", False)
    log.error("first\nsecond \x1b[31m", lines=["first", "second"])
    log.warn("only in the file")
    log.debug("nowhere")
    before, *entries = path.read_text().splitlines()
    assert before == "before"
    assert [(json.loads(e)["level"], json.loads(e)["msg"]) for e in entries] == [
        ("error", "first\nsecond \x1b[31m"),
        ("warning", "only in the file"),
    ]
    assert capfd.readouterr().err == "first\\nsecond \\x1b[31m\n"


def test_without_a_file_errors_appear_once_on_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    log = Log()
    log.configure("", "text", True)
    log.debug("detail")
    log.error("no luck")
    first, second = capfd.readouterr().err.splitlines()
    assert first.endswith("level=debug msg=detail")
    assert second.endswith('level=error msg="no luck"')


def test_the_log_file_is_not_inherited_and_as_readable_as_the_umask_allows(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = Log()
    old = os.umask(0o022)
    try:
        log.configure(str(path), "", False)
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    for number in map(int, os.listdir("/proc/self/fd")):
        try:
            if os.readlink(f"/proc/self/fd/{number}") == str(path):
                assert not os.get_inheritable(number)
        except FileNotFoundError:
            continue


def test_a_log_file_that_cannot_be_opened_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(Error, match=r"cannot open log file .*/x/log: no such file or directory"):
        Log().configure(str(tmp_path / "x" / "log"), "", False)


def test_an_unknown_format_is_an_error() -> None:
    with pytest.raises(Error, match="invalid log-format: xml"):
        Log().configure("", "xml", False)
