"""What Podman and Docker answer alike: their modules import these tests; each has an ``engine``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest
from engine_room import wait_until

if TYPE_CHECKING:
    import subprocess


class Engine(Protocol):
    """An engine's command line."""

    directory: Path

    def __call__(
        self, *words: str | Path, stdin: str = "", check: bool = False
    ) -> subprocess.CompletedProcess[str]: ...

    def out(self, *words: str | Path, stdin: str = "") -> str: ...

    def inspect(self, name: str, what: str) -> str: ...


@pytest.mark.parametrize("code", [0, 3, 125, 126, 127, 255])
def test_exit_code(engine: Engine, code: int):
    assert engine("run", "--rm", "box", "sh", "-c", f"exit {code}").returncode == code


def test_missing_program_is_127(engine: Engine):
    result = engine("run", "--rm", "box", "/no/such/program")
    assert result.returncode == 127
    assert "no such file or directory" in result.stderr.lower()


def test_program_that_cannot_be_executed_is_126(engine: Engine):
    result = engine("run", "--rm", "box", "/etc/passwd")
    assert result.returncode == 126
    assert "permission denied" in result.stderr.lower()


def test_output_and_input(engine: Engine):
    result = engine("run", "--rm", "-i", "box", "sh", "-c", "cat; echo bad >&2", stdin="good\n")
    assert (result.stdout, result.stderr) == ("good\n", "bad\n")


def test_logs_and_wait(engine: Engine):
    engine("run", "-d", "--name", "logs", "box", "sh", "-c", "echo one; echo two >&2; exit 4")
    assert engine.out("wait", "logs") == "4\n"
    result = engine("logs", "logs")
    assert (result.stdout, result.stderr) == ("one\n", "two\n")
    engine("rm", "logs", check=True)


def test_exec_in_the_background(engine: Engine, sleeper: str):
    engine("exec", "-d", sleeper, "sh", "-c", "echo done > /tmp/mark", check=True)
    wait_until(lambda: engine("exec", sleeper, "cat", "/tmp/mark").stdout == "done\n")


def test_top_and_ps(engine: Engine, sleeper: str):
    assert "sleep 1000" in engine.out("top", sleeper)
    assert sleeper in engine.out("ps", "--format", "{{.Names}}").split()


def test_pause_and_unpause(engine: Engine, sleeper: str):
    engine("pause", sleeper, check=True)
    assert engine.inspect(sleeper, ".State.Status") == "paused"
    assert engine("exec", sleeper, "true").returncode != 0
    engine("unpause", sleeper, check=True)
    assert engine("exec", sleeper, "true").returncode == 0


def test_restart(engine: Engine, sleeper: str):
    before = engine.inspect(sleeper, ".State.Pid")
    engine("restart", "-t", "0", sleeper, check=True)
    assert engine.inspect(sleeper, ".State.Pid") != before
    assert engine("exec", sleeper, "true").returncode == 0


def test_group_add(engine: Engine):
    shown = engine.out("run", "--rm", "--group-add", "77", "box", "id", "-G")
    assert "77" in shown.split()


def capabilities(text: str) -> int:
    return int(next(x for x in text.splitlines() if x.startswith("CapEff")).split()[1], 16)


def test_no_new_privileges(engine: Engine):
    words = ["run", "--rm", "--security-opt", "no-new-privileges", "box"]
    assert "NoNewPrivs:\t1" in engine.out(*words, "cat", "/proc/self/status")


def test_sysctl(engine: Engine):
    words = ["run", "--rm", "--sysctl", "kernel.msgmax=1234", "box"]
    assert engine.out(*words, "cat", "/proc/sys/kernel/msgmax") == "1234\n"


def test_tmpfs_and_shm_size(engine: Engine):
    words = ["run", "--rm", "--tmpfs", "/scratch:size=64k,mode=700", "--shm-size", "128k", "box"]
    shown = engine.out(*words, "cat", "/proc/self/mountinfo")
    lines = {line.split()[4]: line for line in shown.splitlines()}
    assert "size=64k,mode=700" in lines["/scratch"]
    assert "size=128k" in lines["/dev/shm"]


def test_named_volume(engine: Engine):
    engine("run", "--rm", "-v", "data:/d", "box", "sh", "-c", "echo kept > /d/f", check=True)
    assert engine.out("run", "--rm", "-v", "data:/d", "box", "cat", "/d/f") == "kept\n"
    engine("volume", "rm", "data", check=True)


def test_device(engine: Engine):
    words = ["run", "--rm", "--device", "/dev/zero:/dev/mine:rw", "box", "sh", "-c"]
    shown = engine.out(*words, "stat -c %t:%T /dev/mine; head -c 2 /dev/mine | od -An -tx1")
    assert shown.split() == ["1:5", "00", "00"]
