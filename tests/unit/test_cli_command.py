"""The command as callers see it: words, streams and exit codes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pyrunc.cli import help as help_texts
from pyrunc.cli.commands import COMMANDS

SOURCE = str(Path(__file__).parents[2] / "src")
START = f"import sys; sys.path.insert(0, {SOURCE!r}); from pyrunc.cli.main import main; main()"


def pyrunc(
    *words: str, cwd: Path | None = None, environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-I", "-S", "-X", "utf8", "-c", START, *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        cwd=cwd,
        env=environment,
        check=False,
        timeout=30,
    )


def message(result: subprocess.CompletedProcess[str]) -> str:
    found = re.fullmatch(r'time="[^"]+" level=error msg=(.*)\n', result.stderr)
    assert found, result.stderr
    return found[1]


@pytest.mark.parametrize("words", [(), ("--help",), ("-h",), ("help",), ("h",), ("--root", "/x")])
def test_help_names_every_command(words: tuple[str, ...]) -> None:
    result = pyrunc(*words)
    assert result.returncode == 0
    assert result.stderr == ""
    assert result.stdout.startswith("NAME:\n   pyrunc - Open Container Initiative runtime\n")
    for section in ("USAGE:", "VERSION:", "COMMANDS:", "GLOBAL OPTIONS:"):
        assert f"\n{section}\n" in result.stdout
    for command in COMMANDS.keys() - {"h"}:
        assert re.search(rf"^   {command} ", result.stdout, re.MULTILINE)


@pytest.mark.parametrize("command", sorted(COMMANDS.keys() - {"h"}))
def test_every_command_has_help(command: str) -> None:
    text = help_texts.text(command)
    assert text.startswith(f"NAME:\n   pyrunc {command} - ")
    assert f"\nUSAGE:\n   pyrunc {command} " in text
    assert "\nOPTIONS:\n" in text
    assert max(map(len, text.splitlines())) <= 120


def test_help_of_a_command_by_flag_and_by_name() -> None:
    by_flag, by_name = pyrunc("create", "--help"), pyrunc("help", "create")
    assert by_flag.stdout == by_name.stdout == help_texts.text("create")
    assert by_flag.returncode == by_name.returncode == 0


@pytest.mark.parametrize("words", [("frobnicate",), ("help", "frobnicate")])
def test_an_unknown_command_exits_3(words: tuple[str, ...]) -> None:
    result = pyrunc(*words)
    assert result.returncode == 3
    assert message(result) == "\"No help topic for 'frobnicate'\""
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("words", "heading", "logged"),
    [
        (("--foo", "list"), "Incorrect Usage. ", "flag provided but not defined: -foo"),
        (("--root",), "Incorrect Usage. ", "flag needs an argument: -root"),
        (("create", "--foo", "x"), "Incorrect Usage: ", "flag provided but not defined: -foo"),
        (
            ("create", "--preserve-fds", "x", "y"),
            "Incorrect Usage: ",
            r"invalid value \"x\" for flag -preserve-fds: parse error",
        ),
        (("exec", "--foo", "x"), "Incorrect Usage: ", "flag provided but not defined: -foo"),
    ],
)
def test_misuse_shows_the_help_and_exits_1(
    words: tuple[str, ...], heading: str, logged: str
) -> None:
    result = pyrunc(*words)
    assert result.returncode == 1
    assert message(result) == f'"{logged}"'
    unquoted = logged.replace('\\"', '"')
    assert result.stdout.startswith(f"{heading}{unquoted}\n\nNAME:\n")


@pytest.mark.parametrize(
    ("words", "requirement"),
    [
        (("create",), r"\"create\" requires exactly 1 argument(s)"),
        (("create", "a", "b"), r"\"create\" requires exactly 1 argument(s)"),
        (("list", "a"), r"\"list\" requires exactly 0 argument(s)"),
        (("kill",), r"\"kill\" requires a minimum of 1 argument(s)"),
        (("kill", "a", "9", "b"), r"\"kill\" requires a maximum of 2 argument(s)"),
        (("exec",), r"\"exec\" requires a minimum of 1 argument(s)"),
        (("ps",), r"\"ps\" requires a minimum of 1 argument(s)"),
        (("start",), r"\"start\" requires exactly 1 argument(s)"),
    ],
)
def test_the_number_of_arguments_is_checked(words: tuple[str, ...], requirement: str) -> None:
    result = pyrunc(*words)
    assert result.returncode == 1
    assert message(result) == f'"pyrunc: {requirement}"'
    assert result.stdout.startswith(f"Incorrect Usage.\n\nNAME:\n   pyrunc {words[0]} - ")


def test_version_lines() -> None:
    first, *others = pyrunc("--version").stdout.splitlines()
    assert re.fullmatch(r"pyrunc version \d+\.\d+\.\d+", first)
    assert "spec: 1.3.0" in others
    assert all(re.fullmatch(r"[a-z]+: \S.*", line) for line in others)
    assert pyrunc("-v").returncode == 0


@pytest.mark.parametrize(
    ("words", "code", "logged"),
    [
        (("--log-format", "xml", "list"), 1, "invalid log-format: xml"),
        (("--rootless", "maybe", "list"), 1, "invalid value for --rootless: maybe"),
        (("--cgroup-manager", "x", "list"), 1, "invalid value for --cgroup-manager: x"),
        (("--log", "/none/x", "list"), 1, "cannot open log file /none/x: no such file"),
        (("list", "-f", "xml"), 1, "invalid format option"),
        (("--root", "/none", "list"), 1, "open /none: no such file or directory"),
        (("exec", "x"), 255, "exec failed: process args cannot be empty"),
        (("exec", "-u", "me", "x", "ls"), 255, "parsing me as int for uid failed"),
        (("exec", "-u", "1:me", "x", "ls"), 255, "parsing me as int for gid failed"),
        (("ps", "-f", "xml", "x"), 1, "invalid format option"),
        (("events", "--interval", "0s", "x"), 1, "duration interval must be greater than 0"),
        (("update", "--memory", "foo", "x"), 1, "invalid value for memory: invalid size: 'foo'"),
        (("state", "no-such-container"), 1, "container does not exist"),
        (("state", "a/b"), 1, "invalid container ID format"),
    ],
)
def test_errors_are_one_log_line(
    words: tuple[str, ...], code: int, logged: str, tmp_path: Path
) -> None:
    result = pyrunc(*words, cwd=tmp_path)
    assert result.returncode == code
    assert logged in message(result)
    assert result.stdout == ""


def test_a_bundle_must_be_a_directory(tmp_path: Path) -> None:
    missing, plain = tmp_path / "none", tmp_path / "file"
    plain.touch()
    root = ("--root", str(tmp_path / "root"))
    result = pyrunc(*root, "create", "x", "--bundle", str(missing))
    assert message(result) == f'"bundle {missing}: no such file or directory"'
    result = pyrunc(*root, "create", "x", "--bundle", "file", cwd=tmp_path)
    assert message(result) == f'"bundle {plain}: not a directory"'


def test_the_default_root_may_be_missing(tmp_path: Path) -> None:
    environment = {"XDG_RUNTIME_DIR": str(tmp_path)}
    if os.geteuid() == 0:
        pytest.skip("root's own state root is used")
    result = pyrunc("list", environment=environment)
    assert result.returncode == 0
    assert result.stdout.startswith("ID          PID")


def test_list_of_an_empty_root(tmp_path: Path) -> None:
    root = ("--root", str(tmp_path))
    assert pyrunc(*root, "list", "-q").stdout == ""
    assert pyrunc(*root, "list", "-f", "json").stdout == "[]\n"
    assert len(pyrunc(*root, "list").stdout.splitlines()) == 1


def test_the_command_runs_in_an_empty_environment() -> None:
    result = pyrunc("state", "no-such-container", environment={})
    assert "container does not exist" in message(result)


def test_closed_standard_streams_are_survived(tmp_path: Path) -> None:
    log = tmp_path / "log"
    words = [sys.executable, "-I", "-S", "-X", "utf8", "-c", START, "--log", str(log)]
    closing = '"$@" <&- >&- 2>&-'
    result = subprocess.run(
        ["sh", "-c", closing, "sh", *words, "state", "no-such-container"], check=False, timeout=30
    )
    assert result.returncode == 1
    # One entry: the bare message, meant for stderr, has not ended up in the file.
    assert len(log.read_text().splitlines()) == 1


def test_a_reader_that_has_gone_is_no_error() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as pipe:
        result = subprocess.run(
            [sys.executable, "-I", "-S", "-c", START, "--help"],
            stdout=pipe,
            stderr=subprocess.PIPE,
            check=False,
            timeout=30,
        )
    assert result.returncode == 141
    assert result.stderr == b""


def test_a_full_disk_is_an_error() -> None:
    with open("/dev/full", "wb") as full:
        result = subprocess.run(
            [sys.executable, "-I", "-S", "-c", START, "--help"],
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
            timeout=30,
        )
    assert result.returncode == 1
    assert b"cannot write to the standard output: no space left on device" in result.stderr


def test_stray_bytes_in_arguments_are_shown() -> None:
    result = subprocess.run(
        [sys.executable, "-I", "-S", "-X", "utf8", "-c", START, b"x\xff\x1b"],
        capture_output=True,
        check=False,
        timeout=30,
    )
    assert result.returncode == 3
    assert b"No help topic for 'x\\\\xff\\\\x1b'" in result.stderr


def test_debug_adds_debug_lines() -> None:
    result = pyrunc("--debug", "state", "no-such-container")
    assert "level=debug" in result.stderr
    assert "level=error" in result.stderr.splitlines()[-1]


# A command whose module misbehaves stands in for bugs and interrupts at any depth.
FAILING = """\
import sys, types
sys.path.insert(0, {source!r})
def call(settings, options, arguments):
    {statement}
sys.modules["pyrunc.cli.start"] = types.SimpleNamespace(FLAGS=(), ARGUMENTS=(1, 1), call=call)
from pyrunc.cli.main import main
main()
"""


def failing(statement: str, *words: str) -> subprocess.CompletedProcess[str]:
    program = FAILING.format(source=SOURCE, statement=statement)
    return subprocess.run(
        [sys.executable, "-I", "-S", "-X", "utf8", "-c", program, *words, "start", "x"],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


@pytest.mark.parametrize(
    ("statement", "logged"),
    [
        ("raise KeyError('x')", "\"internal error: KeyError: 'x': please report\""),
        ("raise ValueError('a\\nb')", '"internal error: ValueError: a b: please report"'),
        ("call(settings, options, arguments)", "RecursionError: maximum recursion depth"),
    ],
)
def test_a_bug_is_one_line(statement: str, logged: str) -> None:
    result = failing(statement)
    assert result.returncode == 1
    assert logged in message(result)


@pytest.mark.parametrize(
    ("statement", "logged"),
    [
        ("open('/none/x')", "no such file or directory ('/none/x')"),
        ("raise MemoryError", ": out of memory"),
        ("import pyrunc.missing", "its own code cannot be loaded"),
    ],
)
def test_a_machine_that_fails_is_no_bug(statement: str, logged: str) -> None:
    result = failing(statement)
    assert result.returncode == 1
    assert logged in message(result)
    assert "please report" not in message(result)


def test_a_bug_shows_its_traceback_with_debug_only() -> None:
    result = failing("raise KeyError('x')", "--debug")
    assert "Traceback" in result.stderr
    assert all(line.startswith("time=") for line in result.stderr.splitlines())
    assert "level=error" in result.stderr.splitlines()[-1]


def test_an_interrupt_is_quiet() -> None:
    result = failing("raise KeyboardInterrupt")
    assert (result.returncode, result.stdout, result.stderr) == (130, "", "")


TWO_MISTAKES = (
    "from pyrunc.errors import InvalidConfig;"
    " raise InvalidConfig('c', [('a', 'b', 'c'), ('d', 'e', 'f')])"
)


def test_all_mistakes_are_one_entry() -> None:
    logged = message(failing(TWO_MISTAKES))
    assert logged == '"c: a: expected b, found c; d: expected e, found f"'


@pytest.mark.parametrize("to_file", [False, True])
def test_a_terminal_shows_each_mistake_on_a_line(to_file: bool, tmp_path: Path) -> None:
    log = tmp_path / "log"
    program = FAILING.format(source=SOURCE, statement=TWO_MISTAKES)
    options = ["--log", str(log), "--log-format", "json"] if to_file else []
    ours, theirs = os.openpty()
    try:
        subprocess.run(
            [sys.executable, "-I", "-S", "-X", "utf8", "-c", program, *options, "start", "x"],
            stderr=theirs,
            check=False,
            timeout=30,
        )
        shown = os.read(ours, 4096).decode().splitlines()
    finally:
        os.close(ours)
        os.close(theirs)
    for line, words in zip(
        shown, ("c: a: expected b, found c", "c: d: expected e, found f"), strict=True
    ):
        assert line.strip('"').endswith(words)
    if to_file:
        (entry,) = log.read_text().splitlines()
        assert json.loads(entry)["msg"] == "c: a: expected b, found c; d: expected e, found f"


def test_features_are_json() -> None:
    result = pyrunc("features")
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["ociVersionMax"] == "1.3.0"


def test_spec_writes_a_config_once(tmp_path: Path) -> None:
    assert pyrunc("spec", cwd=tmp_path).returncode == 0
    text = (tmp_path / "config.json").read_text()
    assert json.loads(text)["process"]["args"] == ["sh"]
    assert text.startswith('{\n\t"ociVersion": "1.3.0",\n')
    again = pyrunc("spec", "--bundle", str(tmp_path))
    assert again.returncode == 1
    assert message(again) == '"File config.json exists. Remove it first"'
    assert (tmp_path / "config.json").read_text() == text


def test_spec_for_a_container_without_root(tmp_path: Path) -> None:
    assert pyrunc("spec", "--rootless", "-b", str(tmp_path)).returncode == 0
    spec = json.loads((tmp_path / "config.json").read_text())
    assert {"type": "user"} in spec["linux"]["namespaces"]
