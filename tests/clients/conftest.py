"""Fixtures for the tests of every engine."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from same_commands import Engine

# For what is no fixture there: public_command.
sys.path.append(str(Path(__file__).resolve().parents[1] / "integration"))


@pytest.fixture
def volume(engine: Engine) -> Path:
    directory = engine.directory / "volume"
    directory.mkdir(exist_ok=True)
    (directory / "file").write_text("from the host\n")
    return directory
