"""The fixtures of the integration tests, for containers of several runtimes side by side."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

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
no_ignored_signals = fixtures.no_ignored_signals
