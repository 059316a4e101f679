"""Fixtures for the tests of every engine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from same_commands import Engine


@pytest.fixture
def volume(engine: Engine) -> Path:
    directory = engine.directory / "volume"
    directory.mkdir(exist_ok=True)
    (directory / "file").write_text("from the host\n")
    return directory
