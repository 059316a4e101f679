"""tools/suite: pytest, with orphans collected."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from waiting import soon

SUITE = Path(__file__).resolve().parents[2] / "tools/suite"
PLAIN = ["-q", "-p", "no:cacheprovider"]


@pytest.fixture
def suite(tmp_path, monkeypatch):
    """Begin it with a test file of this text."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")

    def begin(text, *options):
        (tmp_path / "test_it.py").write_text(f"import os, time\nfrom pathlib import Path\n{text}")
        return subprocess.Popen(
            [sys.executable, SUITE, *PLAIN, *options], cwd=tmp_path, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        )  # fmt: skip

    return begin


def test_orphans_are_collected_at_once(suite):
    running = suite("""
import signal, subprocess
def test_it():
    pid = int(subprocess.check_output(["sh", "-c", "sleep 1000 >/dev/null & echo $!"]))
    end = time.monotonic() + 60
    parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]
    assert "suite" in Path(f"/proc/{parent}/cmdline").read_text()
    os.kill(pid, signal.SIGKILL)
    while Path(f"/proc/{pid}").exists(): assert time.monotonic() < end
""")
    told = running.communicate()[0]
    assert "1 passed" in told, told
    assert running.returncode == 0


@pytest.mark.parametrize(
    ("text", "options", "code"),
    [
        ("def test_it(): assert 0", (), 1),
        ("def test_it(): pass", ("--no-such-option",), 4),
        ("def test_it(): os.kill(os.getpid(), 9)", (), 128 + 9),
    ],
)
def test_the_exit_code_is_pytests(suite, text, options, code):
    running = suite(text, *options)
    running.communicate()
    assert running.returncode == code


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_pytest_ends_with_it(suite, tmp_path, number):
    text = "def test_it(): Path(f'{os.getpid()}.pid').touch(); time.sleep(1000)\n"
    running = suite(text)
    assert soon(lambda: list(tmp_path.glob("*.pid")))
    pid = next(tmp_path.glob("*.pid")).stem
    if number == signal.SIGINT:
        # As a terminal does.
        os.killpg(running.pid, number)
        assert "KeyboardInterrupt" in running.communicate()[0]
        assert running.returncode == 2
    else:
        running.kill()
        running.communicate()
    assert soon(lambda: not Path(f"/proc/{pid}").exists())
