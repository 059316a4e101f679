"""The fixtures of the integration tests, for tests that mean harm to the runtime."""

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

no_ignored_signals = fixtures.no_ignored_signals
rootfs_template = fixtures.rootfs_template
compiled = fixtures.compiled
public_path = fixtures.public_path
make_bundle = fixtures.make_bundle
pyrunc = fixtures.pyrunc
runc = fixtures.runc
crun = fixtures.crun
