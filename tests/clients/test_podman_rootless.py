"""Podman of an ordinary user, with subordinate ids from newuidmap(1)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from engine_room import CONTAINERS_CONF, Room, need, root_archive, runtime_path, started
from same_commands import Engine

from public_command import installation

if TYPE_CHECKING:
    from collections.abc import Iterator

USER, UID = "pyrunc-tester", 48611
#: Files that make the user known, in the room alone.
KNOWN = {
    "passwd": f"{USER}:x:{UID}:{UID}::{{home}}:/bin/sh\n",
    "group": f"{USER}:x:{UID}:\n",
    "subuid": f"{USER}:600000:65536\n",
    "subgid": f"{USER}:600000:65536\n",
}


class Podman(Engine):
    """The user's command, with an image ``box``."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.chmod(0o755)
        home = directory / "home"
        home.mkdir()
        runtime_directory = f"/run/user/{UID}"
        environment = {
            "HOME": str(home),
            "XDG_RUNTIME_DIR": runtime_directory,
            "CONTAINERS_CONF": str(directory / "containers.conf"),
        }
        self.runtime = str(reachable_runtime(directory))
        configuration = CONTAINERS_CONF.format(runtime=self.runtime)
        # The network of an ordinary user's containers takes /dev/net/tun, which a host may deny.
        configuration = configuration.replace("[containers]", '[containers]\nnetns = "none"')
        (directory / "containers.conf").write_text(configuration)
        self.home = home
        self.room = Room(directory, environment)
        for name, line in KNOWN.items():
            path = Path("/etc", name)
            changed = directory / name
            changed.write_text(path.read_text() + line.format(home=home))
            self.room("mount", "--bind", changed, path, check=True)
        self.room("mkdir", "-p", runtime_directory, check=True)
        archive = root_archive(directory)
        self.room("chown", f"{UID}:{UID}", runtime_directory, home, archive, check=True)
        imported = self("import", archive, "box")
        if imported.returncode != 0:
            self.room.close()
            pytest.skip(f"no rootless Podman on this machine: {imported.stderr.strip()[-300:]}")

    def __call__(
        self, *words: str | Path, stdin: str = "", check: bool = False, timeout: float = 120
    ) -> subprocess.CompletedProcess[str]:
        user = ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups"]
        command = [*user, "sh", "-c", 'cd && exec "$@"', "-", "podman", *words]
        return self.room(*command, stdin=stdin, check=check, timeout=timeout)

    def close(self) -> None:
        self("rm", "-fa", "-t", "0")
        self.room.close()


@pytest.fixture(scope="module")
def podman() -> Iterator[Podman]:
    need("podman", "conmon", "newuidmap", "setpriv")
    for name in KNOWN:
        if not Path("/etc", name).exists():
            pytest.skip(f"/etc/{name} is not there (package uidmap)")
    with started(Podman) as engine:
        yield engine


def reachable_runtime(directory: Path) -> Path:
    """Return the runtime, or a copy where the tests' environment lies below a closed directory."""
    runtime = Path(runtime_path())
    if not reachable(runtime) and runtime.parent == Path(sys.executable).parent:
        runtime = installation(runtime, directory / "top") / "bin/pyrunc"
    if not reachable(runtime):
        pytest.skip("the runtime lies where an ordinary user cannot reach it")
    return runtime


def reachable(path: Path) -> bool:
    """Tell whether anybody may get to the file."""
    return all(parent.stat().st_mode & 0o001 for parent in path.resolve().parents)


def test_info_shows_the_runtime(podman: Podman):
    info = json.loads(podman.out("info", "--format", "json"))["host"]
    assert info["security"]["rootless"] is True
    assert info["ociRuntime"]["path"] == podman.runtime


@pytest.mark.parametrize("code", [0, 3, 127])
def test_exit_code(podman: Podman, code: int):
    assert podman("run", "--rm", "box", "sh", "-c", f"exit {code}").returncode == code


def test_missing_program_is_127(podman: Podman):
    assert podman("run", "--rm", "box", "/no/such/program").returncode == 127


def test_identity(podman: Podman):
    script = "id -u; cat /proc/self/uid_map"
    words = podman.out("run", "--rm", "--network", "none", "box", "sh", "-c", script).split()
    assert words[0] == "0"
    assert words[1:4] == ["0", str(UID), "1"]
    assert words[4:] == ["1", "600000", "65536"]


def test_another_user_inside(podman: Podman):
    assert podman.out("run", "--rm", "--user", "box", "box", "id", "-u") == "1000\n"


def test_keep_id(podman: Podman):
    assert podman.out("run", "--rm", "--userns", "keep-id", "box", "id", "-u") == f"{UID}\n"


def test_volume(podman: Podman):
    (podman.home / "file").write_text("mine\n")
    shown = podman.out("run", "--rm", "-v", f"{podman.home}:/v", "box", "sh", "-c",
                       "cat /v/file; touch /v/new")  # fmt: skip
    assert shown == "mine\n"
    assert (podman.home / "new").stat().st_uid == UID


def test_exec_logs_and_kill(podman: Podman):
    podman.out("run", "-d", "--name", "bg", "box", "sh", "-c", "echo started; sleep 1000")
    assert podman.out("exec", "bg", "cat", "/proc/1/comm") == "sleep\n"
    assert podman("exec", "bg", "sh", "-c", "exit 9").returncode == 9
    assert podman.out("logs", "bg") == "started\n"
    podman.out("kill", "bg")
    assert podman.out("wait", "bg") == "137\n"
    podman.out("rm", "bg")


def test_seccomp_and_capabilities(podman: Podman):
    status = podman.out("run", "--rm", "--cap-drop", "all", "box", "cat", "/proc/self/status")
    fields = dict(line.split(":", 1) for line in status.splitlines())
    assert fields["Seccomp"].strip() == "2"
    assert int(fields["CapEff"], 16) == 0


def test_build(podman: Podman):
    context = podman.home / "context"
    context.mkdir()
    (context / "Containerfile").write_text("FROM box\nRUN id -u > /who\nCMD cat /who\n")
    os.chown(context, UID, UID)
    podman.out("build", "--network", "none", "-t", "made", context)
    assert podman.out("run", "--rm", "made") == "0\n"
