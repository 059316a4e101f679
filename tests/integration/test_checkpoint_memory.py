"""Checkpoints in several steps: memory first, while the container runs on."""

from __future__ import annotations

import json

import pytest
from checkpoints import goes_on, images, number_in, restore, wait_for

__all__ = ["images", "restore"]

#: Fills some 20 MiB with numbers, of which it then checks some and sets some again.
MEMORY = """
BEGIN {
    for (i = 0; i < 200000; i++) a[i] = "number " i
    for (round = 1; ; round++) {
        for (i = round % 1000; i < 200000; i += 1000) if (a[i] != "number " i) exit 1
        a[round] = "number " round
        print round > "/tmp/count"
        close("/tmp/count")
        system("sleep 0.02")
    }
}
"""


def test_three_pre_dumps_and_a_dump(make_bundle, pyrunc, images, restore):
    bundle = make_bundle(["awk", MEMORY])
    container = pyrunc.start(bundle)
    count = bundle.rootfs / "tmp/count"
    wait_for(lambda: number_in(count) > 1, seconds=60)
    images.mkdir()
    parent = []
    for step in ("one", "two", "three"):
        words = ["checkpoint", "--pre-dump", "--image-path", images / step, *parent]
        done = pyrunc(*words, container.id, timeout=200)
        if "does not track changes of memory" in done.stderr:
            assert pyrunc.state(container)["status"] == "running"
            pytest.skip("needs a kernel that tracks changes of memory (CONFIG_MEM_SOFT_DIRTY)")
        assert done.code == 0, done
        assert pyrunc.state(container)["status"] == "running"
        parent = ["--parent-path", f"../{step}"]
    words = ["checkpoint", "--stats", "--image-path", images / "last", *parent]
    last = pyrunc(*words, container.id, timeout=200)
    assert last.code == 0, last
    assert json.loads(last.stdout)["pagesOfParent"] > 1000
    before = number_in(count)
    restore(bundle, images / "last", timeout=200)
    assert goes_on(bundle, before)
