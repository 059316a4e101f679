"""The examples and the page of the library do what they say."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from conftest import SOURCES, wait_until_gone

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"


def start(*words, **options):
    environment = {**os.environ, "PYTHONPATH": str(SOURCES)}
    return subprocess.Popen(
        [sys.executable, *words], env=environment, stdout=subprocess.PIPE, text=True, **options
    )


def output_of(*words):
    program = start(*words)
    shown = program.communicate(timeout=240)[0]
    assert program.returncode == 0, shown
    wait_until_gone(program.pid)
    return shown


def test_untrusted_code():
    lines = output_of(str(EXAMPLES / "untrusted_code.py")).splitlines()
    assert len(lines) == 100
    by_kind = [{line.split()[1] for line in lines[kind::7]} for kind in range(7)]
    assert by_kind[0] == {"exited"}
    assert by_kind[1] <= {"cpu", "timeout"}
    assert by_kind[2] <= {"oom", "exited"}
    assert by_kind[3] == by_kind[4] == {"exited"}
    assert by_kind[5] <= {"output", "timeout", "cpu"}
    # Sixteen interpreters may be more than 64 MiB.
    assert by_kind[6] <= {"exited", "timeout", "cpu", "oom"}
    assert "42" in lines[0]
    assert "No such file or directory" in lines[3]


def test_judge():
    assert output_of(str(EXAMPLES / "judge.py")).splitlines() == [
        "right: accepted",
        "wrong: wrong answer in test 2",
        "slow: time limit exceeded in test 1",
        "greedy: memory limit exceeded in test 1",
        "crashing: runtime error in test 1",
    ]


def test_squares():
    assert output_of(str(EXAMPLES / "squares.py")).splitlines() == [
        "[1, 2, 3, 4]",
        "ready: 3628800",
        "too long: TimeoutExpired",
    ]


def test_a_warm_interpreter(criu):
    first, *copies = output_of(str(EXAMPLES / "warm_interpreter.py")).splitlines()
    assert first.startswith("started in ")
    assert [copy.partition("s: ")[2] for copy in copies] == [
        '0 "0"',
        '1 "0.1428571428571428571428571429"',
        '2 "0.2857142857142857142857142857"',
        '3 "0.4285714285714285714285714286"',
        '4 "0.5714285714285714285714285714"',
    ]


def test_a_fixture_of_pytest():
    shown = output_of("-m", "pytest", "-q", "-p", "no:cacheprovider", str(EXAMPLES))
    assert "2 passed" in shown


def test_http_service():
    service = start(str(EXAMPLES / "http_service.py"), "0")
    try:
        port = int(service.stdout.readline().split()[-1])
        with urllib.request.urlopen(f"http://localhost:{port}/", b"print(6 * 7)") as answer:
            told = json.load(answer)
        assert (told["status"], told["stdout"]) == ("exited", "42\n")
    finally:
        service.terminate()
        service.communicate()
    wait_until_gone(service.pid)


@pytest.mark.parametrize("page", ["docs/library.md", "README.md", "README.zh-CN.md"])
def test_the_pages_first_example(page):
    """It works, pasted into a fresh interpreter, and prints what its comments say."""
    text = (ROOT / page).read_text()
    (block, *_) = (
        b for b in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "pyrunc.run" in b
    )
    shown = output_of("-c", block).splitlines()
    told = re.findall(r"print\(.*?\) +# (.*)", block)
    assert told
    assert shown[: len(told)] == told
