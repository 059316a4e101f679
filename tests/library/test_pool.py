"""`pool=`: containers that are ready before they are asked for, and what waits in them."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
from conftest import children_of, keeper_and_engine

import pyrunc
from waiting import soon

pytestmark = pytest.mark.usefixtures("no_remains")


def test_a_pool_has_containers_ready():
    for number in range(8):
        result = pyrunc.run(["echo", str(number)], pool=3, text=True)
        assert result.stdout == f"{number}\n"
        time.sleep(0.1)
    with pytest.raises(pyrunc.ProgramNotFound):
        pyrunc.run(["no-such-program"], pool=3)


def waiting_below(engine):
    """Return the pids of the host's processes that wait in an engine's containers."""
    return [pid for pid in children_of(engine) if b"pyrunc-init" in command_of(pid)]


def command_of(pid):
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def test_what_waits_in_a_ready_container_ends_with_the_engine():
    """It is its init alone, which brings the program forth."""
    script = "echo /proc/[0-9]*; echo $$ $PPID"
    for _ in range(3):
        result = pyrunc.run(["sh", "-c", script], pool=2, text=True)
        assert result.stdout.splitlines() == ["/proc/1 /proc/2", "2 1"]
        time.sleep(0.3)
    _, engine = keeper_and_engine()
    assert soon(lambda: len(waiting_below(engine)) == 2)
    waiting = waiting_below(engine)
    os.kill(engine, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while any(map(command_of, waiting)) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not any(map(command_of, waiting))


def test_when_somebody_kills_what_waits_another_comes():
    assert pyrunc.run(["true"], pool=1).ok
    _, engine = keeper_and_engine()
    assert soon(lambda: len(waiting_below(engine)) == 1)
    (init,) = waiting_below(engine)
    os.kill(init, signal.SIGKILL)
    # One that is about to die could still be given the program.
    deadline = time.monotonic() + 10
    while command_of(init):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert pyrunc.run(["echo", "well"], pool=1).stdout == b"well\n"


def test_a_ready_container_serves_another_program_of_the_same_kind_only():
    """One of another kind is not like what was sent ahead: user, limits and directory are its."""
    for options in ({}, {"user": (5, 6)}, {"cwd": "/usr"}, {"env": {"A": "b"}}, {}):
        script = "id -u; pwd; echo $A"
        lines = pyrunc.run(["sh", "-c", script], pool=1, text=True, **options).stdout.splitlines()
        uid, _ = options.get("user", (65534, 0))
        env = options.get("env", {})
        assert lines == [str(uid), options.get("cwd", "/tmp"), env.get("A", "")]
        time.sleep(0.2)


def test_what_a_program_leaves_behind_is_gone_when_its_result_is_there():
    """Where nothing is left, the end of the sandbox's init is not waited for: here it is."""
    name = f"left-{os.getpid()}"
    script = f"cp /usr/bin/sleep /tmp/{name}; setsid /tmp/{name} 1000 >/dev/null 2>&1 &"
    for pool in (0, 0, 1, 1):
        assert pyrunc.run(["sh", "-c", f"{script} sleep 0.1"], pool=pool).ok
        found = [entry for entry in Path("/proc").iterdir() if entry.name.isdigit()]
        assert not [entry for entry in found if name.encode() in command_of(entry.name)]


def test_a_sandbox_that_is_paused_after_its_program_has_ended_can_be_closed():
    with pyrunc.Sandbox() as box:
        assert box.run(["true"]).ok
        box.pause()


def test_a_program_that_has_moved_since_its_container_was_made_is_found(tmp_path):
    """A ready container knows where the last program was."""
    first, second = tmp_path / "first", tmp_path / "second"
    for directory in (first, second):
        directory.mkdir()
        (directory / "moving").write_text(f"#!/bin/sh\necho {directory.name}\n")
        (directory / "moving").chmod(0o755)
    options = {
        "binds": {"/first": first, "/second": second},
        "env": {"PATH": "/first:/second:/usr/bin:/bin"},
        "pool": 1,
        "text": True,
    }
    assert pyrunc.run(["moving"], **options).stdout == "first\n"
    _, engine = keeper_and_engine()
    assert soon(lambda: len(waiting_below(engine)) == 1)
    (first / "moving").unlink()
    assert pyrunc.run(["moving"], **options).stdout == "second\n"
    assert soon(lambda: len(waiting_below(engine)) == 1)
    (second / "moving").unlink()
    with pytest.raises(pyrunc.ProgramNotFound):
        pyrunc.run(["moving"], **options)
