"""Podman as root, driving the runtime: what its users type, feature by feature."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from engine_room import (
    RUNTIME,
    need,
    runtime_path,
    started,
    wait_until,
)
from podman_engine import Podman, cgroups, leftovers_in_the_end
from same_commands import SameCommands, capabilities

if TYPE_CHECKING:
    from collections.abc import Iterator

STRESS = bool(os.environ.get("PYRUNC_STRESS"))


@pytest.fixture(scope="module")
def podman() -> Iterator[Podman]:
    need("podman", "conmon")
    before = cgroups()
    with started(Podman) as engine:
        yield engine
    wait_until(lambda: cgroups() <= before, what=f"removal of {cgroups() - before}")
    assert str(engine.directory) not in Path("/proc/self/mountinfo").read_text()


@pytest.fixture
def engine(podman: Podman) -> Podman:
    """For the tests that both engines share."""
    return podman


@pytest.fixture
def sleeper(podman: Podman) -> Iterator[str]:
    """A running container."""
    name = f"sleeper{time.monotonic_ns()}"
    podman("run", "-d", "--name", name, "box", "sleep", "1000", check=True)
    yield name
    podman("rm", "-f", "-t", "0", name)


class TestCommands(SameCommands):
    """As of every engine."""


def test_info_shows_the_runtime(podman: Podman):
    runtime = json.loads(podman.out("info", "--format", "json"))["host"]["ociRuntime"]
    assert runtime["path"] == runtime_path()
    assert RUNTIME in runtime["version"]


def test_exit_by_signal(podman: Podman, sleeper: str):
    podman("kill", "--signal", "KILL", sleeper, check=True)
    assert podman.out("wait", sleeper) == "137\n"


def test_init_that_was_set_up_but_not_started(podman: Podman):
    """`podman init` is the runtime's create alone."""
    podman("create", "--name", "waits", "box", "echo", "hello", check=True)
    podman("init", "waits", check=True)
    assert podman.inspect("waits", ".State.Status") == "initialized"
    assert podman.out("start", "-a", "waits") == "hello\n"
    podman("rm", "waits", check=True)


def test_exec(podman: Podman, sleeper: str):
    assert podman.out("exec", sleeper, "cat", "/proc/1/comm") == "sleep\n"
    assert podman.out("exec", "-i", sleeper, "cat", stdin="in\n") == "in\n"
    chosen = ["--user", "box", "--workdir", "/tmp", "-e", "A=b"]
    user = podman.out("exec", *chosen, sleeper, "sh", "-c", "id -u; pwd; echo $A")
    assert user == "1000\n/tmp\nb\n"
    assert podman("exec", sleeper, "sh", "-c", "exit 9").returncode == 9
    assert podman("exec", sleeper, "/no/such/program").returncode == 127
    assert podman("exec", sleeper, "/etc/passwd").returncode == 126


def test_stats(podman: Podman, sleeper: str):
    (shown,) = json.loads(podman.out("stats", "--no-stream", "--format", "json", sleeper))
    assert shown["name"] == sleeper
    assert int(shown["pids"]) == 1
    assert not shown["mem_usage"].startswith("0B")


def test_restart_policy(podman: Podman):
    podman("run", "--name", "again", "--restart", "on-failure:2", "box", "false")
    wait_until(lambda: podman.inspect("again", ".RestartCount") == "2")
    podman("rm", "-f", "-t", "0", "again")


def test_init_program(podman: Podman):
    if not shutil.which("catatonit"):
        pytest.skip("catatonit is not installed")
    path = shutil.which("catatonit")
    result = podman("run", "--rm", "--init", "--init-path", str(path), "box", "cat", "/proc/1/comm")
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() in ("catatonit", "podman-init")


def test_read_only(podman: Podman):
    script = "touch /x 2>/dev/null && echo rw; touch /tmp/x && echo tmp"
    assert podman.out("run", "--rm", "--read-only", "box", "sh", "-c", script) == "tmp\n"


def test_seccomp(podman: Podman, tmp_path: Path):
    def seen(*words: str) -> str:
        status = podman.out("run", "--rm", *words, "box", "cat", "/proc/self/status")
        return next(x for x in status.splitlines() if x.startswith("Seccomp:")).split()[1]

    assert seen() == "2"
    assert seen("--security-opt", "seccomp=unconfined") == "0"
    profile = podman.directory / "profile.json"
    rule = {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95}
    profile.write_text(json.dumps({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]}))
    result = podman(
        "run", "--rm", "--security-opt", f"seccomp={profile}", "box", "mkdir", "/tmp/made"
    )
    assert result.returncode == 1
    assert "not supported" in result.stderr


def test_memory_limit(podman: Podman):
    words = ["run", "--rm", "--memory", "64m", "box", "cat"]
    v1 = "/sys/fs/cgroup/memory/memory.limit_in_bytes"
    path = v1 if Path("/sys/fs/cgroup/memory").exists() else "/sys/fs/cgroup/memory.max"
    assert podman.out(*words, path).strip() == str(64 << 20)


@pytest.mark.skipif(RUNTIME != "pyrunc", reason="other runtimes need megabytes themselves")
def test_a_limit_of_512_kib_is_enough_for_true(podman: Podman):
    podman("run", "--rm", "--memory", "512k", "box", "true", check=True)


def test_out_of_memory_ends_it(podman: Podman):
    words = ["run", "--name", "big", "--memory", "16m", "--memory-swap", "16m", "box"]
    result = podman(*words, "dd", "if=/dev/zero", "of=/dev/null", "bs=64M", "count=1")
    # conmon, not the runtime, tells Podman of it; on this machine's v1 it does not with any.
    assert result.returncode == 137
    podman("rm", "big", check=True)


def test_cpu_and_pids_limits(podman: Podman):
    if not Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us").parent.exists():
        pytest.skip("no cgroup v1 here")
    files = ["cpu/cpu.cfs_quota_us", "cpu/cpu.shares", "pids/pids.max", "cpuset/cpuset.cpus"]
    limits = ["--cpus", "0.5", "--cpu-shares", "512", "--pids-limit", "33", "--cpuset-cpus", "0"]
    shown = podman.out(
        "run", "--rm", *limits, "box", "cat", *(f"/sys/fs/cgroup/{f}" for f in files)
    )
    assert shown.split() == ["50000", "512", "33", "0"]


def test_no_pids_limit(podman: Podman):
    """Podman before 5.4 writes a limit of 0, the specification being of 1.0."""
    assert podman.out("run", "--rm", "--pids-limit", "-1", "box", "sh", "-c", "true & wait; id -u")


def test_a_secret_in_a_read_only_container(podman: Podman):
    """Its mount point is missing in a directory that is bound read-only before."""
    podman("secret", "create", "word", "-", stdin="hidden\n", check=True)
    try:
        words = ["run", "--rm", "--read-only", "--secret", "word", "box"]
        assert podman.out(*words, "cat", "/run/secrets/word") == "hidden\n"
    finally:
        podman("secret", "rm", "word", check=True)


@pytest.mark.skipif(RUNTIME == "runc", reason="runc cannot do without cgroups")
def test_without_cgroups(podman: Podman):
    """Podman asks only a runtime that its configuration says can do so (engines.md)."""
    own = podman.out("run", "--rm", "--cgroups=disabled", "box", "cat", "/proc/self/cgroup")
    assert "/libpod-" not in own


def test_pids_limit_holds_a_fork_bomb(podman: Podman):
    words = ["run", "--rm", "--pids-limit", "20", "box", "sh", "-c"]
    result = podman(*words, "for i in $(seq 60); do sleep 1 & done; wait")
    assert "can't fork" in result.stderr or "Resource temporarily unavailable" in result.stderr


def test_ulimits(podman: Podman):
    # The second one keeps Podman from raising its own default, which a host may forbid.
    limits = ["--ulimit", "nofile=100:200", "--ulimit", "nproc=1024:2048"]
    words = ["run", "--rm", *limits, "box", "sh", "-c"]
    assert podman.out(*words, "ulimit -Sn; ulimit -Hn") == "100\n200\n"


@pytest.mark.parametrize(("mode", "shown"), [("rslave", "master:"), ("rprivate", " - ")])
def test_volume_propagation(podman: Podman, volume: Path, mode: str, shown: str):
    podman.room("mount", "--bind", volume, volume, check=True)
    podman.room("mount", "--make-shared", volume, check=True)
    try:
        words = [
            "run",
            "--rm",
            "-v",
            f"{volume}:/v:{mode}",
            "box",
            "grep",
            " /v ",
            "/proc/self/mountinfo",
        ]
        line = podman.out(*words)
        assert shown in line
        assert ("master:" in line) == (mode == "rslave")
    finally:
        podman.room("umount", volume, check=True)


def test_privileged(podman: Podman):
    shown = podman.out("run", "--rm", "--privileged", "box", "cat", "/proc/self/status")
    own = capabilities(Path("/proc/self/status").read_text())
    assert capabilities(shown) == own


def test_user_namespace(podman: Podman):
    words = ["run", "--rm", "--uidmap", "0:100000:1000", "--gidmap", "0:100000:1000", "box"]
    assert podman.out(*words, "cat", "/proc/self/uid_map").split() == ["0", "100000", "1000"]
    assert podman.out(*words, "id", "-u") == "0\n"


def test_hostname_and_dns(podman: Podman):
    words = ["run", "--rm", "--hostname", "named", "--add-host", "there:1.2.3.4", "box"]
    assert podman.out(*words, "hostname") == "named\n"
    assert "1.2.3.4" in podman.out(*words, "cat", "/etc/hosts")


def test_environment_and_working_directory(podman: Podman):
    words = ["run", "--rm", "-e", "KEY=value", "--workdir", "/var", "box", "sh", "-c"]
    assert podman.out(*words, "echo $KEY; pwd") == "value\n/var\n"


def test_pid_namespace_of_the_host(podman: Podman):
    init = podman.out("run", "--rm", "--pid", "host", "box", "cat", "/proc/1/comm")
    assert init == "tini\n"


def test_namespaces_of_another_container(podman: Podman, sleeper: str):
    shared = [f"--{kind}=container:{sleeper}" for kind in ("pid", "ipc", "network")]
    script = (
        "cat /proc/1/comm; "
        "for n in ipc net; do readlink /proc/1/ns/$n; readlink /proc/self/ns/$n; done"
    )
    words, links = podman.out("run", "--rm", *shared, "box", "sh", "-c", script).split("\n", 1)
    assert words == "sleep"
    ipc1, ipc2, net1, net2 = links.split()
    assert (ipc1, net1) == (ipc2, net2)


def test_network_of_the_host_and_none(podman: Podman):
    own = podman.room("readlink", "/proc/self/ns/net").stdout
    seen = ["box", "readlink", "/proc/self/ns/net"]
    assert podman.out("run", "--rm", "--network", "host", *seen) == own
    assert podman.out("run", "--rm", "--network", "none", *seen) != own


def test_bridge_network(podman: Podman):
    if not Path("/usr/lib/cni/bridge").exists() and not shutil.which("netavark"):
        pytest.skip("neither CNI plugins nor netavark are installed")
    result = podman("run", "--rm", "--network", "bridge", "box", "ip", "-o", "addr", "show", "eth0")
    if "netavark" in result.stderr or "iptables" in result.stderr:
        pytest.skip("no packet filter for bridges on this machine")
    assert " inet 10." in result.stdout, result.stderr


def test_pod(podman: Podman):
    created = podman(
        "pod", "create", "--name", "pea", "--infra-image", "box", "--infra-command", "sleep 1000",
        "--network", "none",
    )  # fmt: skip
    assert created.returncode == 0, created.stderr
    try:
        podman("run", "-d", "--pod", "pea", "--name", "first", "box", "sleep", "1000", check=True)
        assert podman.out(
            "run", "--rm", "--pod", "pea", "box", "readlink", "/proc/self/ns/ipc"
        ) == (podman.out("exec", "first", "readlink", "/proc/self/ns/ipc"))
        podman("pod", "pause", "pea", check=True)
        assert podman.inspect("first", ".State.Status") == "paused"
        podman("pod", "unpause", "pea", check=True)
    finally:
        podman("pod", "rm", "-f", "-t", "0", "pea", check=True)
        # Podman removes the pod's own cgroup only from the hierarchies that it knows.
        for left in Path("/sys/fs/cgroup").glob(f"*/libpod_parent/{created.stdout.strip()}"):
            left.rmdir()


def test_health_check(podman: Podman):
    words = ["run", "-d", "--name", "health", "--health-cmd", "test -e /tmp/well"]
    podman(*words, "--health-interval", "disable", "box", "sleep", "1000", check=True)
    assert podman("healthcheck", "run", "health").returncode == 1
    podman("exec", "health", "touch", "/tmp/well", check=True)
    assert podman("healthcheck", "run", "health").returncode == 0
    podman("rm", "-f", "-t", "0", "health", check=True)


def test_update(podman: Podman, sleeper: str):
    if "update" not in podman.out("--help"):
        pytest.skip("this podman has no update")
    podman("update", "--memory", "100m", "--cpus", "0.7", sleeper, check=True)
    v1 = Path("/sys/fs/cgroup/memory").exists()
    path = "memory/memory.limit_in_bytes" if v1 else "memory.max"
    shown = podman.out("exec", sleeper, "cat", f"/sys/fs/cgroup/{path}")
    assert shown.strip() == str(100 << 20)


def test_systemd_mode(podman: Podman):
    """An init inside gets its cgroup to write to, a /run of its own and $container."""
    script = (
        "echo $container; grep -c ' /run ' /proc/self/mountinfo; "
        "cd /sys/fs/cgroup/systemd && mkdir x && rmdir x && echo may"
    )
    result = podman("run", "--rm", "--systemd", "always", "box", "sh", "-c", script)
    if not Path("/sys/fs/cgroup/systemd").exists():
        pytest.skip("no named systemd hierarchy here")
    assert result.stdout.split() in (["podman", "1", "may"], ["oci", "1", "may"]), result.stderr


def test_events(podman: Podman):
    podman("run", "--rm", "--name", "seen", "box", "true", check=True)
    words = ["events", "--stream=false", "--filter", "container=seen", "--format", "{{.Status}}"]
    shown = podman.out(*words).split()
    assert [s for s in shown if s in ("create", "init", "start", "died", "remove")] == [
        "create", "init", "start", "died", "remove",
    ]  # fmt: skip


def test_runtime_given_by_path_alone(podman: Podman):
    """Without any configuration but what this machine needs."""
    bare = {k: v for k, v in podman.room.environment.items() if not k.startswith("CONTAINERS")}
    storage = ["--root", f"{podman.directory}/graph", "--runroot", "/run/containers/storage"]
    words = ["podman", *storage, "--cgroup-manager", "cgroupfs", "--runtime", runtime_path(), "run"]
    limits = ["--ulimit", "nofile=1024:2048", "--ulimit", "nproc=1024:2048"]
    command = podman.room.command(*words, "--rm", *limits, "box", "echo", "hello")
    done = subprocess.run(command, env=bare, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "hello\n"), done.stderr


def test_many_in_a_row_leave_nothing(podman: Podman):
    before = cgroups()
    for _ in range(200 if STRESS else 15):
        podman("run", "--rm", "box", "true", check=True)
    assert leftovers_in_the_end(podman, before) == []


def test_many_at_once_leave_nothing(podman: Podman):
    before = cgroups()
    count = 50 if STRESS else 10
    with ThreadPoolExecutor(count) as pool:
        run = ["run", "--rm", "--network", "none", "box", "true"]
        codes = list(pool.map(lambda _: podman(*run, timeout=600).returncode, range(count)))
    assert codes == [0] * count
    assert leftovers_in_the_end(podman, before) == []
