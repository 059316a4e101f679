"""What tests of mounts look with, and a mount of the host's to bind."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from views import MountLine, mounts_by_point

LOOK = ["cat", "/proc/self/mountinfo"]


MAPPING = [{"containerID": 0, "hostID": 4000, "size": 10}]


@pytest.fixture
def look(pyrunc):
    """Run the bundle and return its mounts by place."""

    def run(bundle) -> dict[str, MountLine]:
        bundle.process["args"] = LOOK
        result = pyrunc.run(bundle)
        assert result.code == 0, result
        return mounts_by_point(result.stdout)

    return run


@pytest.fixture
def host_mount(tmp_path):
    """Mount on the host, below the test's directory; all is unmounted with the test."""
    made: list[Path] = []

    def mount(name: str, *arguments: str, kind: str = "tmpfs") -> Path:
        place = tmp_path / name
        place.mkdir(parents=True, exist_ok=True)
        subprocess.run(["mount", "-t", kind, *arguments, kind, place], check=True)
        made.append(place)
        return place

    yield mount
    for place in reversed(made):
        subprocess.run(["umount", "-R", "-l", place], check=True)
