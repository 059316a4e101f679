"""How much is tried: FUZZ_EXAMPLES of each kind (default: a few, for every run of the tests).

``make fuzz`` (tools/fuzz) sets it, and goes on with other examples until its time is over.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

from bundles import make_bundle, rootfs_template
from runtimes import no_ignored_signals, pyrunc

__all__ = ["make_bundle", "no_ignored_signals", "pyrunc", "rootfs_template"]

settings.register_profile(
    "fuzz",
    max_examples=int(os.environ.get("FUZZ_EXAMPLES", "60")),
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)
settings.load_profile("fuzz")
