"""How much is tried: FUZZ_EXAMPLES of each kind (default: a few, for every run of the tests).

``make fuzz`` (tools/fuzz) sets it, and goes on with other examples until its time is over.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

from hypothesis import HealthCheck, settings

_PATH = Path(__file__).resolve().parents[1] / "integration" / "conftest.py"
_spec = importlib.util.spec_from_file_location("integration_fixtures", _PATH)
assert _spec
assert _spec.loader
fixtures = importlib.util.module_from_spec(_spec)
sys.modules["integration_fixtures"] = fixtures
_spec.loader.exec_module(fixtures)

no_ignored_signals = fixtures.no_ignored_signals
rootfs_template = fixtures.rootfs_template
make_bundle = fixtures.make_bundle
pyrunc = fixtures.pyrunc

settings.register_profile(
    "fuzz",
    max_examples=int(os.environ.get("FUZZ_EXAMPLES", "60")),
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)
settings.load_profile("fuzz")
