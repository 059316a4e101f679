"""What Podman and Docker have in common: a command line, and what it answers alike."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pexpect
import pytest
from engine_room import RUNTIME, wait_until

if TYPE_CHECKING:
    import subprocess

    from engine_room import Room


class Engine:
    """An engine's command, run in a room of its own that has an image ``box``."""

    program: str
    directory: Path
    room: Room

    def __call__(
        self, *words: str | Path, stdin: str = "", check: bool = False, timeout: float = 120
    ) -> subprocess.CompletedProcess[str]:
        return self.room(self.program, *words, stdin=stdin, check=check, timeout=timeout)

    def out(self, *words: str | Path, stdin: str = "") -> str:
        """Return what a command that has to succeed prints."""
        return self(*words, stdin=stdin, check=True).stdout

    def inspect(self, name: str, what: str) -> str:
        return self.out("inspect", "--format", "{{" + what + "}}", name).strip()

    def terminal(self, *words: str) -> pexpect.spawn:
        """Start a command of the engine's on a terminal."""
        command = self.room.command(self.program, *words)
        return pexpect.spawn(command[0], command[1:], env=self.room.environment, timeout=30)


def capabilities(text: str) -> int:
    return int(next(x for x in text.splitlines() if x.startswith("CapEff")).split()[1], 16)


class SameCommands:
    """The tests that each engine's module runs, with an ``engine`` and a ``sleeper`` of its own."""

    @pytest.mark.parametrize("code", [0, 3, 125, 126, 127, 255])
    def test_exit_code(self, engine: Engine, code: int):
        assert engine("run", "--rm", "box", "sh", "-c", f"exit {code}").returncode == code

    def test_missing_program_is_127(self, engine: Engine):
        result = engine("run", "--rm", "box", "/no/such/program")
        assert result.returncode == 127
        assert "no such file or directory" in result.stderr.lower()

    def test_program_that_cannot_be_executed_is_126(self, engine: Engine):
        result = engine("run", "--rm", "box", "/etc/passwd")
        assert result.returncode == 126
        assert "permission denied" in result.stderr.lower()

    def test_a_directory_as_the_program_is_126(self, engine: Engine):
        assert engine("run", "--rm", "box", "/tmp").returncode == 126

    def test_a_file_over_a_directory_names_both(self, engine: Engine, volume: Path):
        (volume / "file").write_text("")
        done = engine("run", "--rm", "-v", f"{volume}/file:/tmp", "box", "true")
        assert done.returncode != 0
        assert "not a directory" in done.stderr
        if RUNTIME == "pyrunc":
            assert "file is a file, /tmp is a directory" in done.stderr

    def test_output_and_input(self, engine: Engine):
        result = engine("run", "--rm", "-i", "box", "sh", "-c", "cat; echo bad >&2", stdin="good\n")
        assert (result.stdout, result.stderr) == ("good\n", "bad\n")

    def test_logs_and_wait(self, engine: Engine):
        engine("run", "-d", "--name", "logs", "box", "sh", "-c", "echo one; echo two >&2; exit 4")
        assert engine.out("wait", "logs") == "4\n"
        result = engine("logs", "logs")
        assert (result.stdout, result.stderr) == ("one\n", "two\n")
        engine("rm", "logs", check=True)

    def test_exec_in_the_background(self, engine: Engine, sleeper: str):
        engine("exec", "-d", sleeper, "sh", "-c", "echo done > /tmp/mark", check=True)
        wait_until(lambda: engine("exec", sleeper, "cat", "/tmp/mark").stdout == "done\n")

    def test_top_and_ps(self, engine: Engine, sleeper: str):
        assert "sleep 1000" in engine.out("top", sleeper)
        assert sleeper in engine.out("ps", "--format", "{{.Names}}").split()

    def test_pause_and_unpause(self, engine: Engine, sleeper: str):
        engine("pause", sleeper, check=True)
        assert engine.inspect(sleeper, ".State.Status") == "paused"
        assert engine("exec", sleeper, "true").returncode != 0
        engine("unpause", sleeper, check=True)
        assert engine("exec", sleeper, "true").returncode == 0

    def test_restart(self, engine: Engine, sleeper: str):
        before = engine.inspect(sleeper, ".State.Pid")
        engine("restart", "-t", "0", sleeper, check=True)
        assert engine.inspect(sleeper, ".State.Pid") != before
        assert engine("exec", sleeper, "true").returncode == 0

    def test_group_add(self, engine: Engine):
        shown = engine.out("run", "--rm", "--group-add", "77", "box", "id", "-G")
        assert "77" in shown.split()

    def test_no_new_privileges(self, engine: Engine):
        words = ["run", "--rm", "--security-opt", "no-new-privileges", "box"]
        assert "NoNewPrivs:\t1" in engine.out(*words, "cat", "/proc/self/status")

    def test_sysctl(self, engine: Engine):
        words = ["run", "--rm", "--sysctl", "kernel.msgmax=1234", "box"]
        assert engine.out(*words, "cat", "/proc/sys/kernel/msgmax") == "1234\n"

    def test_tmpfs_and_shm_size(self, engine: Engine):
        sizes = ["--tmpfs", "/scratch:size=64k,mode=700", "--shm-size", "128k"]
        shown = engine.out("run", "--rm", *sizes, "box", "cat", "/proc/self/mountinfo")
        lines = {line.split()[4]: line for line in shown.splitlines()}
        assert "size=64k,mode=700" in lines["/scratch"]
        assert "size=128k" in lines["/dev/shm"]

    def test_named_volume(self, engine: Engine):
        engine("run", "--rm", "-v", "data:/d", "box", "sh", "-c", "echo kept > /d/f", check=True)
        assert engine.out("run", "--rm", "-v", "data:/d", "box", "cat", "/d/f") == "kept\n"
        engine("volume", "rm", "data", check=True)

    def test_device(self, engine: Engine):
        words = ["run", "--rm", "--device", "/dev/zero:/dev/mine:rw", "box", "sh", "-c"]
        shown = engine.out(*words, "stat -c %t:%T /dev/mine; head -c 2 /dev/mine | od -An -tx1")
        assert shown.split() == ["1:5", "00", "00"]

    def test_exec_with_a_terminal(self, engine: Engine, sleeper: str):
        child = engine.terminal("exec", "-it", sleeper, "sh")
        child.setwinsize(33, 101)
        child.expect("# ")
        child.sendline("tty; stty size; exit 5")
        child.expect("/dev/pts/")
        child.expect("33 101")
        child.expect(pexpect.EOF)
        child.close()
        assert child.exitstatus == 5

    def test_run_with_a_terminal(self, engine: Engine):
        child = engine.terminal("run", "--rm", "-it", "box", "sh")
        child.expect("# ")
        child.sendline("test -t 0 && test -t 1 && test -t 2 && echo all-$((20 + 3))")
        child.expect("all-23")
        child.sendcontrol("d")
        child.expect(pexpect.EOF)
        child.close()
        assert child.exitstatus == 0

    def test_kill_and_signals(self, engine: Engine):
        script = "trap 'echo got; exit 6' USR1; echo ready; while :; do sleep 0.05; done"
        engine("run", "-d", "--name", "trapped", "box", "sh", "-c", script, check=True)
        wait_until(lambda: "ready" in engine.out("logs", "trapped"))
        engine("kill", "--signal", "USR1", "trapped", check=True)
        assert engine.out("wait", "trapped") == "6\n"
        assert "got" in engine.out("logs", "trapped")
        engine("rm", "trapped", check=True)

    def test_stop_waits_and_kills(self, engine: Engine, sleeper: str):
        """The first process of a pid namespace ignores SIGTERM: after the time it is killed."""
        engine("stop", "-t", "1", sleeper, check=True)
        assert engine.inspect(sleeper, ".State.ExitCode") == "137"

    def test_volumes(self, engine: Engine, volume: Path):
        script = "cat /v/file; touch /v/new 2>/dev/null && echo written"
        writable = engine.out("run", "--rm", "-v", f"{volume}:/v", "box", "sh", "-c", script)
        assert writable == "from the host\nwritten\n"
        assert (volume / "new").exists()
        (volume / "new").unlink()
        result = engine("run", "--rm", "-v", f"{volume}:/v:ro", "box", "sh", "-c", script)
        assert result.stdout == "from the host\n"

    def test_create_and_start(self, engine: Engine):
        engine("create", "--name", "later", "box", "echo", "hello", check=True)
        assert engine.inspect("later", ".State.Status") == "created"
        assert engine.out("start", "-a", "later") == "hello\n"
        # Podman says "stopped" until conmon's own command has cleaned up.
        wait_until(lambda: engine.inspect("later", ".State.Status") == "exited")
        engine("rm", "later", check=True)

    @pytest.mark.parametrize(
        ("user", "ids"),
        [("1000", "1000:1000"), ("2000", "2000:0"), ("box", "1000:1000"), ("7:8", "7:8")],
    )
    def test_user(self, engine: Engine, user: str, ids: str):
        script = "echo $(id -u):$(id -g)"
        shown = engine.out("run", "--rm", "--user", user, "box", "sh", "-c", script)
        assert shown.strip() == ids

    def test_capabilities(self, engine: Engine):
        def seen(*words: str) -> int:
            status = ("cat", "/proc/self/status")
            return capabilities(engine.out("run", "--rm", *words, "box", *status))

        assert seen("--cap-drop", "all") == 0
        assert seen("--cap-drop", "all", "--cap-add", "net_admin") == 1 << 12
        assert seen("--cap-add", "sys_admin") == seen() | 1 << 21
        assert seen("--cap-drop", "chown") == seen() & ~1

    def test_build(self, engine: Engine):
        context = engine.directory / "context"
        context.mkdir()
        (context / "Dockerfile").write_text(
            'FROM box\nRUN ["/bin/sh", "-c", "echo built > /result"]\n'
            "RUN test -s /result && id -u\nCMD cat /result\n"
        )
        engine("build", "--network", "none", "-t", "made", context, check=True)
        assert engine.out("run", "--rm", "made") == "built\n"

    def test_build_fails_with_the_command(self, engine: Engine):
        context = engine.directory / "broken"
        context.mkdir()
        (context / "Dockerfile").write_text("FROM box\nRUN exit 7\n")
        result = engine("build", "--network", "none", context)
        assert result.returncode != 0
        assert re.search("(status|code:) 7", result.stderr)

    def test_copy(self, engine: Engine, sleeper: str, volume: Path):
        engine("cp", volume / "file", f"{sleeper}:/tmp/copied", check=True)
        assert engine.out("exec", sleeper, "cat", "/tmp/copied") == "from the host\n"
