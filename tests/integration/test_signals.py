"""Signals: to a container with `kill`, and through a foreground `run` or `exec`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

TRAPS = (
    'for s in HUP INT QUIT USR1 USR2 TERM ALRM CONT WINCH; do trap "echo got-$s" $s; done; '
    "echo ready; while :; do sleep 0.05; done"
)


class Foreground:
    """A command in the foreground with its output in a pipe."""

    def __init__(self, command, **options):
        self.process = subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, bufsize=1, **options,
        )  # fmt: skip

    def expect(self, line):
        for got in self.process.stdout:
            if got.rstrip() == line:
                return
        pytest.fail(f"no {line!r} before the end")


@pytest.fixture(params=["run", "exec"])
def in_foreground(request, make_bundle, pyrunc):
    started = []

    def start(script, *options):
        bundle = make_bundle()
        if request.param == "run":
            bundle.shell(script)
            bundle.save()
            name = pyrunc.new_id()
            command = [*pyrunc.command, "run", *options, "--bundle", bundle.path, name]
        else:
            bundle.process["args"] = ["sleep", "1000"]
            name = pyrunc.start(bundle).id
            command = [*pyrunc.command, "exec", name, "sh", "-c", script]
        started.append(Foreground(command))
        started[-1].id = name
        return started[-1]

    yield start
    for one in started:
        one.process.kill()
        one.process.wait()
        one.process.stdout.close()


@pytest.mark.parametrize("name", ["HUP", "INT", "QUIT", "USR1", "USR2", "TERM", "ALRM"])
def test_forwarded(in_foreground, name):
    one = in_foreground(TRAPS)
    one.expect("ready")
    one.process.send_signal(getattr(signal, f"SIG{name}"))
    one.expect(f"got-{name}")
    assert one.process.poll() is None


@pytest.mark.parametrize("name", ["CHLD", "PIPE", "URG", "WINCH"])
def test_not_forwarded(in_foreground, name):
    one = in_foreground(TRAPS)
    one.expect("ready")
    one.process.send_signal(getattr(signal, f"SIG{name}"))
    time.sleep(0.2)
    one.process.send_signal(signal.SIGUSR1)
    assert one.process.stdout.readline() == "got-USR1\n"


def test_many_signals_at_once(in_foreground):
    one = in_foreground(
        "n=0; trap 'n=$((n+1)); echo $n' USR1; echo ready; while :; do sleep 0.01; done"
    )
    one.expect("ready")
    for count in range(1, 30):
        one.process.send_signal(signal.SIGUSR1)
        assert one.process.stdout.readline() == f"{count}\n"


def test_exit_code_after_a_signal(in_foreground):
    one = in_foreground("trap 'exit 33' TERM; echo ready; while :; do sleep 0.05; done")
    one.expect("ready")
    one.process.terminate()
    assert one.process.wait(10) == 33


def test_interrupt_from_the_keyboard_is_for_the_program(in_foreground):
    """SIGINT goes to the whole foreground process group: to the runtime, not into the container."""
    one = in_foreground(
        "trap 'echo interrupted; exit 130' INT; echo ready; while :; do sleep 0.05; done"
    )
    one.expect("ready")
    one.process.send_signal(signal.SIGINT)
    one.expect("interrupted")
    assert one.process.wait(10) == 130


def test_run_removes_the_container_at_the_end(make_bundle, pyrunc):
    done = pyrunc.run(make_bundle(args=["true"]))
    assert done.code == 0
    assert "container does not exist" in pyrunc("state", done.id).stderr


def test_run_can_keep_it(make_bundle, pyrunc):
    done = pyrunc.run(make_bundle(args=["sh", "-c", "exit 3"]), "--keep")
    assert done.code == 3
    assert pyrunc.state(done)["status"] == "stopped"
    assert pyrunc("delete", done.id).code == 0


@pytest.mark.parametrize(
    ("script", "code"), [("exit 0", 0), ("exit 255", 255), ("kill -9 $$", 137)]
)
def test_run_s_exit_code(make_bundle, pyrunc, script, code):
    # A pid 1 cannot kill itself: its child does.
    script = script if "kill" not in script else "sh -c 'kill -9 $$'; exit $?"
    assert pyrunc.run(make_bundle(args=["sh", "-c", script])).code == code


def test_run_of_a_container_that_is_killed(make_bundle, pyrunc):
    bundle = make_bundle(args=["sleep", "1000"])
    bundle.save()
    name = pyrunc.new_id()
    process = subprocess.Popen([*pyrunc.command, "run", "-b", str(bundle.path), name])
    for _ in range(200):
        if '"running"' in pyrunc("state", name).stdout:
            break
        time.sleep(0.02)
    assert pyrunc("kill", name, "9").code == 0
    assert process.wait(10) == 137
    assert "container does not exist" in pyrunc("state", name).stderr


def test_a_failing_run_exits_with_1(make_bundle, pyrunc):
    assert pyrunc.run(make_bundle(args=["nothing"])).code == 1


def test_run_detached(make_bundle, pyrunc, tmp_path):
    pid_file = tmp_path / "pid"
    done = pyrunc.run(make_bundle(args=["sleep", "1000"]), "-d", "--pid-file", str(pid_file))
    assert done.code == 0
    assert pyrunc.state(done)["pid"] == int(pid_file.read_text())
    assert pyrunc.state(done)["status"] == "running"


def test_other_commands_work_on_a_container_in_the_foreground(make_bundle, pyrunc):
    bundle = make_bundle(args=["sleep", "1000"])
    bundle.save()
    name = pyrunc.new_id()
    process = subprocess.Popen([*pyrunc.command, "run", "-b", str(bundle.path), name])
    for _ in range(200):
        if '"running"' in pyrunc("state", name).stdout:
            break
        time.sleep(0.02)
    for command in (["pause", name], ["resume", name], ["exec", name, "true"], ["ps", name]):
        assert pyrunc(*command, timeout=10).code == 0
    assert pyrunc("delete", "--force", name, timeout=20).code == 0
    assert process.wait(10) == 137


@pytest.mark.parametrize("subreaper", [True, False])
def test_strays_are_collected(make_bundle, pyrunc, subreaper):
    """Without a pid namespace the orphans of the container come to the subreaper."""
    bundle = make_bundle()
    bundle.without_namespace("pid")
    bundle.shell("(sh -c 'exit 0' & sleep 0.1 & :) ; echo ready; sleep 1")
    bundle.save()
    name = pyrunc.new_id()
    options = [] if subreaper else ["--no-subreaper"]
    one = Foreground([*pyrunc.command, "run", *options, "--bundle", bundle.path, name])
    one.expect("ready")
    time.sleep(0.4)
    children = Path(f"/proc/{one.process.pid}/task/{one.process.pid}/children").read_text().split()
    assert len(children) == 1
    assert one.process.wait(10) == 0
    one.process.stdout.close()


def test_a_container_without_a_pid_namespace_leaves_no_process(make_bundle, pyrunc):
    bundle = make_bundle()
    bundle.without_namespace("pid")
    bundle.shell("sleep 777 & sleep 778 & exit 5")
    assert pyrunc.run(bundle).code == 5
    assert not [p for p in Path("/proc").glob("[0-9]*/cmdline") if is_sleep(p)]


def is_sleep(path):
    try:
        return path.read_bytes() in (b"sleep\x00777\x00", b"sleep\x00778\x00")
    except OSError:
        return False


@pytest.mark.parametrize("spelling", ["10", "USR1", "SIGUSR1", "usr1", "sigusr1"])
def test_kill_knows_signals_by_many_names(make_bundle, pyrunc, spelling):
    bundle = make_bundle(args=["sh", "-c", "trap 'exit 55' USR1; while :; do sleep 0.05; done"])
    container = pyrunc.start(bundle)
    time.sleep(0.2)
    assert pyrunc("kill", container.id, spelling).code == 0
    pyrunc.wait(container)


def test_kill_sends_term_by_default(make_bundle, pyrunc):
    bundle = make_bundle()
    bundle.shell("trap 'exit 0' TERM; while :; do sleep 0.05; done")
    container = pyrunc.start(bundle)
    time.sleep(0.2)
    assert pyrunc("kill", container.id).code == 0
    pyrunc.wait(container)


@pytest.mark.parametrize("name", ["NOTHING", "SIG", "65", "-1", "RTMIN+99"])
def test_kill_refuses_unknown_signals(make_bundle, pyrunc, name):
    container = pyrunc.start(make_bundle(args=["sleep", "1000"]))
    done = pyrunc("kill", container.id, name)
    assert done.code == 1
    if name != "-1":
        assert f'unknown signal \\"{name}\\"' in done.stderr
    assert pyrunc.state(container)["status"] == "running"


def test_kill_a_created_container(make_bundle, pyrunc):
    container = pyrunc.create(make_bundle(args=["true"]))
    assert pyrunc("kill", container.id, "KILL").code == 0
    pyrunc.wait(container)
    done = pyrunc("start", container.id)
    assert "cannot start a container that has stopped" in done.stderr


@pytest.mark.parametrize("name", ["HUP", "INT", "QUIT", "ABRT", "TERM"])
@pytest.mark.parametrize("pid_namespace", [True, False])
def test_a_created_container_can_be_asked_to_end(make_bundle, pyrunc, name, pid_namespace):
    """The kernel spares the first process of a pid namespace what it has no handler for."""
    bundle = make_bundle(args=["true"])
    if not pid_namespace:
        bundle.without_namespace("pid")
    container = pyrunc.create(bundle)
    assert pyrunc("kill", container.id, name).code == 0
    pyrunc.wait(container)
    assert "container that has stopped" in pyrunc("start", container.id).stderr
    assert pyrunc("delete", container.id).code == 0


def test_other_signals_leave_a_created_container_alone(make_bundle, pyrunc):
    container = pyrunc.create(make_bundle(args=["sleep", "1000"]))
    for name in ("USR1", "WINCH", "CHLD", "ALRM", "RTMIN"):
        assert pyrunc("kill", container.id, name).code == 0
    assert pyrunc("start", container.id).code == 0
    # The program has the default actions, not init's.
    look = pyrunc.exec(container, "grep", "Sig[ICB]", "/proc/1/status").stdout.split()
    assert set(look[1::2]) == {"0" * 16}


def test_kill_a_paused_container(make_bundle, pyrunc):
    container = pyrunc.start(make_bundle(args=["sleep", "1000"]))
    assert pyrunc("pause", container.id).code == 0
    assert pyrunc("kill", container.id, "KILL").code == 0
    pyrunc.wait(container)


@pytest.mark.parametrize("options", [[], ["KILL"], ["TERM"]])
def test_kill_a_stopped_container(make_bundle, pyrunc, options):
    container = pyrunc.start(make_bundle(args=["true"]))
    pyrunc.wait(container)
    done = pyrunc("kill", container.id, *options)
    assert done.code == 1
    assert "container not running" in done.stderr


def test_kill_all(make_bundle, pyrunc):
    bundle = make_bundle()
    bundle.shell("sleep 900 & sleep 901 & wait")
    container = pyrunc.start(bundle)
    time.sleep(0.2)
    assert len(json.loads(pyrunc("ps", "--format", "json", container.id).stdout)) == 3
    assert pyrunc("kill", "--all", container.id, "9").code == 0
    pyrunc.wait(container)
    # containerd does this after the end, and wants no error.
    assert pyrunc("kill", "--all", container.id, "9").code == 0


def test_killing_reaches_all_where_there_is_no_pid_namespace(make_bundle, pyrunc):
    bundle = make_bundle()
    bundle.without_namespace("pid")
    bundle.shell("sleep 902 & sleep 903 & echo ready; wait")
    container = pyrunc.start(bundle)
    time.sleep(0.2)
    pids = json.loads(pyrunc("ps", "--format", "json", container.id).stdout)
    assert len(pids) == 3
    assert pyrunc("kill", container.id, "KILL").code == 0
    pyrunc.wait(container)
    for _ in range(100):
        if not any(alive(pid) for pid in pids):
            break
        time.sleep(0.02)
    else:
        pytest.fail("some live on")


@pytest.mark.parametrize("kind", ["none", "joined"])
def test_killing_reaches_those_who_outlive_init(make_bundle, pyrunc, kind):
    bundle = make_bundle()
    if kind == "none":
        bundle.without_namespace("pid")
    else:
        other = pyrunc.start(make_bundle(args=["sleep", "1000"]))
        bundle.namespace("pid", f"/proc/{pyrunc.state(other)['pid']}/ns/pid")
    bundle.shell("sleep 904 & sleep 905 & exit 0")
    container = pyrunc.start(bundle)
    pyrunc.wait(container)
    pids = json.loads(pyrunc("ps", "--format", "json", container.id).stdout)
    assert len(pids) == 2
    # Init is gone, and whoever asked for a gentle end asked it.
    assert "container not running" in pyrunc("kill", container.id, "TERM").stderr
    assert pyrunc("kill", container.id, "KILL").code == 0
    for _ in range(100):
        if not any(alive(pid) for pid in pids):
            break
        time.sleep(0.02)
    else:
        pytest.fail("some live on")
    assert "container not running" in pyrunc("kill", container.id, "KILL").stderr


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_poststop_hooks_run_and_may_fail(make_bundle, pyrunc, tmp_path):
    hook = tmp_path / "hook"
    hook.write_text(f"#!/bin/sh\ncat >{tmp_path}/state\nexit 3\n")
    hook.chmod(0o755)
    bundle = make_bundle(args=["true"], hooks={"poststop": [{"path": str(hook)}]})
    done = pyrunc.run(bundle)
    assert done.code == 0
    assert "poststop" in done.stderr
    assert json.loads((tmp_path / "state").read_text())["status"] == "stopped"


def test_signals_of_the_caller_do_not_stay_blocked_or_ignored(in_foreground):
    one = in_foreground("grep -E 'Sig(Blk|Ign)' /proc/self/status; echo ready")
    lines = [one.process.stdout.readline().split()[1] for _ in range(2)]
    assert lines == ["0" * 16, "0" * 16]


def test_an_ignored_signal_of_the_caller(make_bundle, pyrunc):
    bundle = make_bundle(args=["grep", "SigIgn", "/proc/self/status"])
    done = pyrunc.run(bundle, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    assert done.stdout.split()[1] == "0" * 16
    assert os.getpid()
