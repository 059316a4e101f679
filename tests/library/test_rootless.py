"""The library for an ordinary user: in a user namespace, with the limits that there are then."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from conftest import BUSY_USER, engine_processes, wait_until_gone

USER = 54321
#: The interpreter itself: that of an environment below a closed directory is out of a user's reach.
PYTHON = os.path.realpath(sys.executable)


@pytest.fixture
def as_user(sources):
    """Start a program as an ordinary user."""

    def start(text):
        script = f"import sys; sys.path.insert(0, {str(sources)!r})\nimport pyrunc\n"
        return subprocess.Popen(
            [PYTHON, "-I", "-c", script + textwrap.dedent(text)],
            user=USER, group=USER, extra_groups=[], env={"PATH": "/usr/bin:/bin"}, cwd="/",
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    yield start
    wait_until_nothing_of_the_user_s_is_left()


def wait_until_nothing_of_the_user_s_is_left():
    base = Path(f"/tmp/pyrunc-library-{USER}")
    end = time.monotonic() + 20
    while base.exists() and os.listdir(base):
        assert time.monotonic() < end, os.listdir(base)
        time.sleep(0.05)
    if base.exists():
        base.rmdir()


def shown(program):
    stdout, stderr = program.communicate(timeout=60)
    if "user namespace, which containers" in stderr:
        pytest.skip("this host lets ordinary users have no user namespaces")
    assert program.returncode == 0, stderr
    return stdout.splitlines()


def test_run(as_user):
    text = """
        result = pyrunc.run(["sh", "-c", "id -u; cat; echo err >&2; exit 3"], input=b"in\\n")
        print(result.status, result.returncode, result.stdout, result.stderr)
        print(pyrunc.run(["sh", "-c", "echo a; sleep 1000 & sleep 1000"], timeout=0.5).status)
        print(pyrunc.run(["grep", "Cap[PEB]", "/proc/self/status"], text=True).stdout.split()[1::2])
        try: pyrunc.run(["no-such-program"])
        except FileNotFoundError as error: print(type(error).__name__)
    """
    assert shown(as_user(text)) == [
        "exited 3 b'0\\nin\\n' b'err\\n'",
        "timeout",
        str(["0" * 16] * 3),
        "ProgramNotFound",
    ]


def test_a_sandbox(as_user):
    text = """
        with pyrunc.Sandbox() as box:
            box.write_file("/tmp/main.sh", "echo ran; echo >/tmp/made")
            print(box.run(["sh", "/tmp/main.sh"], text=True).stdout.strip())
            print(*(change.path for change in box.changes()))
            print(box.read_file("/tmp/main.sh"))
            print(box.run(["sleep", "1000"], timeout=0.3).status)
            print(box.read_file("/tmp/made"))
            box.reset()
            print(box.changes())
            try: box.read_file("/etc/../../../../../root/x")
            except pyrunc.FileMissing: print("missing")
    """
    assert shown(as_user(text)) == [
        "ran",
        "/tmp/made /tmp/main.sh",
        "b'echo ran; echo >/tmp/made'",
        "timeout",
        "b'\\n'",
        "[]",
        "missing",
    ]


def test_limits_that_cannot_be_are_errors_or_listed(as_user):
    """This user has no cgroup: what was asked for fails, what is there by default is told."""
    text = """
        print(sorted(pyrunc.run(["true"]).not_enforced))
        try: pyrunc.run(["true"], memory="64M")
        except PermissionError as error: print(type(error).__name__, error.limit, bool(error.hint))
        try: pyrunc.run(["true"], cpu_time=1)
        except pyrunc.NotEnforced as error: print(error.limit)
        result = pyrunc.run(["true"], memory="64M", cpu_time=1, best_effort=True)
        print(result.status, sorted(result.not_enforced))
    """
    assert shown(as_user(text)) == [
        "['memory', 'pids', 'swap']",
        "NotEnforced memory True",
        "cpu_time",
        "exited ['cpu_time', 'memory', 'pids', 'swap']",
    ]


@pytest.mark.parametrize("also_engines", [False, True])
def test_nothing_is_left_of_a_killed_program(as_user, also_engines):
    killed = as_user(BUSY_USER)
    assert killed.stdout.readline() == "ready\n", killed.stderr.read()
    pids = engine_processes(killed.pid)
    assert pids
    doomed = [*(pids if also_engines else ()), killed.pid]
    for number in (signal.SIGSTOP, signal.SIGKILL):
        # Stopped, none sees the end of another.
        for pid in doomed:
            os.kill(pid, number)
    killed.communicate()
    if also_engines:
        assert shown(as_user('print(pyrunc.run(["true"]).status)')) == ["exited"]
    wait_until_gone(killed.pid)
    end = time.monotonic() + 20
    while subprocess.run(["pgrep", "-u", str(USER)], capture_output=True, check=False).stdout:
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_user_who_may_have_no_user_namespace_is_told(sources, tmp_path):
    """In a namespace of its own the limit is this test's alone (namespaces(7))."""
    script = f"""
import sys; sys.path.insert(0, {str(sources)!r})
import pyrunc
try: pyrunc.run(["true"])
except pyrunc.EngineLost as error: print(error)
"""
    setup = "echo 0 >/proc/sys/user/max_user_namespaces && exec setpriv --bounding-set -all"
    done = subprocess.run(
        ["unshare", "-Ur", "sh", "-c", f'{setup} "$@"', "sh", sys.executable, "-I", "-c", script],
        capture_output=True, text=True, check=False, cwd="/",
    )  # fmt: skip
    if done.returncode:
        pytest.skip(f"cannot make such a namespace: {done.stderr}")
    assert "cannot make a user namespace, which containers of user 0 need" in done.stdout
