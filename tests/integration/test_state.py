"""What is on disk about a container: damaged, old, or being written by somebody else."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import time

import pytest


@pytest.fixture
def damaged(make_bundle, pyrunc, state_root):
    """A running container whose record is put through ``damage(path)``; returns id and pid."""

    def make(damage):
        container = pyrunc.start(make_bundle(args=["sleep", "1000"]))
        pid = pyrunc.state(container)["pid"]
        damage(state_root / container.id / "state.json")
        return container, pid

    return make


def of_newer_format(path):
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"format": 99}))


def with_wrong_types(path):
    record = json.loads(path.read_text())
    path.write_text(json.dumps(record | {"pid": "many", "cgroup": {"version": [], "paths": 3}}))


DAMAGES = {
    "empty": lambda path: path.write_text(""),
    "cut off": lambda path: path.write_text(path.read_text()[:100]),
    "binary": lambda path: path.write_bytes(b"\x00\xff" * 100),
    "a list": lambda path: path.write_text("[]"),
    "an empty object": lambda path: path.write_text("{}"),
    "of a newer format": of_newer_format,
    "with wrong types": with_wrong_types,
    "unreadable since a directory": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_delete_force_removes_what_a_damaged_record_is_about(damaged, pyrunc, state_root, damage):
    container, pid = damaged(damage)
    told = pyrunc("state", container.id)
    assert told.code == 1
    assert "delete --force removes it" in told.stderr
    assert "internal error" not in told.stderr
    listed = pyrunc("list", "-q")
    assert (listed.code, listed.stdout) == (0, f"{container.id}\n")
    assert "level=warning" in listed.stderr
    assert container.id in listed.stderr
    deleted = pyrunc("delete", "--force", container.id)
    assert (deleted.code, deleted.stderr) == (0, "")
    assert not os.path.exists(f"/proc/{pid}/root/bin")
    assert not (state_root / container.id).exists()


@pytest.mark.parametrize("damage", ["missing", "no config either"])
def test_a_directory_without_a_record(damaged, pyrunc, state_root, damage):
    container, _ = damaged(lambda path: None)
    pyrunc("kill", container.id, "KILL")
    pyrunc.wait(container)
    pyrunc("delete", container.id)
    directory = state_root / container.id
    directory.mkdir(mode=0o700)
    if damage == "missing":
        (directory / "config.json").write_text("{}")
    told = pyrunc("state", container.id)
    assert told.code == 1
    assert "never completed" in told.stderr
    assert "delete --force removes it" in told.stderr
    assert pyrunc("delete", "--force", container.id).code == 0
    assert not directory.exists()


def test_another_process_with_the_number_is_left_alone(make_bundle, pyrunc, state_root):
    """A reused pid: without the start time `kill` and `delete --force` hit the bystander."""
    container = pyrunc.start(make_bundle(args=["sleep", "1000"]))
    pyrunc("kill", container.id, "KILL")
    pyrunc.wait(container)
    bystander = subprocess.Popen(["sleep", "1000"])
    try:
        path = state_root / container.id / "state.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"pid": bystander.pid}))
        assert pyrunc.state(container)["status"] == "stopped"
        assert "container not running" in pyrunc("kill", container.id, "KILL").stderr
        assert pyrunc("exec", container.id, "true").code == 255
        assert pyrunc("delete", "--force", container.id).code == 0
        time.sleep(0.05)
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_a_reused_number_in_a_pid_namespace(make_bundle, pyrunc, tmp_path):
    """The kernel really gives init's number to another process here (ns_last_pid)."""
    bundle = make_bundle(args=["sleep", "1000"])
    bundle.save()
    command = shlex.join(pyrunc.command)
    name = pyrunc.new_id()
    script = f"""
        set -e
        pyrunc() {{ {command} "$@"; }}
        pyrunc create --bundle {bundle.path} --pid-file {tmp_path}/pid {name}
        pid=$(cat {tmp_path}/pid)
        kill -9 $pid
        # As init of this namespace the shell has inherited it: wait collects it.
        while test -e /proc/$pid; do wait || :; sleep 0.01; done
        for try in 1 2 3 4 5 6 7 8 9 10; do
            echo $((pid - 1)) > /proc/sys/kernel/ns_last_pid
            sleep 1000 &
            test $! = $pid && break
            kill $!
        done
        test $! = $pid
        pyrunc state {name} | grep '"stopped"'
        pyrunc kill {name} 9 2>&1 | grep 'container not running'
        pyrunc delete --force {name}
        kill -0 $pid && echo alive
        kill -9 $pid
    """
    done = subprocess.run(
        ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "bash", "-c", script],
        capture_output=True, text=True, check=False, timeout=60, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.stdout.splitlines()[-1:] == ["alive"], done


def test_eight_creates_of_one_id(make_bundle, pyrunc):
    bundle = make_bundle()
    bundle.save()
    name = pyrunc.new_id()
    command = [*pyrunc.command, "create", "--bundle", str(bundle.path), name]
    files = [(bundle.path / f"err{i}").open("w+") for i in range(8)]
    racing = [
        subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=file)
        for file in files
    ]
    codes = [process.wait(60) for process in racing]
    assert sorted(codes) == [0] + [1] * 7
    for code, file in zip(codes, files, strict=True):
        file.seek(0)
        text = file.read()
        file.close()
        assert code == 0 or "container with given ID already exists" in text
    assert json.loads(pyrunc("state", name).stdout)["status"] == "created"
    assert pyrunc("start", name).code == 0


def test_state_and_list_never_fail_while_others_work(make_bundle, pyrunc):
    """A directory without a record, half a record, a record of a removed container …"""
    bundle = make_bundle(args=["sleep", "1000"])
    bundle.save()
    name = pyrunc.new_id()
    words = shlex.join(pyrunc.command)
    script = f"""
        for i in 1 2 3 4 5 6 7 8; do
            {words} create --bundle '{bundle.path}' {name} || exit 1
            {words} start {name} || exit 2
            {words} delete --force {name} || exit 3
        done
    """
    (bundle.path / "mark").write_text("")
    with (bundle.path / "worker").open("w+") as log:
        worker = subprocess.Popen(["sh", "-c", script], stdin=subprocess.DEVNULL,
                                  stdout=log, stderr=log)  # fmt: skip
        seen = set()
        while worker.poll() is None:
            told = pyrunc("state", name)
            if told.code == 0:
                seen.add(json.loads(told.stdout)["status"])
            else:
                assert "container does not exist" in told.stderr, told
            # The root itself is made by the first create.
            listed = pyrunc("list")
            assert listed.code == 0 or "no such file" in listed.stderr, listed
            assert "level=warning" not in listed.stderr, listed
        log.seek(0)
        assert worker.returncode == 0, log.read()
    assert seen <= {"creating", "created", "running", "stopped"}


def in_background(pyrunc, *arguments, log):
    return subprocess.Popen(
        [*pyrunc.command, *map(str, arguments)],
        stdin=subprocess.DEVNULL, stdout=log, stderr=log,
    )  # fmt: skip


HANGING = {"path": "/bin/sleep", "args": ["sleep", "1000"]}


def wait_for_hook(pyrunc, name, seconds=10):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        told = pyrunc("state", name)
        if told.code == 0 and json.loads(told.stdout)["pid"]:
            return json.loads(told.stdout)["status"]
        time.sleep(0.01)
    raise AssertionError("no pid")


@pytest.mark.parametrize("kind", ["createRuntime", "createContainer"])
def test_delete_force_ends_a_create_that_hangs_in_a_hook(make_bundle, pyrunc, kind, tmp_path):
    bundle = make_bundle()
    bundle.config["hooks"] = {kind: [HANGING]}
    bundle.save()
    name = pyrunc.new_id()
    with (tmp_path / "log").open("w") as log:
        create = in_background(pyrunc, "create", "--bundle", bundle.path, name, log=log)
        assert wait_for_hook(pyrunc, name) == "creating"
        time.sleep(0.1)
        deleted = pyrunc("delete", "--force", name)
        assert (deleted.code, deleted.stderr) == (0, "")
        assert create.wait(10) == 1
    assert pyrunc("state", name).code == 1


@pytest.mark.parametrize("command", ["delete", "kill"])
def test_a_start_that_hangs_in_a_hook_can_be_ended(make_bundle, pyrunc, command, tmp_path):
    """An init killed before its program was taken for one that had executed it."""
    bundle = make_bundle()
    bundle.config["hooks"] = {"startContainer": [HANGING]}
    container = pyrunc.create(bundle)
    with (tmp_path / "log").open("w+") as log:
        start = in_background(pyrunc, "start", container.id, log=log)
        time.sleep(0.3)
        assert start.poll() is None
        # Until the user's program is executed the container is "created" (runtime.md, "State").
        assert pyrunc.state(container)["status"] == "created"
        words = ["delete", "--force", container.id]
        if command == "kill":
            words = ["kill", container.id, "KILL"]
        assert pyrunc(*words).code == 0
        assert start.wait(10) == 1
        log.seek(0)
        assert "was killed before it executed the program" in log.read()


def test_a_slow_poststart_hook_keeps_nobody_out(make_bundle, pyrunc, tmp_path):
    bundle = make_bundle(args=["sleep", "1000"])
    bundle.config["hooks"] = {"poststart": [{"path": "/bin/sleep", "args": ["sleep", "2"]}]}
    container = pyrunc.create(bundle)
    with (tmp_path / "log").open("w") as log:
        start = in_background(pyrunc, "start", container.id, log=log)
        time.sleep(0.3)
        before = time.monotonic()
        assert pyrunc("pause", container.id).code == 0
        assert pyrunc("resume", container.id).code == 0
        assert pyrunc("delete", "--force", container.id).code == 0
        assert time.monotonic() - before < 1.5
        start.wait(10)


def test_delete_force_while_processes_are_executed(make_bundle, pyrunc, tmp_path):
    container = pyrunc.start(make_bundle(args=["sleep", "1000"]))
    with (tmp_path / "log").open("w+") as log:
        running = [
            in_background(pyrunc, "exec", container.id, "sleep", "1000", log=log) for _ in range(4)
        ]
        time.sleep(0.05)
        deleted = pyrunc("delete", "--force", container.id)
        assert (deleted.code, deleted.stderr) == (0, "")
        for process in running:
            assert process.wait(10) in (137, 255)
        log.seek(0)
        assert "internal error" not in log.read()


def test_two_deletes_at_once(make_bundle, pyrunc, tmp_path):
    container = pyrunc.create(make_bundle())
    with (tmp_path / "log").open("w+") as log:
        racing = [in_background(pyrunc, "delete", container.id, log=log) for _ in range(4)]
        codes = sorted(process.wait(20) for process in racing)
        assert codes == [0, 1, 1, 1]
        log.seek(0)
        assert log.read().count("container does not exist") == 3
