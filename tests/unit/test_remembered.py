"""What who makes many containers remembers: the plan of those that are alike, and of no others."""

from __future__ import annotations

import os
from typing import Any

import pytest

from pyrunc.container.making.create_options import CreateOptions
from pyrunc.container.making.remembered import Planned, Remembered, key_of
from pyrunc.container.making.runtime_plan import plan_container
from pyrunc.plan.facts import Facts
from pyrunc.process.seal import FilledIn, launch_fds
from pyrunc.spec.default import default_spec

OPTIONS = CreateOptions("/", held=True, no_new_keyring=True)


def spec_of(path: str = "", **linux: Any) -> Any:
    """A config without what makes it one of its own."""
    spec: Any = default_spec(cgroup_v2=True)
    spec["process"]["terminal"] = False
    spec["mounts"] = [mount for mount in spec["mounts"] if mount["type"] != "cgroup"]
    spec["linux"] |= {"cgroupsPath": path, **linux}
    return spec


def test_containers_of_one_config_have_one_key_wherever_their_cgroups_are():
    key = key_of(spec_of("/a/1"), OPTIONS, True)
    assert key
    assert key == key_of(spec_of("/a/2"), OPTIONS, True)


def test_another_config_other_options_and_another_host_have_another_key():
    keys = {
        key_of(spec_of(), OPTIONS, True),
        key_of(spec_of(), OPTIONS, False),
        key_of(spec_of(), CreateOptions("/", no_new_keyring=True), True),
        key_of(spec_of(maskedPaths=[]), OPTIONS, True),
        key_of(spec_of() | {"hostname": "other"}, OPTIONS, True),
    }
    assert len(keys) == 5


@pytest.mark.parametrize(
    "own",
    [
        {"hooks": {"poststop": [{"path": "/h"}]}},
        {"mounts": [{"destination": "/c", "type": "cgroup", "source": "cgroup"}]},
        {"linux": {"namespaces": [{"type": "network", "path": "/proc/1/ns/net"}]}},
        {"process": {"cwd": "/", "args": ["a"], "apparmorProfile": "p"}},
    ],
)
def test_what_is_looked_up_each_time_has_no_key(own: Any):
    assert key_of(spec_of() | own, OPTIONS) == b""
    remembered = Remembered()
    remembered.put(b"", Planned(plan(spec_of()), Facts(held=True)))
    assert remembered.get(b"") is None


def plan(spec: Any) -> Any:
    return plan_container(spec, "a", OPTIONS, b"{}", Facts(held=True))


def test_the_same_plan_serves_another_container_with_its_own_steps_of_the_runtime():
    spec = spec_of()
    first = plan(spec)
    second = plan_container(spec, "b", OPTIONS, b"", Facts(held=True), first)
    assert second is not first
    assert (second.builder, second.init) == (first.builder, first.init)
    assert first.runtime[0].describe() == "reserve the id a"
    assert second.runtime[0].describe() == "reserve the id b"
    assert second.runtime[1:] == first.runtime[1:]


def test_a_held_container_is_planned_to_execute_nothing():
    planned = plan(spec_of())
    labels = planned.init[0].describe()
    assert labels[-1] == "wait for the start"
    assert not [step for step in planned.builder if "find the program" in step.describe()]


def test_launch_programs_that_were_filled_in_are_used_again_for_the_same_values_only():
    programs = plan(spec_of()).init
    known = {"up": 9, "down": 8, "start": 7, "result": 6, "cwd by root": True, "more": object()}
    filled = FilledIn(programs, known)
    assert filled.holds(known | {"more": "other"})
    assert not filled.holds(known | {"up": 10})
    assert not filled.holds(known | {"cwd by root": False})


def test_they_are_what_would_be_filled_in_later():
    programs = plan(spec_of()).init
    read, write = os.pipe()
    known = {"up": write, "down": read, "cwd by root": True}
    opened = [*FilledIn(programs, known).open(), *launch_fds(programs, known)]
    try:
        first, second = (os.pread(descriptor, 1 << 20, 0) for descriptor in opened)
        assert first == second
        assert os.get_inheritable(read)
        assert os.get_inheritable(write)
        assert all(os.get_inheritable(descriptor) for descriptor in opened)
    finally:
        for descriptor in (*opened, read, write):
            os.close(descriptor)
