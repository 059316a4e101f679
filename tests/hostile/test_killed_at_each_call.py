"""kill -9 after a system call of a command or of one of its children: `delete --force` clears all.

Each command is run from call to call (stepper.c); whoever returns from the chosen one is killed. In
the bounded part the calls are picked evenly, from the first on that is more than the interpreter's
start.
"""

from __future__ import annotations

import json
import platform

import pytest
from stepping import HERE, Stepper, remove, spread, still_alive

#: The first of these on x86_64 marks the end of what every interpreter does to start: flock(2),
#: mkdir(2), mkdirat(2), pipe2(2), memfd_create(2), clone3(2).
REAL_WORK = {73, 83, 258, 293, 319, 435}


@pytest.fixture
def stepper(compiled, tmp_path):
    if platform.machine() != "x86_64":
        pytest.skip("the stepper knows x86_64 only")
    program = compiled("stepper", (HERE / "stepper.c").read_text())
    return Stepper(program, tmp_path)


def plain(bundle):
    pass


def with_everything(bundle):
    """All that makes further processes: users and clocks of its own, an id-mapped mount, hooks."""
    bundle.user_namespace(host=100000)
    bundle.give_to(100000)
    bundle.namespace("time")
    bundle.linux["timeOffsets"] = {"monotonic": {"secs": 100}}
    source = bundle.path / "volume"
    source.mkdir()
    mapping = {"containerID": 0, "hostID": 100000, "size": 65536}
    bundle.bind(source, "/mnt")
    bundle.config["mounts"][-1].update(uidMappings=[mapping], gidMappings=[mapping])
    true = [{"path": "/bin/true", "args": ["true"]}]
    kinds = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart")
    bundle.config["hooks"] = dict.fromkeys((*kinds, "poststop"), true)


class Case:
    """A command, what must be there before it, and its container."""

    def __init__(self, name, pyrunc, bundle):
        self.name = name
        self.pyrunc = pyrunc
        self.bundle = bundle
        bundle.process["args"] = ["true"] if name == "run" else ["sleep", "1000"]
        bundle.save()

    def prepare(self):
        """Bring the container to where the command starts from; return the command's words."""
        pyrunc = self.pyrunc
        self.id = pyrunc.new_id()
        if self.name in ("create", "run"):
            words = [self.name, "--bundle", str(self.bundle.path), self.id]
            return [*pyrunc.command, *words]
        made = pyrunc("create", "--bundle", self.bundle.path, self.id)
        assert made.code == 0, made
        if self.name != "start":
            assert pyrunc("start", self.id).code == 0
        if self.name == "resume":
            assert pyrunc("pause", self.id).code == 0
        options = {
            "delete": ["delete", "--force"],
            "update": ["update", "--pids-limit", "100", "--memory", "100000000"],
        }.get(self.name, [self.name])
        after = {"exec": ["true"], "kill": ["KILL"]}.get(self.name, [])
        return [*pyrunc.command, *options, self.id, *after]

    def judge(self, outcome):
        """Return all that is wrong after the command has ended like this."""
        wrong = ["it hung"] if outcome.hung else []
        told = self.pyrunc("state", self.id)
        alive = outcome.alive
        if told.code == 0:
            state = json.loads(told.stdout)
            own = (
                {state.get("pid")} if state["status"] in ("created", "running", "paused") else set()
            )
            # `exec`'s program outlives its caller, and ends by itself.
            wrong += still_alive([pid for pid in alive if pid not in own])
        else:
            wrong += still_alive(alive)
        wrong += remove(self.pyrunc, self.id, alive)
        self.pyrunc.ids.remove(self.id)
        return wrong


def chosen(calls, many):
    first = next((n for n, call in enumerate(calls, 1) if call in REAL_WORK), 1)
    picked = spread(first, len(calls), many)
    if many > len(calls) - first:
        picked = spread(1, first - 1, 20) + picked
    return picked


COMMANDS = {
    "create": 6, "run": 3, "start": 2, "exec": 4, "kill": 2, "pause": 2, "resume": 2, "update": 2,
    "delete": 3,
}  # fmt: skip


CASES = [(name, plain) for name in COMMANDS]
CASES += [(name, with_everything) for name in ("create", "run", "start", "exec", "delete")]


@pytest.mark.parametrize(("name", "content"), CASES)
def test_killed(make_bundle, pyrunc, stepper, tally, factor, public_path, name, content):
    bundle = make_bundle(at=public_path / "bundle")
    content(bundle)
    case = Case(name, pyrunc, bundle)
    counted = stepper.run("count", 0, *case.prepare())
    assert counted.status == 0, counted.stderr
    assert case.judge(counted) == []
    for number in chosen(counted.calls, COMMANDS[name] * factor):
        # The one that made the call, or the command, its parent.
        mode = "kill-first" if number % 3 == 0 else "kill"
        outcome = stepper.run(mode, number, *case.prepare())
        tally(f"{name}, {mode} at {number} ({outcome.number})", case.judge(outcome))
