"""Whatever the runtime starts dies with it, however that ends, and holds no lock of it."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from waiting import soon

_seconds = itertools.count(71_000_000)


@pytest.fixture
def sleeper():
    """Return a shell command that stays, in a child of the shell as well, and how to find both."""
    number = str(next(_seconds))
    yield f"sleep {number} & sleep {number}; true", lambda: processes(number)
    for pid in processes(number):
        os.kill(pid, signal.SIGKILL)


def processes(word):
    """Pids of the processes that have the word among their arguments."""
    found = []
    for directory in Path("/proc").iterdir():
        if directory.name.isdigit():
            try:
                words = (directory / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if any(word.encode() in part.split() for part in words):
                found.append(int(directory.name))
    return found


def started(pyrunc, *words):
    """The command in the background."""
    return subprocess.Popen(
        [*pyrunc.command, *map(str, words)],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def assert_removable(pyrunc, name):
    """`delete --force` works, which it does not while anybody holds the lock."""
    deleted = pyrunc("delete", "--force", name)
    assert (deleted.code, deleted.stderr) == (0, "")
    assert not Path(pyrunc.directory, "pyrunc-state", name).exists()


def hooked(make_bundle, kind, script, at=None):
    bundle = make_bundle(args=["sleep", "1000"], at=at)
    bundle.config["hooks"] = {kind: [{"path": "/bin/sh", "args": ["sh", "-c", script]}]}
    return bundle


@pytest.mark.parametrize("user_namespace", [False, True])
@pytest.mark.parametrize("kind", ["prestart", "createRuntime", "createContainer"])
def test_hooks_of_a_killed_create(make_bundle, pyrunc, sleeper, kind, user_namespace, public_path):
    """With the hook a child of the runtime alone, both sleepers lived on; with
    PR_SET_PDEATHSIG on the hook alone the second did. The builder, which waits for
    createContainer hooks, had forgotten its order to die as it became root of a user namespace.
    """
    script, left = sleeper
    bundle = hooked(make_bundle, kind, script, public_path / "bundle")
    if user_namespace:
        bundle.user_namespace(100000)
        bundle.give_to(100000)
    bundle.save()
    name = pyrunc.new_id()
    create = started(pyrunc, "create", "-b", bundle.path, name)
    assert soon(lambda: len(left()) >= 3)
    create.kill()
    create.wait()
    assert soon(lambda: not left())
    assert_removable(pyrunc, name)


def test_a_poststart_hook_of_a_killed_start(make_bundle, pyrunc, sleeper):
    """As above: the hook and its child lived on."""
    script, left = sleeper
    container = pyrunc.create(hooked(make_bundle, "poststart", script))
    start = started(pyrunc, "start", container.id)
    assert soon(lambda: len(left()) >= 3)
    start.kill()
    start.wait()
    assert soon(lambda: not left())
    assert pyrunc.state(container)["status"] == "running"


def test_a_poststop_hook_of_a_killed_delete(make_bundle, pyrunc, sleeper):
    """As above: the hook and its child lived on."""
    script, left = sleeper
    container = pyrunc.create(hooked(make_bundle, "poststop", script))
    delete = started(pyrunc, "delete", container.id)
    assert soon(lambda: len(left()) >= 3)
    delete.kill()
    delete.wait()
    assert soon(lambda: not left())


def test_a_hook_holds_nothing_of_the_runtimes(make_bundle, pyrunc, tmp_path):
    """Nor does its parent: without `close_all_but` the guard had the state directory, the lock."""
    out = tmp_path / "out"
    script = f"ls -l /proc/self/fd /proc/$PPID/fd >{out}"
    assert pyrunc.create(hooked(make_bundle, "createRuntime", script)).code == 0
    listed = out.read_text()
    assert "pyrunc-state" not in listed
    assert "cgroup" not in listed


def kill_at(pyrunc, bundle, call, time_):
    """`create` of a bundle, killed at the entry of one of its system calls; the id."""
    bundle.save()
    name = pyrunc.new_id()
    inject = f"inject={call}:signal=KILL:when={time_}"
    subprocess.run(
        ["strace", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e", inject,
         *pyrunc.command, "create", "-b", bundle.path, name],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        check=False, timeout=120,
    )  # fmt: skip
    return name


needs_strace = pytest.mark.skipif(not shutil.which("strace"), reason="needs strace")


@needs_strace
def test_the_holder_of_an_id_mapping_dies_with_the_runtime(make_bundle, pyrunc, tmp_path):
    """Killed when it was about to end the holder, the runtime left it, and the holder the lock:
    `delete --force` said "held by another operation that does not end" for ever."""
    source = tmp_path / "source"
    source.mkdir()
    bundle = make_bundle()
    mapping = [{"containerID": 0, "hostID": 1000, "size": 10}]
    bundle.bind(source, "/mnt")
    bundle.config["mounts"][-1] |= {"uidMappings": mapping, "gidMappings": mapping}
    if pyrunc.run(bundle).code:
        pytest.skip("the file system takes no id-mapped mounts")
    name = kill_at(pyrunc, bundle, "pidfd_send_signal", 1)
    assert_removable(pyrunc, name)


@needs_strace
@pytest.mark.parametrize(
    ("call", "times"),
    [("clone3", (1,)), ("openat", range(20, 60, 7)), ("write", range(1, 12)), ("poll", (1, 2, 3)),
     ("wait4", (1, 2)), ("close", range(20, 60, 7))],
)  # fmt: skip
def test_the_stage_dies_with_the_runtime(make_bundle, pyrunc, public_path, call, times):
    """It had a copy of the lock, and forgot its order to die as it changed ids. Its life is short:
    this could not be made to fail, and is here for what may come."""
    neighbour = pyrunc.start(make_bundle(args=["sleep", "1000"]))
    bundle = make_bundle(args=["true"], at=public_path / "bundle")
    bundle.namespace("ipc", f"/proc/{pyrunc.state(neighbour)['pid']}/ns/ipc")
    bundle.user_namespace(100000)
    bundle.give_to(100000)
    assert pyrunc.run(bundle).code == 0
    bundle.process["args"] = ["sleep", "1000"]
    for time_ in times:
        name = kill_at(pyrunc, bundle, call, time_)
        told = pyrunc("state", name)
        if told.code == 0 and '"created"' in told.stdout:
            # Complete by then.
            assert pyrunc("delete", name).code == 0
            continue
        assert_removable(pyrunc, name)
