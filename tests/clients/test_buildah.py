"""Buildah: commands of a build run by the runtime."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from engine_room import Room, need, root_archive, runtime_path, started

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator

LIMITS = ["--ulimit", "nofile=1024:2048", "--ulimit", "nproc=1024:2048"]


class Buildah:
    """The command in a room of its own, with a working container ``work``."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.room = Room(directory, {"BUILDAH_ISOLATION": "oci"})
        self.options = ["--root", f"{directory}/graph", "--runroot", "/run/storage"]
        self.room("tar", "-C", directory, "-cf", directory / "empty.tar", "-T", "/dev/null")
        self("from", "--name", "work", *LIMITS, "scratch", check=True)
        self("add", "work", root_archive(directory), "/", check=True)
        self("config", "--env", "PATH=/bin", "--shell", "/bin/sh -c", "work", check=True)
        self("commit", "work", "box", check=True)

    def __call__(
        self, command: str, *words: str | Path, check: bool = False
    ) -> subprocess.CompletedProcess[str]:
        return self.room("buildah", *self.options, command, *words, check=check)

    def close(self) -> None:
        self("rm", "-a")
        self.room.close()

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the working container."""
        options = ["--runtime", runtime_path(), "--network", "none"]
        return self("run", *options, "work", "--", *words)


@pytest.fixture(scope="module")
def buildah() -> Iterator[Buildah]:
    need("buildah")
    with started(Buildah) as engine:
        yield engine
    left = [str(p) for p in Path("/sys/fs/cgroup").glob("*/buildah-*/")]
    assert left == []


def test_run(buildah: Buildah):
    result = buildah.run("sh", "-c", "echo out; echo err >&2; id -u")
    assert (result.stdout, result.stderr) == ("out\n0\n", "err\n")


def test_exit_code(buildah: Buildah):
    result = buildah.run("sh", "-c", "exit 7")
    assert result.returncode == 7 or "exit status 7" in result.stderr


def test_missing_program(buildah: Buildah):
    result = buildah.run("/no/such/program")
    assert result.returncode != 0
    assert "no such file or directory" in result.stderr.lower()


def test_what_is_written_stays(buildah: Buildah):
    buildah.run("sh", "-c", "echo kept > /file")
    assert buildah.run("cat", "/file").stdout == "kept\n"


def test_options_of_run(buildah: Buildah):
    options = ["--runtime", runtime_path(), "--network", "none", "--user", "box"]
    options += ["--workingdir", "/tmp", "--env", "KEY=value", "--cap-drop", "CAP_CHOWN"]
    script = "id -u; pwd; echo $KEY"
    result = buildah("run", *options, "work", "--", "sh", "-c", script)
    assert result.stdout == "1000\n/tmp\nvalue\n", result.stderr


def test_volume(buildah: Buildah):
    source = buildah.directory / "volume"
    source.mkdir()
    (source / "file").write_text("from the host\n")
    options = ["--runtime", runtime_path(), "--network", "none", "-v", f"{source}:/v:ro"]
    result = buildah("run", *options, "work", "--", "sh", "-c", "cat /v/file; touch /v/x")
    assert result.stdout == "from the host\n"
    assert "Read-only file system" in result.stderr


def build(buildah: Buildah, name: str, text: str) -> subprocess.CompletedProcess[str]:
    context = buildah.directory / name
    context.mkdir()
    (context / "Containerfile").write_text(text)
    options = ["--runtime", runtime_path(), "--network", "none", *LIMITS, "-t", name]
    return buildah("build", *options, context)


def test_build(buildah: Buildah):
    result = build(
        buildah,
        "made",
        "FROM box\nENV GREETING=hello\nRUN echo $GREETING > /result && id -u >> /result\n"
        "USER box\nRUN test $(id -u) = 1000 && cat /result\n",
    )
    assert result.returncode == 0, result.stderr
    assert "hello\n0\n" in result.stdout


def test_build_fails_with_the_command(buildah: Buildah):
    result = build(buildah, "broken", "FROM box\nRUN exit 7\n")
    assert result.returncode != 0
    assert "exit status 7" in result.stderr
