"""A plan is pure: three lists that tell what will be done, and undo themselves backwards."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from pyrunc.container.making.create_options import CreateOptions
from pyrunc.container.making.runtime_plan import plan_container
from pyrunc.container.undertaking import RuntimeStep, Undertaking
from pyrunc.errors import Error
from pyrunc.plan.facts import Facts
from pyrunc.spec.default import default_spec
from pyrunc.trace import OFF


def told(spec, **options):
    plan = plan_container(spec, "a", CreateOptions("/bundle", **options), b"{}", Facts())
    runtime = [step.describe() for step in plan.runtime]
    builder = [step.describe() for step in plan.builder]
    return runtime, builder, [line for program in plan.init for line in program.describe()]


def spec_with(**process):
    spec = default_spec(cgroup_v2=True)
    spec["process"] |= {"terminal": False, **process}
    return spec


def test_all_three_lists_can_be_told_of_before_anything_is_there():
    runtime, builder, init = told(spec_with(), pid_file="/p")
    assert runtime[0] == "reserve the id a"
    assert runtime[-2:] == ["write pid file /p", "let init outlive the runtime"]
    assert "mount proc on /proc" in builder
    assert "find the program 'sh'" in builder
    assert init[0] == "become undumpable"
    assert init[-1] == "exec <program>"


@pytest.mark.parametrize(
    ("resources", "waits"),
    [
        ({}, False),
        ({"memory": {"limit": 64 << 20, "swap": -1}, "pids": {"limit": 1}}, False),
        ({"memory": {"limit": 1 << 20}}, True),
        ({"memory": {"limit": 64 << 20, "kernel": 1 << 20}}, True),
        ({"unified": {"memory.max": "1M"}}, True),
    ],
)
def test_limits_in_which_init_has_no_room_wait_until_it_is_ready(resources, waits):
    spec = spec_with()
    spec["linux"]["resources"] = resources
    facts = Facts(stands_still=True)
    plan = plan_container(spec, "a", CreateOptions("/bundle"), b"{}", facts)
    lines = [step.describe() for step in plan.runtime]
    ready = "wait for the builder to become init, and for that to be ready"
    assert (lines.index("set the last limits") > lines.index(ready)) is waits


def test_what_the_builder_asks_for_the_runtime_answers_in_the_same_order():
    spec = spec_with(terminal=True)
    spec["hooks"] = {"prestart": [{"path": "/h"}], "poststop": [{"path": "/h"}]}
    spec["linux"]["netDevices"] = {"eth7": {}}
    runtime, builder, _ = told(spec, console_socket="/s")
    answers = ["send the terminal to /s", "move network devices in: eth7", "run the prestart hooks"]
    assert [line for line in runtime if line in answers] == answers
    asked = [line for line in builder if "let the runtime" in line]
    assert asked[-1] == "let the runtime run the prestart hooks"
    assert runtime[0] == "should anything fail, run the poststop hooks"


def test_init_keeps_what_is_not_known_yet_as_names():
    plan = plan_container(spec_with(), "a", CreateOptions("/"), b"{}", Facts())
    (program,) = plan.init
    known = {"program": "/bin/sh", "environment": ["A=b"]}
    filled = program.filled(known | {"up": 9, "down": 8, "start": 7, "result": 6})
    assert {6, 7, 8, 9} <= filled.descriptors
    assert filled.describe()[-1] == "exec /bin/sh"
    # What it was made of is as it was: it can be filled in again.
    assert program.describe()[-1] == "exec <program>"


class Noting(RuntimeStep):
    name: str
    fails: str = ""

    def describe(self):
        return self.name

    def apply(self, doing):
        doing.noted.append(self.name)
        if self.fails == "apply":
            raise Error("it was refused")

    def undo(self, doing):
        doing.noted.append(f"not {self.name}")
        if self.fails == "undo":
            raise Error("it stays")


def test_what_was_begun_is_undone_backwards_whatever_fails():
    warnings = []
    log = SimpleNamespace(warn=warnings.append)
    doing = Undertaking(SimpleNamespace(trace=OFF, log=log))
    doing.noted = []
    steps = (Noting("a", ""), Noting("b", "undo"), Noting("c", "apply"), Noting("d", ""))
    with pytest.raises(Error, match="it was refused") as caught:
        doing.apply(steps)
    doing.undo(caught.value)
    assert doing.noted == ["a", "b", "c", "not c", "not b", "not a"]
    assert warnings == ["cannot remove what was made so far: it stays"]
