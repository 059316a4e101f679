"""Fixtures for tests with real containers: a root file system, bundles, and the command itself.

    def test_hostname(make_bundle, pyrunc):
        bundle = make_bundle(args=["hostname"], hostname="box")
        assert pyrunc.run(bundle).stdout == "box\n"

``make_bundle`` gives a bundle whose config is a plain dictionary, to be changed at will until
it is run. ``pyrunc`` runs the command with a state root of its own, removes all its containers
when the test is over, and makes sure that nothing of them is left on the machine. ``runc`` and
``crun`` are the same for those runtimes, where they are installed.
"""

from __future__ import annotations

from bundles import make_bundle, rootfs_template
from runtimes import compiled, crun, no_ignored_signals, public_path, pyrunc, runc, state_root

__all__ = [
    "compiled",
    "crun",
    "make_bundle",
    "no_ignored_signals",
    "public_path",
    "pyrunc",
    "rootfs_template",
    "runc",
    "state_root",
]
