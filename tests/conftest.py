"""What holds for all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

#: Commands make their snapshots here, for the boot (docs/snapshot.md); so do those of tests.
SNAPSHOTS = Path("/run/pyrunc/@snapshot")


@pytest.fixture(scope="session", autouse=True)
def no_snapshots_left():
    """Remove those that were not there before, and their directory, too."""
    before = set(SNAPSHOTS.iterdir()) if SNAPSHOTS.is_dir() else None
    yield
    if os.geteuid() != 0 or not SNAPSHOTS.is_dir():
        return
    for path in SNAPSHOTS.iterdir():
        if path not in (before or ()):
            path.unlink(missing_ok=True)
    if before is None:
        SNAPSHOTS.rmdir()
