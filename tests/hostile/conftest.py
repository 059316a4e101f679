"""The fixtures of the integration tests, and how much of each class of attack is tried.

``pytest tests/hostile`` tries a bounded part; ``make hostile`` sets HOSTILE_FACTOR and tries more.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

import pytest

_PATH = Path(__file__).resolve().parents[1] / "integration" / "conftest.py"
_spec = importlib.util.spec_from_file_location("integration_fixtures", _PATH)
assert _spec
assert _spec.loader
fixtures = importlib.util.module_from_spec(_spec)
sys.modules["integration_fixtures"] = fixtures
_spec.loader.exec_module(fixtures)

rootfs_template = fixtures.rootfs_template
make_bundle = fixtures.make_bundle
pyrunc = fixtures.pyrunc
runc = fixtures.runc
crun = fixtures.crun
compiled = fixtures.compiled
public_path = fixtures.public_path
no_ignored_signals = fixtures.no_ignored_signals


@pytest.fixture(scope="session")
def factor():
    """How many times the bounded number of attempts is to be made."""
    return int(os.environ.get("HOSTILE_FACTOR", "1"))
