"""Containers that use up all they may, and hooks that never end: the runtime stays in command.

Whatever the processes inside do, `state`, `kill` and `delete --force` answer in time, and nothing
is left.
"""

from __future__ import annotations

import json
import signal
import subprocess
import time

import pytest
from stepping import left_of, still_alive

MEBIBYTE = 1 << 20
#: Commands that must end within this many seconds, whatever goes on in the container.
PATIENCE = 20


def limit(bundle, **resources):
    bundle.linux["resources"].update(resources)


def fork_bomb(bundle):
    limit(bundle, pids={"limit": 40})
    bundle.shell("bomb() { while :; do bomb & done; }; trap '' TERM HUP; bomb")


def processes_that_fork_and_die(bundle):
    limit(bundle, pids={"limit": 60})
    bundle.shell("while :; do (while :; do (true) & done) & sleep 0.01; done")


def full_memory(bundle):
    limit(bundle, memory={"limit": 24 * MEBIBYTE})
    # The shell that fills the memory is the first to be killed; others follow.
    bundle.shell(
        "while :; do x=; for i in 1 2 3; do sh -c 'x=x; while :; do x=$x$x; done'; done; done"
    )


def full_file_system(bundle):
    bundle.shell(
        "while :; do cat /dev/zero >/dev/shm/x 2>/dev/null; dd if=/dev/zero of=/dev/y; done"
    )


def no_room_for_another(bundle):
    limit(bundle, pids={"limit": 1})
    bundle.process["args"] = ["sleep", "1000"]


def all_descriptors(bundle):
    bundle.shell(
        'n=3; while [ $n -lt 1000 ]; do eval "exec $n</dev/null"; n=$((n+1)); done; sleep 1000'
    )


def many_stopped(bundle):
    bundle.shell(
        "for i in 1 2 3 4 5 6 7 8; do sleep 1000 & kill -STOP $!; done; kill -STOP -1; sleep 1000"
    )


def ignoring_everything(bundle):
    bundle.shell("trap '' HUP INT QUIT TERM USR1 USR2 ALRM; while :; do :; done")


ATTACKS = (
    fork_bomb, processes_that_fork_and_die, full_memory, full_file_system, no_room_for_another,
    all_descriptors, many_stopped, ignoring_everything,
)  # fmt: skip


def judged(results):
    wrong = []
    for name, result in results:
        if "internal error" in result.stderr or "Traceback" in result.stderr:
            wrong.append(f"{name}: {result}")
    return wrong


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda f: f.__name__)
def test_the_runtime_stays_in_command(make_bundle, pyrunc, tally, factor, attack):
    bundle = make_bundle()
    attack(bundle)
    for number in range(factor):
        name = pyrunc.new_id()
        bundle.save()
        started = pyrunc("run", "--detach", "--bundle", bundle.path, name, timeout=PATIENCE)
        time.sleep(0.3)
        results = [
            ("run", started),
            ("state", pyrunc("state", name, timeout=PATIENCE)),
            ("exec", pyrunc("exec", name, "true", timeout=PATIENCE)),
            ("ps", pyrunc("ps", name, timeout=PATIENCE)),
            ("pause", pyrunc("pause", name, timeout=PATIENCE)),
            ("exec", pyrunc("exec", name, "true", timeout=PATIENCE)),
            ("resume", pyrunc("resume", name, timeout=PATIENCE)),
            ("kill", pyrunc("kill", name, "TERM", timeout=PATIENCE)),
        ]
        deleted = pyrunc("delete", "--force", name, timeout=PATIENCE)
        wrong = judged(results)
        if deleted.code or deleted.stderr:
            wrong.append(f"delete --force: {deleted}")
        tally(f"{attack.__name__} {number}", wrong + left_of(pyrunc, name))


@pytest.mark.parametrize("how", ["delete", "kill"])
def test_a_frozen_container_is_removed(make_bundle, pyrunc, how):
    container = pyrunc.start(make_bundle(args=["sleep", "1000"]))
    assert pyrunc("pause", container.id).code == 0
    if how == "kill":
        assert pyrunc("kill", container.id, "KILL", timeout=PATIENCE).code == 0
    assert pyrunc("delete", "--force", container.id, timeout=PATIENCE).code == 0
    assert left_of(pyrunc, container.id) == []


HOOKS = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop")


@pytest.mark.parametrize("kind", HOOKS)
def test_a_hook_that_hangs_ends_with_its_time(make_bundle, pyrunc, tmp_path, kind):
    """With children in the background that hold all of its descriptors."""
    bundle = make_bundle(args=["true"])
    pids = tmp_path / "pids"
    bundle.bind(tmp_path, str(tmp_path))
    script = (
        f"trap '' TERM; sleep 1000 & echo $! >>{pids}; echo $$ >>{pids}; while :; do sleep 1; done"
    )
    hook = {"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin"], "timeout": 1}
    bundle.config["hooks"] = {kind: [hook]}
    result = pyrunc.run(bundle, timeout=PATIENCE)
    if kind not in ("poststart", "poststop"):
        assert result.code == 1
        assert "hook" in result.stderr
    pyrunc("delete", "--force", result.id, timeout=PATIENCE)
    assert left_of(pyrunc, result.id) == []
    if kind not in ("createContainer", "startContainer"):
        # Those of the container's own are numbered in there; its cgroups are gone, and so are they.
        assert still_alive([int(pid) for pid in pids.read_text().split()]) == []


def test_a_stopped_hook_does_not_hold_up_sigkill(make_bundle, pyrunc, tmp_path):
    """A runtime that is killed takes its hooks with it, even one that is stopped."""
    bundle = make_bundle()
    started = tmp_path / "started"
    script = f"echo $$ >{started}; kill -STOP $$; sleep 1000"
    bundle.config["hooks"] = {"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", script]}]}
    bundle.save()
    name = pyrunc.new_id()
    words = [*pyrunc.command, "create", "--bundle", str(bundle.path), name]
    process = subprocess.Popen(words, stdin=subprocess.DEVNULL)
    end = time.monotonic() + PATIENCE
    while not (started.exists() and started.read_text()):
        assert time.monotonic() < end
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert still_alive([int(started.read_text())]) == []
    assert pyrunc("delete", "--force", name, timeout=PATIENCE).code == 0
    assert left_of(pyrunc, name) == []


def test_a_program_killed_for_memory_says_so_by_its_status(make_bundle, pyrunc):
    bundle = make_bundle()
    limit(bundle, memory={"limit": 24 * MEBIBYTE})
    bundle.shell("exec tail -c 200m /dev/zero")
    result = pyrunc.run(bundle, timeout=PATIENCE)
    assert result.code == 137, result
    created = json.loads(pyrunc("list", "--format", "json").stdout or "[]")
    assert not created
