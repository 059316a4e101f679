"""What is asked for of a container is known again by its bytes."""

from __future__ import annotations

from pyrunc.engine.messages import packed, unpacked


def test_equal_values_are_equal_packed_and_come_back():
    name = "".join(["mem", "ory"])
    one = {"limits": ["memory", "memory"], "spec": {"memory": 1}}
    other = {"limits": [name, "".join(["memo", "ry"])], "spec": {name: 1}}
    assert packed(one) == packed(other)
    assert unpacked(packed(one)) == one


def test_different_values_differ():
    assert packed({"pids": 1}) != packed({"pids": 2})
    assert packed({"swap": 0}) != packed({"swap": None})
