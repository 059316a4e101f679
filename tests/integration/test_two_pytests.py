"""tools/suite: pytest with orphans collected, and two at a time with one summary."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from waiting import soon

SUITE = Path(__file__).resolve().parents[2] / "tools/suite"
WAIT = """
import os, time
from pathlib import Path
TOP = Path(__file__).parents[2]
def wait_for(name):
    end = time.monotonic() + 60
    while not (TOP / name).exists():
        assert time.monotonic() < end, name
        time.sleep(0.01)
"""


@pytest.fixture
def suite(tmp_path, monkeypatch):
    """Run it with tests beside (``clients``) and others (``unit``) of these texts."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")

    def words(clients, unit, *options, how=("--two",)):
        for name, text in (("clients", clients), ("unit", unit)):
            (tmp_path / "tests" / name).mkdir(parents=True)
            (tmp_path / "tests" / name / f"test_{name}.py").write_text(WAIT + text)
        return [
            sys.executable,
            SUITE,
            *how,
            "-q",
            "-ra",
            "-p",
            "no:cacheprovider",
            *options,
            "tests",
        ]

    def run(*arguments, **how):
        return subprocess.run(
            words(*arguments, **how), cwd=tmp_path, capture_output=True, text=True, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip

    run.words = words
    return run


def summaries(text):
    return re.findall(r"^(?:\d+ [a-z]+,? )+in .*s", text, re.M)


def test_both_run_at_a_time_and_one_tells(suite, tmp_path):
    done = suite(
        """
def test_a(): (TOP / "a").touch(); wait_for("b")
def test_of_the_second(): import pytest; pytest.skip("no such host")
def test_wrong(): print("printed there"); assert "seen" == "there"
""",
        """
def test_b(): wait_for("a"); (TOP / "b").touch()
def test_right(): pass
""",
        "--junitxml=found.xml",
    )
    assert done.returncode == 1
    assert [line.split(" in ")[0] for line in summaries(done.stdout)] == [
        "1 failed, 3 passed, 1 skipped"
    ]
    assert "printed there" in done.stdout
    assert "FAILED tests/clients/test_clients.py::test_wrong - " in done.stdout
    assert "no such host" in done.stdout
    assert (tmp_path / "found.xml").read_text().count("<testcase ") == 5


def test_each_test_runs_once_with_its_fixtures(suite, tmp_path):
    text = """
import pytest
@pytest.fixture(scope="session", autouse=True)
def log():
    with (TOP / "log").open("a") as file:
        yield file
        file.write("end\\n")
@pytest.mark.parametrize("n", ["x y", "[z]", "é"])
def test_one(n, log): log.write(n + "\\n")
"""
    assert suite(text, text).returncode == 0
    told = (tmp_path / "log").read_text().splitlines()
    assert sorted(told) == sorted(2 * ["x y", "[z]", "é", "end"])


def test_one_alone_runs_all_in_turn(suite):
    text = "def test_it(): assert os.getppid() > 1\n"
    done = suite(text, text + "def test_no(): assert 0\n", how=())
    assert [line.split(" in ")[0] for line in summaries(done.stdout)] == ["1 failed, 2 passed"]
    assert done.returncode == 1


def test_what_the_second_leaves_out_the_first_runs(suite, tmp_path):
    done = suite(
        """
def test_before(): pass
def test_deadly():
    if not (TOP / "died").exists(): (TOP / "died").touch(); os._exit(77)
def test_after(): pass
""",
        "def test_other(): wait_for('died')\n",
    )
    assert [line.split(" in ")[0] for line in summaries(done.stdout)] == ["4 passed"]
    assert "the second pytest ended early" in done.stdout
    assert done.returncode == 0


@pytest.mark.parametrize("which", ["unit", "clients"])
def test_it_stops_at_the_first_failure(suite, tmp_path, which):
    wrong, right = "def test_no(): assert 0\n", "def test_yes(): pass\n"
    texts = (right, wrong + right) if which == "unit" else (wrong + right, right)
    done = suite(*texts, "-x")
    assert done.returncode == 1
    assert "stopping after 1 failures" in done.stdout
    assert summaries(done.stdout)[0].startswith("1 failed")


@pytest.mark.parametrize("how", [(), ("--two",)])
def test_orphans_are_collected_at_once(suite, how):
    """Not every machine's own init does so."""
    text = """
import signal, subprocess
def test_it():
    pid = int(subprocess.check_output(["sh", "-c", "sleep 1000 >/dev/null & echo $!"]))
    end = time.monotonic() + 60
    parent = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1]
    assert "suite" in Path(f"/proc/{parent}/cmdline").read_text()
    os.kill(pid, signal.SIGKILL)
    while Path(f"/proc/{pid}").exists(): assert time.monotonic() < end
"""
    done = suite(text, text, how=how)
    assert "2 passed" in done.stdout, done.stdout


def test_one_of_the_two_may_have_nothing_to_do(suite):
    assert "1 passed" in suite("", "def test_it(): pass\n").stdout


@pytest.mark.parametrize("how", [(), ("--two",)])
def test_wrong_words_are_told_once(suite, how):
    done = suite("", "def test_it(): pass\n", "--no-such-option", how=how)
    assert done.returncode == 4
    assert (done.stdout + done.stderr).count("unrecognized arguments") == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_both_end_with_it(suite, tmp_path, number):
    text = "def test_it():\n (TOP / f'{os.getpid()}.pid').touch(); wait_for('never')\n"
    running = subprocess.Popen(
        suite.words(text, text), cwd=tmp_path, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    assert soon(lambda: len(list(tmp_path.glob("*.pid"))) == 2)
    pids = [int(path.stem) for path in tmp_path.glob("*.pid")]
    if number == signal.SIGINT:
        # As a terminal does.
        os.killpg(running.pid, number)
        told = running.communicate()[0]
        assert len(re.findall("no tests ran|KeyboardInterrupt", told)) >= 1
        assert running.returncode == 2
    else:
        running.kill()
        running.communicate()
    assert soon(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids))
