"""Docker's daemon, driving the runtime through containerd's shim: feature by feature."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from engine_room import Room, need, root_archive, runtime_path, started, wait_until
from same_commands import Engine, SameCommands, capabilities

import pyrunc

if TYPE_CHECKING:
    from collections.abc import Iterator

ON_V1 = Path("/sys/fs/cgroup/memory").exists()


class Docker(Engine):
    """A daemon in a room of its own, with an image ``box``, and its command."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        # Sockets lie in the room's own /run: their paths must be short.
        socket = "unix:///run/docker.sock"
        self.room = Room(directory, {"DOCKER_HOST": socket, "DOCKER_BUILDKIT": "0"})
        # A newer docker in /usr/local may not speak to the distribution's daemon.
        self.program = "/usr/bin/docker" if Path("/usr/bin/docker").exists() else "docker"
        configuration = directory / "daemon.json"
        configuration.write_text(
            json.dumps(
                {
                    "runtimes": {"tested": {"path": runtime_path()}},
                    "default-runtime": "tested",
                    "data-root": f"{directory}/data",
                    "exec-root": "/run/docker",
                    "pidfile": "/run/docker.pid",
                    "hosts": [socket],
                    "bridge": "none",
                    "iptables": False,
                    "exec-opts": ["native.cgroupdriver=cgroupfs"],
                }
            )
        )
        log = directory / "dockerd.log"
        words: list[str | Path] = ["dockerd", "--config-file", configuration]
        if "--oom-score-adjust" in subprocess.check_output(["dockerd", "--help"], text=True):
            # Docker before 24 makes itself hard to kill otherwise, which not every root may.
            words += ["--oom-score-adjust", "0"]
        self.daemon = self.room.start(*words, log=log)
        try:
            wait_until(lambda: self("version").returncode == 0, 60, f"dockerd ({log})")
            self("import", root_archive(directory), "box", check=True)
        except BaseException:
            print(log.read_text()[-3000:])
            self.close()
            raise

    def close(self) -> None:
        containers = self("ps", "-aq").stdout.split()
        if containers:
            self("rm", "-f", *containers)
        self.daemon.terminate()
        self.daemon.wait(30)
        self.room.close()


@pytest.fixture(scope="module")
def docker() -> Iterator[Docker]:
    need("dockerd", "docker", "containerd")
    with started(Docker) as engine:
        yield engine
    wait_until(lambda: not cgroups(), what="removal of all cgroups")


def cgroups() -> list[str]:
    """Return the cgroups of containers of Docker's."""
    return [str(path) for path in Path("/sys/fs/cgroup").glob("*/docker/*/")]


@pytest.fixture
def engine(docker: Docker) -> Docker:
    """For the tests that both engines share."""
    return docker


@pytest.fixture
def sleeper(docker: Docker) -> Iterator[str]:
    """A running container."""
    name = f"sleeper{time.monotonic_ns()}"
    docker("run", "-d", "--name", name, "box", "sleep", "1000", check=True)
    yield name
    docker("rm", "-f", name)


def limit(controller: str, v1: str, v2: str) -> str:
    """Return where a container sees one of its limits."""
    return f"/sys/fs/cgroup/{controller}/{v1}" if ON_V1 else f"/sys/fs/cgroup/{v2}"


class TestCommands(SameCommands):
    """As of every engine."""


def test_info_shows_the_runtime(docker: Docker):
    assert docker.out("info", "--format", "{{.DefaultRuntime}}") == "tested\n"
    runtimes = json.loads(docker.out("info", "--format", "{{json .Runtimes}}"))
    assert runtimes["tested"]["path"] == runtime_path()


def test_missing_command_is_127(docker: Docker):
    result = docker("run", "--rm", "box", "nosuchcommand")
    assert result.returncode == 127
    assert "executable file not found in $PATH" in result.stderr


def test_exec(docker: Docker, sleeper: str):
    assert docker.out("exec", sleeper, "cat", "/proc/1/comm") == "sleep\n"
    assert docker.out("exec", "-i", sleeper, "cat", stdin="in\n") == "in\n"
    chosen = ["--user", "box", "--workdir", "/tmp", "-e", "A=b"]
    seen = docker.out("exec", *chosen, sleeper, "sh", "-c", "id -u; pwd; echo $A $HOME")
    assert seen.startswith("1000\n/tmp\nb ")
    assert docker("exec", sleeper, "sh", "-c", "exit 9").returncode == 9
    missing = docker("exec", sleeper, "/no/such/program")
    assert missing.returncode in (126, 127)
    assert "no such file or directory" in missing.stdout + missing.stderr
    assert docker("exec", sleeper, "/etc/passwd").returncode == 126


def test_privileged_exec(docker: Docker, sleeper: str):
    if not capabilities(Path("/proc/self/status").read_text()) >> 24 & 1:
        pytest.skip("this machine's root lacks CAP_SYS_RESOURCE")
    words = ["exec", "--privileged", sleeper, "cat", "/proc/self/status"]
    assert capabilities(docker.out(*words)) >> 21 & 1


def test_stats(docker: Docker, sleeper: str):
    shown = json.loads(docker.out("stats", "--no-stream", "--format", "{{json .}}", sleeper))
    assert shown["Name"] == sleeper
    assert shown["PIDs"] == "1"
    assert not shown["MemUsage"].startswith("0B")


def test_update(docker: Docker, sleeper: str):
    words = ["--memory", "100m", "--memory-swap", "200m", "--cpus", "0.7", "--pids-limit", "55"]
    docker("update", *words, sleeper, check=True)
    paths = [
        limit("memory", "memory.limit_in_bytes", "memory.max"),
        limit("pids", *["pids.max"] * 2),
    ]
    assert docker.out("exec", sleeper, "cat", *paths).split() == [str(100 << 20), "55"]


def test_restart_policy(docker: Docker):
    docker("run", "-d", "--name", "again", "--restart", "on-failure:2", "box", "false", check=True)
    wait_until(lambda: docker.inspect("again", ".RestartCount") == "2")
    docker("rm", "-f", "again", check=True)


def test_init_program(docker: Docker):
    result = docker("run", "--rm", "--init", "box", "cat", "/proc/1/comm")
    if "docker-init" in result.stderr and "not found" in result.stderr:
        pytest.skip("docker-init is not installed")
    assert result.stdout.strip() in ("docker-init", "tini"), result.stderr


def test_read_only(docker: Docker):
    script = "touch /x 2>/dev/null && echo rw; touch /dev/shm/x && echo shm"
    assert docker.out("run", "--rm", "--read-only", "box", "sh", "-c", script) == "shm\n"


def test_seccomp(docker: Docker):
    def seen(*words: str) -> str:
        status = docker.out("run", "--rm", *words, "box", "cat", "/proc/self/status")
        return next(x for x in status.splitlines() if x.startswith("Seccomp:")).split()[1]

    assert seen() == "2"
    assert seen("--security-opt", "seccomp=unconfined") == "0"
    profile = docker.directory / "profile.json"
    rule = {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}
    profile.write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}))
    words = ["run", "--rm", "--security-opt", f"seccomp={profile}", "box", "mkdir", "/tmp/made"]
    result = docker(*words)
    assert result.returncode == 1
    assert "not permitted" in result.stderr


def test_memory_limit(docker: Docker):
    path = limit("memory", "memory.limit_in_bytes", "memory.max")
    assert docker.out("run", "--rm", "--memory", "6m", "box", "cat", path).strip() == str(6 << 20)


def test_out_of_memory_is_seen(docker: Docker):
    words = ["run", "--name", "big", "--memory", "16m", "--memory-swap", "16m", "box"]
    started = str(int(time.time()))
    result = docker(*words, "dd", "if=/dev/zero", "of=/dev/null", "bs=64M", "count=1")
    assert result.returncode == 137
    assert docker.inspect("big", ".State.OOMKilled") == "true"
    since = ["--since", started, "--until", str(int(time.time()) + 1)]
    events = docker.out("events", *since, "--filter", "container=big", "--format", "{{.Action}}")
    assert {"create", "start", "oom", "die"} <= set(events.split())
    docker("rm", "big", check=True)


@pytest.mark.skipif(not ON_V1, reason="no cgroup v1 here")
def test_cpu_and_pids_limits(docker: Docker):
    files = ["cpu/cpu.cfs_quota_us", "cpu/cpu.shares", "pids/pids.max", "cpuset/cpuset.cpus"]
    limits = ["--cpus", "0.5", "--cpu-shares", "512", "--pids-limit", "33", "--cpuset-cpus", "0"]
    words = ["run", "--rm", *limits, "box", "cat", *(f"/sys/fs/cgroup/{f}" for f in files)]
    assert docker.out(*words).split() == ["50000", "512", "33", "0"]


def test_ulimits(docker: Docker):
    words = ["run", "--rm", "--ulimit", "nofile=100:200", "box", "sh", "-c"]
    assert docker.out(*words, "ulimit -Sn; ulimit -Hn") == "100\n200\n"


def test_volume_as_slave(docker: Docker, volume: Path):
    docker.room("mount", "--bind", volume, volume, check=True)
    docker.room("mount", "--make-shared", volume, check=True)
    try:
        words = ["run", "--rm", "-v", f"{volume}:/v:rslave", "box"]
        assert "master:" in docker.out(*words, "grep", " /v ", "/proc/self/mountinfo")
    finally:
        docker.room("umount", volume, check=True)


def test_namespaces_of_the_host(docker: Docker):
    def own(kind: str) -> str:
        return docker.room("readlink", f"/proc/self/ns/{kind}").stdout

    for kind, flag in (("pid", "pid"), ("net", "network"), ("uts", "uts"), ("ipc", "ipc")):
        seen = docker.out(
            "run", "--rm", f"--{flag}", "host", "box", "readlink", f"/proc/self/ns/{kind}"
        )
        assert seen == own(kind)


def test_namespaces_of_another_container(docker: Docker):
    docker("run", "-d", "--name", "other", "--ipc", "shareable", "box", "sleep", "1000", check=True)
    shared = [f"--{kind}=container:other" for kind in ("pid", "ipc", "network")]
    script = (
        "cat /proc/1/comm; "
        "for n in ipc net; do readlink /proc/1/ns/$n; readlink /proc/self/ns/$n; done"
    )
    words, links = docker.out("run", "--rm", *shared, "box", "sh", "-c", script).split("\n", 1)
    docker("rm", "-f", "other", check=True)
    assert words == "sleep"
    ipc1, ipc2, net1, net2 = links.split()
    assert (ipc1, net1) == (ipc2, net2)


def test_hostname_environment_and_directory(docker: Docker):
    chosen = ["--hostname", "named", "-e", "KEY=value", "--workdir", "/new/place"]
    words = ["run", "--rm", *chosen, "box", "sh", "-c", "hostname; echo $KEY; pwd"]
    assert docker.out(*words) == "named\nvalue\n/new/place\n"


def test_health_check(docker: Docker):
    words = ["--health-cmd", "test -e /tmp/well", "--health-interval", "200ms"]
    docker("run", "-d", "--name", "health", *words, "box", "sleep", "1000", check=True)
    docker("exec", "health", "touch", "/tmp/well", check=True)
    wait_until(lambda: docker.inspect("health", ".State.Health.Status") == "healthy")
    docker("rm", "-f", "health", check=True)


LIBRARY = """
import pyrunc
words = ["sh", "-c", "cat; id -u; set -- /proc/[0-9]*; echo $#"]
print(pyrunc.run(words, input=b"in ", timeout=60, best_effort=True).stdout)
with pyrunc.Sandbox(best_effort=True) as box:
    box.write_file("/tmp/file", b"content")
    print(box.run(["cat", "/tmp/file"], timeout=60).stdout)
"""


@pytest.mark.parametrize("user", [0, 1000])
def test_the_library_inside_a_container(docker: Docker, user: int):
    """Docker's own filter allows no user namespaces, its masks no procfs of one's own."""
    python = Path(sys.executable).resolve()
    package = Path(pyrunc.__file__).parent
    if not python.is_relative_to("/usr"):
        pytest.skip("needs a Python in /usr")
    if not (package / "init/pyrunc-init").exists():
        pytest.skip("needs pyrunc's native parts in the sources (make dev)")
    # Not all of what is above the package may be everybody's to go through.
    library = docker.directory / "library"
    shutil.copytree(package, library / "pyrunc", dirs_exist_ok=True)
    options = ["--security-opt", "seccomp=unconfined", "--security-opt", "systempaths=unconfined"]
    for source, place in (("/usr", "/usr"), (library, "/library"), ("/usr/lib64", "/lib64")):
        options += ["-v", f"{source}:{place}:ro"]
    options += ["-v", "/usr/lib:/lib:ro", "-e", "PYTHONPATH=/library", "--tmpfs", "/tmp:mode=1777"]
    done = docker(
        "run", "--rm", "-u", f"{user}:{user}", *options, "box", str(python), "-c", LIBRARY
    )
    assert done.stdout.splitlines() == [r"b'in 0\n2\n'", "b'content'"], done.stderr


def test_many_in_a_row_and_at_once_leave_nothing(docker: Docker):
    stress = bool(os.environ.get("PYRUNC_STRESS"))
    before = docker.out("ps", "-aq")
    for _ in range(100 if stress else 10):
        docker("run", "--rm", "box", "true", check=True)
    count = 30 if stress else 8
    with ThreadPoolExecutor(count) as pool:
        runs = [pool.submit(docker, "run", "--rm", "box", "true") for _ in range(count)]
        assert [run.result().returncode for run in runs] == [0] * count
    assert docker.out("ps", "-aq") == before
    wait_until(lambda: not cgroups(), what="removal of all cgroups")
    assert "containerd-shim" not in docker.room("ps", "-eo", "comm").stdout
