"""dockerd and Docker's command on the runtime: what their users type, feature by feature."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from engine_room import RUNTIME, Room, need, root_archive, runtime_path, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Another `docker` may come first in PATH: the one of the package speaks the daemon's version.
CLI = "/usr/bin/docker" if os.path.exists("/usr/bin/docker") else "docker"
#: Every container's cgroup lies below this one, in every hierarchy.
PARENT = f"pyrunc-docker-{os.getpid()}"


class Docker:
    """The command, with a daemon in a room of its own and an image ``box``."""

    def __init__(self, directory: Path, *options: str, **settings: object) -> None:
        self.directory = directory
        self.room = Room(
            directory,
            {"DOCKER_HOST": f"unix://{directory}/docker.sock", "DOCKER_BUILDKIT": "0"},
        )
        runtimes = {"tested": {"path": runtime_path()}}
        (directory / "daemon.json").write_text(
            json.dumps({"runtimes": runtimes, "default-runtime": "tested"} | settings)
        )
        self.options = list(options)
        if self.room("ip", "link", "add", "probe", "type", "bridge").returncode != 0:
            self.options += ["--bridge", "none"]
        self.room("ip", "link", "delete", "probe")
        self.log = directory / "dockerd.log"
        try:
            self.start()
            self.out("import", root_archive(directory), "box")
        except BaseException:
            self.room.close()
            raise

    def start(self) -> None:
        """Start the daemon and wait until it answers."""
        here = self.directory
        self.daemon = self.room.start(
            *("dockerd", "--config-file", here / "daemon.json", "--pidfile", here / "docker.pid"),
            *("--data-root", here / "data", "--exec-root", here / "exec"),
            *("--host", self.room.environment["DOCKER_HOST"], "--cgroup-parent", f"/{PARENT}"),
            *("--oom-score-adjust", "0", "--iptables=false", "--ip6tables=false"),
            *self.options,
            log=self.log,
        )

        def answers() -> bool:
            assert self.daemon.poll() is None, self.log.read_text()[-2000:]
            return self("version").returncode == 0

        wait_until(answers, what="an answer of dockerd")

    def __call__(
        self, *words: str | Path, stdin: str = "", check: bool = False, timeout: float = 60
    ) -> subprocess.CompletedProcess[str]:
        return self.room(CLI, *words, stdin=stdin, check=check, timeout=timeout)

    def out(self, *words: str | Path, stdin: str = "") -> str:
        """Return what a command that has to succeed prints."""
        return self(*words, stdin=stdin, check=True).stdout

    def run(self, *words: str | Path) -> str:
        """Return what a container prints that has to succeed."""
        return self.out("run", "--rm", *words)

    def inspect(self, name: str, what: str) -> str:
        return self.out("inspect", "--format", "{{" + what + "}}", name).strip()

    def close(self) -> None:
        """End all: first the containers, then the daemon as its init system would."""
        containers = self.out("ps", "-aq").split()
        if containers:
            self.out("rm", "-f", *containers)
        self.room("sh", "-c", f"kill $(cat {self.directory}/docker.pid)")
        self.daemon.wait(20)
        self.room.close()


@pytest.fixture(scope="module")
def docker() -> Iterator[Docker]:
    need("dockerd", "containerd", CLI)
    directory = Path(tempfile.mkdtemp(prefix="pyrunc-docker-", dir="/var/tmp"))
    engine = Docker(directory)
    try:
        yield engine
        engine.close()
        assert cgroups() == []
        assert str(directory) not in Path("/proc/self/mountinfo").read_text()
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        for parent in Path("/sys/fs/cgroup").glob(f"**/{PARENT}"):
            parent.rmdir()


def cgroups() -> list[Path]:
    """Return the cgroups of all containers."""
    return [p for p in Path("/sys/fs/cgroup").glob(f"**/{PARENT}/*") if p.is_dir()]


@pytest.fixture
def sleeper(docker: Docker) -> Iterator[str]:
    """A running container."""
    name = f"sleeper{time.monotonic_ns()}"
    docker.out("run", "-d", "--name", name, "box", "sleep", "1000")
    yield name
    docker("rm", "-f", name)


def test_info_shows_the_runtime(docker: Docker):
    info = json.loads(docker.out("info", "--format", "{{json .}}"))
    assert info["DefaultRuntime"] == "tested"
    assert info["Runtimes"]["tested"]["path"] == runtime_path()
    assert RUNTIME in docker.room(runtime_path(), "--version").stdout


@pytest.mark.parametrize("code", [0, 3, 125, 126, 127, 255])
def test_exit_code(docker: Docker, code: int):
    assert docker("run", "--rm", "box", "sh", "-c", f"exit {code}").returncode == code


def test_exit_by_signal(docker: Docker, sleeper: str):
    docker.out("kill", sleeper)
    assert docker.out("wait", sleeper) == "137\n"
    assert docker.inspect(sleeper, ".State.ExitCode") == "137"


def test_missing_program_is_127(docker: Docker):
    result = docker("run", "--rm", "box", "/no/such/program")
    assert result.returncode == 127
    assert "no such file or directory" in result.stderr.lower()


def test_missing_program_of_the_path_is_127(docker: Docker):
    result = docker("run", "--rm", "box", "no-such-program")
    assert result.returncode == 127
    assert "executable file not found in $path" in result.stderr.lower()


def test_program_that_cannot_be_executed_is_126(docker: Docker):
    result = docker("run", "--rm", "box", "/etc/passwd")
    assert result.returncode == 126
    assert "permission denied" in result.stderr.lower()


def test_unknown_option_is_125(docker: Docker):
    assert docker("run", "--rm", "--no-such-option", "box", "true").returncode == 125


def test_output_and_input(docker: Docker):
    result = docker("run", "--rm", "-i", "box", "sh", "-c", "cat; echo bad >&2", stdin="good\n")
    assert (result.stdout, result.stderr) == ("good\n", "bad\n")


def test_logs_and_wait(docker: Docker):
    docker.out("run", "-d", "--name", "logs", "box", "sh", "-c", "echo one; echo two >&2; exit 4")
    assert docker.out("wait", "logs") == "4\n"
    result = docker("logs", "logs")
    assert (result.stdout, result.stderr) == ("one\n", "two\n")
    docker.out("rm", "logs")
