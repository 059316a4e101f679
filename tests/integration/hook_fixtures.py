"""Hooks that tell a file what they see."""

from __future__ import annotations

import pytest


@pytest.fixture
def hook(tmp_path, rootfs_template):
    """Make a hook that runs a shell script; for startContainer it is put into the bundle."""
    busybox = rootfs_template / "bin/busybox"

    def make(script, bundle=None, **more):
        path = "/bin/sh" if bundle else str(busybox)
        args = ["sh", "-c", script]
        return {"path": path, "args": args, "env": ["PATH=/bin:/usr/bin"], **more}

    return make


@pytest.fixture
def out(tmp_path):
    directory = tmp_path / "out"
    directory.mkdir()
    return directory
