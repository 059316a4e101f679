"""The runtime's lists of `start`, and of `run` after the creation."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest

from pyrunc.container.record.entry import Entry
from pyrunc.container.run import plan_run
from pyrunc.container.start import Starting, plan_start
from pyrunc.errors import WrongStatus
from pyrunc.trace import OFF

HOOKS = {"hooks": {"poststart": [{"path": "/bin/true"}]}}


def told(steps):
    return [step.describe() for step in steps]


def test_start_lets_init_go_on_before_others_are_let_in():
    assert told(plan_start({}, notifies=False)) == [
        "let init go on",
        "wait for init to execute the program",
        "let others at the container, which runs",
        "see whether the program was killed for want of memory",
    ]


def test_hooks_run_when_others_are_let_in_and_readiness_is_waited_for_last():
    steps = told(plan_start(HOOKS, notifies=True))
    assert steps[0] == "put a socket between the container and $NOTIFY_SOCKET"
    assert steps.index("run the poststart hooks") == 1 + steps.index(
        "let others at the container, which runs"
    )
    assert steps[-1] == "wait for the program to be ready"


def test_run_in_the_foreground_waits_for_the_end_and_not_for_readiness():
    words = {"notifies": True, "detach": False, "adopt": True}
    steps = told(plan_run(HOOKS, keep=False, **words))
    assert "wait for the program to be ready" not in steps
    assert steps[-2:] == ["wait for the container to end", "remove the container"]
    assert told(plan_run(HOOKS, keep=True, **words)) == steps[:-1]


def test_run_detached_is_start_that_leaves_nothing_of_what_failed():
    steps = plan_run(HOOKS, notifies=False, detach=True, keep=False, adopt=True)
    assert told(steps)[0] == "should it fail, remove the container"
    assert steps[1:] == plan_start(HOOKS, notifies=False)


@pytest.mark.parametrize("missing", ["result.fifo", "exec.fifo"])
def test_what_failed_leaves_no_descriptor(tmp_path, missing):
    """A container whose init has ended has no reader of one fifo, or no fifo any more."""
    for name in {"result.fifo", "exec.fifo"} - {missing}:
        os.mkfifo(tmp_path / name)
    before = os.listdir("/proc/self/fd")
    entry = SimpleNamespace(id="x", directory=os.open(tmp_path, os.O_RDONLY))
    entry.open_fifo = Entry.open_fifo.__get__(entry)
    starting = Starting(SimpleNamespace(trace=OFF, log=None), entry, {})
    with pytest.raises(WrongStatus, match="has stopped"):
        starting.carry_out(plan_start({}, notifies=False))
    os.close(entry.directory)
    assert os.listdir("/proc/self/fd") == before
