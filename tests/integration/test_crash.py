"""A runtime that is killed or interrupted in the middle: what must be gone, what is removable."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from cgroup_tree import cgroups_named


def processes_in(rootfs):
    """Pids of the processes that have a file system of the container as root, or its init."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                root = os.readlink(process / "root")
                same = os.path.samefile(process / "root", rootfs)
            except OSError:
                continue
            if same or root == str(rootfs):
                found.append(int(process.name))
    return found


def descendants_of(group):
    """Pids of the session that are alive."""
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                fields = (process / "stat").read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            if int(fields[3]) == group and fields[0] not in "ZX":
                found.append(int(process.name))
    return found


def wait_until_empty(look, seconds=5):
    end = time.monotonic() + seconds
    while left := look():
        if time.monotonic() > end:
            return left
        time.sleep(0.005)
    return []


class Create:
    """A `create` in a session of its own, so that all that came of it can be found."""

    def __init__(self, pyrunc, bundle, log, prefix=()):
        bundle.save()
        self.id = pyrunc.new_id()
        self.rootfs = bundle.rootfs
        words = [*prefix, *pyrunc.command, "create", "--bundle", str(bundle.path), self.id]
        self.process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )

    def alive(self):
        """What is left of it: the builder (still in the session) or a container's init."""
        return sorted({*descendants_of(self.process.pid), *processes_in(self.rootfs)})


def seconds_of_a_create(pyrunc, bundle, log):
    before = time.monotonic()
    create = Create(pyrunc, bundle, log)
    create.process.wait()
    whole = time.monotonic() - before
    assert pyrunc("delete", create.id).code == 0
    return whole


def assert_only_a_record_is_left(pyrunc, create):
    """After SIGKILL nothing runs unless create was complete; delete --force removes the rest."""
    told = pyrunc("state", create.id)
    is_created = told.code == 0 and json.loads(told.stdout)["status"] == "created"
    started = pyrunc("start", create.id) if is_created else None
    if started is None or started.code != 0:
        # Killed between the record and init's leave to outlive the runtime: init was still ending.
        assert wait_until_empty(create.alive) == []
    deleted = pyrunc("delete", "--force", create.id)
    assert (deleted.code, deleted.stderr) == (0, "")
    assert wait_until_empty(create.alive) == []
    assert cgroups_named(create.id) == []
    assert not Path(pyrunc.directory, "pyrunc-state", create.id).exists()


def test_kill_9_at_random_moments(make_bundle, pyrunc, tmp_path):
    """Without the handshake after "ready" (or with the pipes open in the builder) inits live on."""
    bundle = make_bundle(args=["sleep", "1000"])
    with (tmp_path / "log").open("w") as log:
        whole = seconds_of_a_create(pyrunc, bundle, log)
        generator = random.Random(1)
        for _ in range(30):
            create = Create(pyrunc, bundle, log)
            time.sleep(generator.uniform(whole / 3, whole))
            create.process.kill()
            create.process.wait()
            assert_only_a_record_is_left(pyrunc, create)


@pytest.mark.skipif(not shutil.which("strace"), reason="needs strace")
@pytest.mark.parametrize(
    ("call", "times"),
    [
        ("mkdir", range(1, 12, 3)), ("mkdirat", (1, 2)), ("clone3", (1,)), ("flock", (1,)),
        ("rename", (1, 2)), ("renameat", (1, 2, 3)), ("write", range(1, 50, 4)), ("pipe2", (1, 2)),
        ("pidfd_send_signal", (1,)), ("mknodat", (1, 2)), ("unlinkat", (1,)),
    ],
)  # fmt: skip
def test_kill_9_at_this_call_of_the_runtime(make_bundle, pyrunc, tmp_path, call, times):
    bundle = make_bundle(args=["sleep", "1000"])
    with (tmp_path / "log").open("w") as log:
        for time_ in times:
            inject = f"inject={call}:signal=KILL:when={time_}"
            prefix = ["strace", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e", inject]
            create = Create(pyrunc, bundle, log, prefix)
            create.process.wait()
            assert_only_a_record_is_left(pyrunc, create)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_an_interrupted_create_leaves_nothing(make_bundle, pyrunc, tmp_path, number):
    """Without the handlers of `Interrupts` directories, cgroups and records are left."""
    bundle = make_bundle(args=["sleep", "1000"])
    with (tmp_path / "log").open("w") as log:
        whole = seconds_of_a_create(pyrunc, bundle, log)
        generator = random.Random(number)
        for _ in range(12):
            create = Create(pyrunc, bundle, log)
            time.sleep(generator.uniform(whole / 3, whole))
            create.process.send_signal(number)
            if create.process.wait() == 0:
                assert pyrunc("delete", create.id).code == 0
            assert wait_until_empty(create.alive) == []
            assert cgroups_named(create.id) == []
            assert not Path(pyrunc.directory, "pyrunc-state", create.id).exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("kind", ["createRuntime", "createContainer"])
def test_interrupted_in_a_hook(make_bundle, pyrunc, tmp_path, number, kind):
    bundle = make_bundle()
    out = tmp_path / "poststop"
    bundle.config["hooks"] = {
        kind: [{"path": "/bin/sleep", "args": ["sleep", "1000"]}],
        "poststop": [{"path": "/bin/sh", "args": ["sh", "-c", f"cat > {out}"]}],
    }
    with (tmp_path / "log").open("w+") as log:
        create = Create(pyrunc, bundle, log)
        end = time.monotonic() + 10
        while not any("sleep" in _command(pid) for pid in create.alive()):
            assert time.monotonic() < end
            time.sleep(0.01)
        create.process.send_signal(number)
        assert create.process.wait(10) == 1
        log.seek(0)
        assert f"interrupted by {signal.Signals(number).name}" in log.read()
    assert wait_until_empty(create.alive) == []
    assert cgroups_named(create.id) == []
    assert json.loads(out.read_text())["status"] == "stopped"
    assert pyrunc("state", create.id).code == 1


def _command(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def test_ignored_signals_stay_ignored(make_bundle, pyrunc, tmp_path):
    """`nohup` must work, and the container must not inherit it."""
    bundle = make_bundle(args=["grep", "SigIgn", "/proc/self/status"])
    bundle.save()
    words = [*pyrunc.command, "run", "--bundle", str(bundle.path), pyrunc.new_id()]
    done = subprocess.run(
        ["sh", "-c", 'trap "" HUP INT TERM; exec "$@"', "sh", *words],
        capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0
    assert done.stdout.split()[-1] == "0" * 16


def test_a_start_that_was_killed_can_be_told_from_one_that_was_not(make_bundle, pyrunc, tmp_path):
    """Killed right after it let init go: the fifo's name is left, but nobody waits any more."""
    if not shutil.which("strace"):
        pytest.skip("needs strace")
    container = pyrunc.create(make_bundle(args=["sleep", "1000"]))
    inject = "inject=unlinkat,unlink:signal=KILL:when=1"
    subprocess.run(
        ["strace", "-qq", "-o", "/dev/null", "-e", "trace=unlinkat,unlink", "-e", inject,
         *pyrunc.command, "start", container.id],
        stdin=subprocess.DEVNULL, check=False,
    )  # fmt: skip
    pyrunc.wait(container, "running")
    assert "already running" in pyrunc("start", container.id).stderr


def test_the_cgroup_of_a_failed_create_is_gone(make_bundle, pyrunc):
    bundle = make_bundle()
    bundle.bind("/nonexistent", "/mnt")
    container = pyrunc.create(bundle)
    assert container.code == 1
    assert cgroups_named(container.id) == []
