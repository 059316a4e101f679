"""Which configs give the container's cgroup away, and what of it (config-linux.md)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pyrunc.container.making.cgroup_owner import give_cgroup_away

#: Where the v2 hierarchy is, alone or beside v1.
UNIFIED = (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified"))
WRITABLE = {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup"}
USER = 1234


@pytest.fixture
def cgroup() -> Iterator[Path]:
    mount = next((m for m in UNIFIED if (m / "cgroup.controllers").exists()), None)
    if mount is None or os.geteuid() != 0 or not os.access(mount, os.W_OK):
        pytest.skip("needs root and a cgroup v2 hierarchy that may be written to")
    path = mount / f"pyrunc-owner-{os.getpid()}"
    path.mkdir()
    yield path
    path.rmdir()


def owned(cgroup: Path, **spec: Any) -> set[str]:
    """Names of the files that are the user's afterwards; "." is the directory."""
    process = {"user": {"uid": USER, "gid": 0}}
    give_cgroup_away({"process": process, **spec}, str(cgroup), os.getpid())  # type: ignore[typeddict-item]
    return {name for name in (".", *os.listdir(cgroup)) if (cgroup / name).stat().st_uid == USER}


def test_a_writable_mount_gives_away_what_the_kernel_lists(cgroup: Path) -> None:
    listed = set(Path("/sys/kernel/cgroup/delegate").read_text().split())
    given = owned(cgroup, mounts=[{**WRITABLE, "options": ["nosuid", "relatime"]}])
    assert given == {".", *listed} & {".", *os.listdir(cgroup)}
    assert {"cgroup.procs", "cgroup.threads", "cgroup.subtree_control"} <= given
    assert cgroup.stat().st_gid == 0


@pytest.mark.parametrize(
    "mount",
    [
        {**WRITABLE, "options": ["nosuid", "ro"]},
        {**WRITABLE, "destination": "/cgroup"},
        {**WRITABLE, "source": "cgroup2"},
    ],
)
def test_other_mounts_give_nothing_away(cgroup: Path, mount: dict[str, Any]) -> None:
    assert owned(cgroup, mounts=[mount]) == set()


def test_nothing_is_given_without_a_mount_or_a_process(cgroup: Path) -> None:
    assert owned(cgroup) == set()
    assert owned(cgroup, mounts=[WRITABLE], process=None) == set()
