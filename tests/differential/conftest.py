"""The fixtures of the integration tests, for containers of several runtimes side by side."""

from __future__ import annotations

from bundles import make_bundle, rootfs_template
from runtimes import no_ignored_signals, pyrunc

__all__ = ["make_bundle", "no_ignored_signals", "pyrunc", "rootfs_template"]
