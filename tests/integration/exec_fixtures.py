"""A container to execute processes in."""

from __future__ import annotations

import pytest


@pytest.fixture
def box(make_bundle, pyrunc):
    """A running container; ``box(**changes)`` for one with another config."""

    def start(*options, **changes):
        bundle = make_bundle(args=["sleep", "1000"], **changes)
        container = pyrunc.start(bundle, *options)
        container.bundle = bundle
        return container

    return start


def status_of(text):
    return dict(line.split(":\t", 1) for line in text.splitlines() if ":\t" in line)
