"""Id mappings, and an ordinary user who has some."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from pathlib import Path

import pytest

#: Tests that run at the same time have each their own.
USER = f"pyrunc-test-{os.getpid()}"


def ids(container_id: int, host_id: int, size: int) -> dict[str, int]:
    return {"containerID": container_id, "hostID": host_id, "size": size}


@pytest.fixture(scope="module")
def user():
    """An ordinary user with subordinate ids, as useradd(8) gives them; gone in the end."""
    if not shutil.which("useradd") or not shutil.which("newuidmap"):
        pytest.skip("an ordinary user needs useradd (passwd) and newuidmap (uidmap)")
    subprocess.run(["useradd", "--add-subids-for-system", "-r", "-m", USER], check=True)
    yield pwd.getpwnam(USER)
    subprocess.run(["userdel", "-r", USER], check=True, capture_output=True)


def subordinate(file: str) -> tuple[int, int]:
    for line in Path(file).read_text().splitlines():
        name, first, count = line.split(":")
        if name == USER:
            return int(first), int(count)
    raise AssertionError(f"{file} has no line for {USER}")
