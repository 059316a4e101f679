"""The life of a container as engines drive it, with the words and codes that they match."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from pathlib import Path

import pytest


def start_in_background(pyrunc, *arguments):
    return subprocess.Popen(
        [*pyrunc.command, *map(str, arguments)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_create_waits_before_the_program(make_bundle, pyrunc):
    bundle = make_bundle()
    bundle.shell("echo ran > /tmp/ran")
    container = pyrunc.create(bundle)
    assert (container.code, container.stdout, container.stderr) == (0, "", "")
    assert pyrunc.state(container)["status"] == "created"
    assert not (bundle.rootfs / "tmp/ran").exists()
    assert pyrunc("start", container.id).code == 0
    pyrunc.wait(container)
    assert (bundle.rootfs / "tmp/ran").read_text() == "ran\n"


def test_state_has_the_keys_that_engines_read(make_bundle, pyrunc):
    bundle = make_bundle(args=["sleep", "100"], annotations={"a.b": "c"})
    container = pyrunc.create(bundle)
    state = pyrunc.state(container)
    created = state.pop("created")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z", created)
    pid = state.pop("pid")
    assert os.stat(f"/proc/{pid}")
    assert state == {
        "ociVersion": "1.0.2",
        "id": container.id,
        "status": "created",
        "bundle": str(bundle.path),
        "rootfs": str(bundle.rootfs),
        "owner": "root",
        "annotations": {"a.b": "c"},
    }


def test_status_goes_created_running_paused_running_stopped(make_bundle, pyrunc):
    container = pyrunc.create(make_bundle(args=["sleep", "100"]))
    seen = [pyrunc.state(container)["status"]]
    for command in (["start"], ["pause"], ["resume"]):
        assert pyrunc(*command, container.id).code == 0
        seen.append(pyrunc.state(container)["status"])
    assert pyrunc("kill", container.id, "KILL").code == 0
    pyrunc.wait(container)
    assert seen == ["created", "running", "paused", "running"]
    assert pyrunc.state(container)["pid"] == 0


def test_later_changes_of_config_do_not_matter(make_bundle, pyrunc):
    bundle = make_bundle(args=["sleep", "100"], process={"env": ["PATH=/bin", "A=old"]})
    container = pyrunc.start(bundle)
    (bundle.path / "config.json").write_text("{}")
    assert pyrunc.exec(container, "sh", "-c", "echo $A").stdout == "old\n"


def test_pid_file_is_the_number_alone(make_bundle, pyrunc, tmp_path):
    container = pyrunc.create(make_bundle(), "--pid-file", str(tmp_path / "pid"))
    assert (tmp_path / "pid").read_text() == str(pyrunc.state(container)["pid"])


def test_init_is_a_child_of_who_calls(make_bundle, pyrunc):
    """conmon and the shim wait for it: nothing of pyrunc may stay in between."""
    container = pyrunc.create(make_bundle(args=["sleep", "100"]))
    pid = pyrunc.state(container)["pid"]
    # The caller here is this process's child, which has ended: what is left is a subreaper, and
    # was there before.
    parent = status_of(pid)[1]
    assert int(status_of(parent)[19]) <= int(status_of("self")[19])


def status_of(pid):
    """Return proc_pid_stat(5) from the state on: 1 is the parent, 19 the start time."""
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()


@pytest.mark.parametrize(("script", "code"), [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137)])
def test_run_returns_the_exit_code(make_bundle, pyrunc, script, code):
    bundle = make_bundle()
    # As pid 1 a shell is immune to its own signals.
    bundle.shell(f"sh -c '{script}'; exit $?")
    assert pyrunc.run(bundle).code == code


def test_run_leaves_nothing(make_bundle, pyrunc):
    done = pyrunc.run(make_bundle())
    assert (done.code, done.stdout, done.stderr) == (0, "", "")
    assert pyrunc("state", done.id).code == 1


def test_run_keep_leaves_a_stopped_container(make_bundle, pyrunc):
    done = pyrunc.run(make_bundle(), "--keep")
    assert pyrunc.state(done)["status"] == "stopped"


def test_run_detached_returns_while_it_runs(make_bundle, pyrunc):
    done = pyrunc.run(make_bundle(args=["sleep", "100"]), "--detach")
    assert done.code == 0
    assert pyrunc.state(done)["status"] == "running"


def test_a_foreground_run_can_be_paused_killed_and_deleted_by_others(make_bundle, pyrunc):
    """It held the container's lock for as long as it ran."""
    bundle = make_bundle(args=["sleep", "100"])
    bundle.save()
    name = pyrunc.new_id()
    run = start_in_background(pyrunc, "run", "--bundle", bundle.path, name)
    try:
        wait_for_status(pyrunc, name, "running")
        assert pyrunc("pause", name, timeout=10).code == 0
        assert pyrunc("resume", name, timeout=10).code == 0
        assert pyrunc("delete", "--force", name, timeout=10).code == 0
        assert run.wait(10) == 137
    finally:
        run.kill()
        run.wait()
        run.stderr.close()


def wait_for_status(pyrunc, name, status):
    end = time.monotonic() + 10
    while time.monotonic() < end:
        state = pyrunc("state", name)
        if state.code == 0 and json.loads(state.stdout)["status"] == status:
            return
        time.sleep(0.01)
    raise AssertionError(f"{name} did not become {status}")


def test_start_twice_and_after_the_end(make_bundle, pyrunc):
    container = pyrunc.start(make_bundle(args=["sleep", "100"]))
    again = pyrunc("start", container.id)
    assert again.code == 1
    assert "cannot start an already running container" in again.stderr
    pyrunc("kill", container.id, "KILL")
    pyrunc.wait(container)
    again = pyrunc("start", container.id)
    assert again.code == 1
    assert "cannot start a container that has stopped" in again.stderr


def test_a_paused_created_container_is_not_started(make_bundle, pyrunc):
    """The start would wait for ever, with the lock that `resume` needs."""
    container = pyrunc.create(make_bundle(args=["sleep", "100"]))
    assert pyrunc("pause", container.id).code == 0
    refused = pyrunc("start", container.id, timeout=10)
    assert refused.code == 1
    assert "paused" in refused.stderr
    assert pyrunc("resume", container.id).code == 0
    assert pyrunc("start", container.id).code == 0


@pytest.mark.parametrize("signal", ["TERM", "SIGTERM", "15", "term"])
def test_kill_takes_names_and_numbers(make_bundle, pyrunc, signal):
    bundle = make_bundle()
    bundle.shell("trap 'exit 0' TERM; while :; do sleep 0.05; done")
    container = pyrunc.start(bundle)
    time.sleep(0.1)
    assert pyrunc("kill", container.id, signal).code == 0
    pyrunc.wait(container)


def test_kill_says_what_is_wrong(make_bundle, pyrunc):
    container = pyrunc.start(make_bundle(args=["sleep", "100"]))
    unknown = pyrunc("kill", container.id, "NONSENSE")
    assert unknown.code == 1
    assert "unknown signal" in unknown.stderr
    assert "NONSENSE" in unknown.stderr
    assert pyrunc("kill", container.id, "9").code == 0
    pyrunc.wait(container)
    dead = pyrunc("kill", container.id, "9")
    assert dead.code == 1
    assert "container not running" in dead.stderr


def test_kill_of_a_created_container_ends_it(make_bundle, pyrunc):
    container = pyrunc.create(make_bundle())
    assert pyrunc("kill", container.id, "KILL").code == 0
    pyrunc.wait(container)


def test_kill_all_of_a_stopped_container_is_no_error(make_bundle, pyrunc):
    container = pyrunc.create(make_bundle())
    pyrunc("kill", container.id, "KILL")
    pyrunc.wait(container)
    assert pyrunc("kill", "--all", container.id, "9").code == 0


def test_kill_without_pid_namespace_reaches_everyone(make_bundle, pyrunc):
    bundle = make_bundle()
    bundle.without_namespace("pid")
    bundle.shell("sleep 1000 & sleep 1001 & wait")
    container = pyrunc.start(bundle)
    end = time.monotonic() + 5
    while len(json.loads(pyrunc("ps", "-f", "json", container.id).stdout)) < 3:
        assert time.monotonic() < end
    assert pyrunc("kill", container.id, "KILL").code == 0
    pyrunc.wait(container)
    end = time.monotonic() + 5
    while json.loads(pyrunc("ps", "-f", "json", container.id).stdout) not in ([], None):
        assert time.monotonic() < end


def test_delete_wants_a_stopped_container(make_bundle, pyrunc):
    container = pyrunc.start(make_bundle(args=["sleep", "100"]))
    refused = pyrunc("delete", container.id)
    assert refused.code == 1
    words = f"cannot delete container {container.id} that is not stopped: running"
    assert words in refused.stderr
    assert pyrunc.state(container)["status"] == "running"


def test_delete_of_a_created_container_kills_it(make_bundle, pyrunc):
    container = pyrunc.create(make_bundle(args=["sleep", "100"]))
    pid = pyrunc.state(container)["pid"]
    assert pyrunc("delete", container.id).code == 0
    assert not os.path.exists(f"/proc/{pid}/root/bin")
    assert pyrunc("state", container.id).code == 1


def test_delete_force_ends_a_running_and_a_paused_container(make_bundle, pyrunc):
    for pause in (False, True):
        container = pyrunc.start(make_bundle(args=["sleep", "100"]))
        if pause:
            assert pyrunc("pause", container.id).code == 0
        deleted = pyrunc("delete", "--force", container.id)
        assert (deleted.code, deleted.stderr) == (0, "")
        assert pyrunc("state", container.id).code == 1


def test_delete_force_of_an_unknown_id_is_silent(pyrunc):
    done = pyrunc("delete", "--force", "unknown")
    assert (done.code, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    "command",
    [
        ["start", "unknown"],
        ["state", "unknown"],
        ["kill", "unknown", "9"],
        ["delete", "unknown"],
        ["pause", "unknown"],
        ["resume", "unknown"],
        ["ps", "unknown"],
        ["events", "--stats", "unknown"],
    ],
)
def test_unknown_id(pyrunc, command):
    done = pyrunc(*command)
    assert done.code == 1
    assert "container does not exist" in done.stderr
    assert re.fullmatch(r'time="[^"]+" level=error msg=".*"\n', done.stderr)


def test_exec_in_an_unknown_container_is_255(pyrunc):
    done = pyrunc("exec", "unknown", "true")
    assert done.code == 255
    assert "container does not exist" in done.stderr


def test_an_id_is_taken_once(make_bundle, pyrunc):
    bundle = make_bundle()
    container = pyrunc.create(bundle)
    again = pyrunc("create", "--bundle", bundle.path, container.id)
    assert again.code == 1
    assert "container with given ID already exists" in again.stderr
    assert pyrunc.state(container)["status"] == "created"


def test_list_shows_all_in_columns_json_and_ids(make_bundle, pyrunc):
    bundle = make_bundle(args=["sleep", "100"])
    first, second = pyrunc.create(bundle), pyrunc.start(bundle)
    lines = pyrunc("list").stdout.splitlines()
    assert lines[0].split() == ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"]
    assert [line.split()[0] for line in lines[1:]] == sorted([first.id, second.id])
    assert {line.split()[2] for line in lines[1:]} == {"created", "running"}
    assert pyrunc("list", "-q").stdout.split() == sorted([first.id, second.id])
    listed = json.loads(pyrunc("list", "--format", "json").stdout)
    assert [entry["id"] for entry in listed] == sorted([first.id, second.id])
    assert listed[0].keys() >= {"ociVersion", "pid", "status", "bundle", "rootfs", "created"}


def test_list_of_a_missing_root_that_was_asked_for_fails(pyrunc):
    assert pyrunc("list").code == 1


def test_ps_shows_the_processes_of_the_container(make_bundle, pyrunc):
    bundle = make_bundle()
    bundle.shell("sleep 1000 & exec sleep 1001")
    container = pyrunc.start(bundle)
    pid = pyrunc.state(container)["pid"]
    assert pid in json.loads(pyrunc("ps", "--format", "json", container.id).stdout)
    lines = pyrunc("ps", container.id).stdout.splitlines()
    assert "PID" in lines[0]
    assert any("sleep 1001" in line for line in lines[1:])
    assert all("sleep" in line or "sh" in line for line in lines[1:])


def test_stdio_is_inherited_as_it_is(make_bundle, pyrunc):
    bundle = make_bundle()
    bundle.shell("cat; echo err >&2")
    bundle.save()
    done = subprocess.run(
        [*pyrunc.command, "run", "--bundle", str(bundle.path), pyrunc.new_id()],
        input="in\n",
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "in\n", "err\n")


def test_create_works_with_closed_stdio_and_an_empty_environment(make_bundle, pyrunc):
    bundle = make_bundle(args=["sleep", "100"])
    bundle.save()
    name = pyrunc.new_id()
    words = [*pyrunc.command, "create", "--bundle", str(bundle.path), name]
    script = 'exec "$@" <&- >&- 2>&-'
    done = subprocess.run(["/bin/sh", "-c", script, "sh", *words], env={}, check=False)
    assert done.returncode == 0
    assert pyrunc("start", name).code == 0
