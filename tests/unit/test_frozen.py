"""When the state of a process tells that its cgroup is not frozen."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from pyrunc.cgroups import frozen


@pytest.mark.parametrize(
    ("release", "tells"),
    [
        ("6.18.44-fc-v857", True), ("6.1.0-18-amd64", True), ("6.1-rc3", True), ("7.0", True),
        ("6.0.9", False), ("5.14.0-427.el9.x86_64", False), ("5.9-rc1", False), ("6", False),
        ("", False), ("next-6.18", False),
    ],
)  # fmt: skip
def test_it_is_told_from_linux_6_1_on(
    monkeypatch: pytest.MonkeyPatch, release: str, tells: bool
) -> None:
    """A release that says nothing of the kind is an old one: the freezer is looked at then."""
    monkeypatch.setattr(frozen.posix, "uname", lambda: SimpleNamespace(release=release))
    assert frozen.Many().tells(1, b"S") is tells


@pytest.mark.parametrize(
    ("version", "state"),
    [(1, b"D"), (1, b"T"), (1, b"t"), (1, b""), (1, b"I"), (2, b"S"), (2, b"R")],
)
def test_other_states_and_cgroup_v2_tell_nothing(version: int, state: bytes) -> None:
    """What a frozen cgroup of v2 holds is shown as S."""
    assert not frozen.Many().tells(version, state)
