"""containerd and its `ctr`, through the runc v2 shim."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pexpect
import pytest
from containerd_engine import IMAGE, Containerd
from engine_room import need, runtime_path, started, wait_until

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def containerd() -> Iterator[Containerd]:
    need("containerd", "ctr", "containerd-shim-runc-v2")
    with started(Containerd) as engine:
        yield engine
        tasks = engine.out("tasks", "ls", "-q")
        processes = engine.room("ps", "-eo", "comm").stdout
    assert tasks == ""
    assert "containerd-shim" not in processes
    assert not list(Path("/sys/fs/cgroup").glob("*/default/*/"))


_names = (f"c{os.getpid()}-{number}" for number in range(1_000_000))


def run(
    containerd: Containerd, *words: str, options: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    """`ctr run --rm` of a command in a new container."""
    runtime = ("--runc-binary", runtime_path())
    return containerd("run", "--rm", *runtime, *options, IMAGE, next(_names), *words)


@pytest.fixture
def sleeper(containerd: Containerd) -> Iterator[str]:
    """A running task."""
    name = f"sleeper{time.monotonic_ns()}"
    words = ["run", "-d", "--runc-binary", runtime_path(), IMAGE, name, "sleep", "1000"]
    containerd(*words, check=True)
    yield name
    containerd("tasks", "kill", "-s", "KILL", name)
    wait_until(lambda: status(containerd, name) in ("STOPPED", ""))
    containerd("tasks", "rm", name)
    containerd("containers", "rm", name, check=True)


def status(containerd: Containerd, name: str) -> str:
    lines = [line.split() for line in containerd.out("tasks", "ls").splitlines()[1:]]
    return next((line[2] for line in lines if line[0] == name), "")


@pytest.mark.parametrize("code", [0, 3, 127, 255])
def test_exit_code(containerd: Containerd, code: int):
    assert run(containerd, "sh", "-c", f"exit {code}").returncode == code


def test_output(containerd: Containerd):
    result = run(containerd, "sh", "-c", "echo good; echo bad >&2")
    assert (result.stdout, result.stderr) == ("good\n", "bad\n")


def test_missing_program(containerd: Containerd):
    result = run(containerd, "/no/such/program")
    assert result.returncode != 0
    assert "no such file or directory" in result.stderr


def test_environment_and_directory(containerd: Containerd):
    options = ("--env", "KEY=value", "--cwd", "/tmp")
    result = run(containerd, "sh", "-c", "pwd; echo $KEY", options=options)
    assert result.stdout == "/tmp\nvalue\n", result.stderr


def test_terminal(containerd: Containerd):
    words = ["ctr", "-a", containerd.socket, "run", "--rm", "-t", "--runc-binary", runtime_path()]
    command = containerd.room.command(*words, IMAGE, next(_names), "sh")
    child = pexpect.spawn(command[0], command[1:], env=containerd.room.environment, timeout=30)
    child.setwinsize(33, 101)
    child.expect("# ")
    child.sendline("tty; exit 5")
    child.expect("/dev/pts/")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 5


def test_tasks_list_and_ps(containerd: Containerd, sleeper: str):
    assert status(containerd, sleeper) == "RUNNING"
    pids = [line.split()[0] for line in containerd.out("tasks", "ps", sleeper).splitlines()[1:]]
    assert len(pids) == 1
    assert containerd.room("cat", f"/proc/{pids[0]}/comm").stdout == "sleep\n"


def test_exec(containerd: Containerd, sleeper: str):
    words = ["tasks", "exec", "--exec-id", next(_names), sleeper]
    assert containerd.out(*words, "cat", "/proc/1/comm") == "sleep\n"
    assert containerd(*words, "sh", "-c", "exit 9").returncode == 9
    missing = containerd(*words, "/no/such/program")
    assert missing.returncode != 0
    assert "no such file or directory" in missing.stderr


def test_metrics(containerd: Containerd, sleeper: str):
    shown = json.loads(containerd.out("tasks", "metrics", "--format", "json", sleeper))
    pids = shown.get("pids", {})
    assert int(pids.get("current", 0)) == 1


def test_pause_and_resume(containerd: Containerd, sleeper: str):
    containerd("tasks", "pause", sleeper, check=True)
    assert status(containerd, sleeper) == "PAUSED"
    containerd("tasks", "resume", sleeper, check=True)
    assert status(containerd, sleeper) == "RUNNING"


def test_kill(containerd: Containerd):
    name = next(_names)
    script = "trap 'exit 6' USR1; touch /tmp/ready; while :; do sleep 0.05; done"
    words = ["run", "-d", "--runc-binary", runtime_path(), IMAGE, name, "sh", "-c", script]
    containerd(*words, check=True)
    ready = ["tasks", "exec", "--exec-id", "ready", name, "test", "-e", "/tmp/ready"]
    wait_until(lambda: containerd(*ready).returncode == 0)
    containerd("tasks", "kill", "-s", "USR1", name, check=True)
    wait_until(lambda: status(containerd, name) == "STOPPED")
    deleted = containerd("tasks", "rm", name)
    assert deleted.returncode == 6 or "exit code 6" in deleted.stderr, deleted
    containerd("containers", "rm", name, check=True)


def test_memory_limit(containerd: Containerd):
    """ctr's config mounts no cgroups: the container says where its own is."""
    name = next(_names)
    words = ["run", "-d", "--runc-binary", runtime_path(), "--memory-limit", str(8 << 20)]
    containerd(*words, IMAGE, name, "sleep", "1000", check=True)
    on_v1 = Path("/sys/fs/cgroup/memory").exists()
    limit = "memory/default/{}/memory.limit_in_bytes" if on_v1 else "default/{}/memory.max"
    assert Path("/sys/fs/cgroup", limit.format(name)).read_text().strip() == str(8 << 20)
    containerd("tasks", "kill", "-s", "KILL", name, check=True)
    wait_until(lambda: status(containerd, name) == "STOPPED")
    containerd("tasks", "rm", name)
    containerd("containers", "rm", name, check=True)


def test_out_of_memory_is_announced(containerd: Containerd):
    log = containerd.directory / "events"
    watcher = containerd.room.start("ctr", "-a", containerd.socket, "events", log=log)
    try:
        time.sleep(0.5)
        options = ("--memory-limit", str(16 << 20))
        script = "dd if=/dev/zero of=/dev/null bs=64M count=1; sleep 1"
        run(containerd, "sh", "-c", script, options=options)
        wait_until(lambda: "/tasks/oom" in log.read_text(), what=f"an oom event in {log}")
    finally:
        watcher.kill()
        watcher.wait()


def test_read_only_root_and_mounts(containerd: Containerd):
    source = containerd.directory / "source"
    source.mkdir()
    (source / "file").write_text("content\n")
    mount = f"type=bind,src={source},dst=/m,options=rbind:ro"
    result = run(
        containerd, "sh", "-c", "cat /m/file; touch /m/x || touch /x || echo sealed",
        options=("--read-only", "--mount", mount),
    )  # fmt: skip
    assert result.stdout == "content\nsealed\n"


def test_privileged_and_capabilities(containerd: Containerd):
    def seen(*options: str) -> int:
        text = run(containerd, "cat", "/proc/self/status", options=options).stdout
        return int(next(x for x in text.splitlines() if x.startswith("CapEff")).split()[1], 16)

    assert seen("--cap-add", "CAP_NET_ADMIN") == seen() | 1 << 12
    assert seen("--cap-drop", "CAP_CHOWN") == seen() & ~1


def test_seccomp(containerd: Containerd):
    result = run(containerd, "grep", "Seccomp:", "/proc/self/status", options=("--seccomp",))
    assert result.stdout.split() == ["Seccomp:", "2"], result.stderr


def test_root_file_system_of_a_directory(containerd: Containerd):
    root = containerd.directory / "image-rootfs"
    words = ["run", "--rm", "--runc-binary", runtime_path(), "--env", "PATH=/bin"]
    words += ["--rootfs", root, next(_names)]
    assert containerd.out(*words, "echo", "hello") == "hello\n"


def test_many_in_a_row(containerd: Containerd):
    for _ in range(10):
        assert run(containerd, "true").returncode == 0
