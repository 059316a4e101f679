"""Checkpoints in several steps: memory first, while the container runs on."""

from __future__ import annotations

import json
import shutil

import pytest
from checkpoints import goes_on, images, number_in, restore, wait_for

__all__ = ["images", "restore"]

#: Fills 32 MiB with numbers, of which it then changes a few and checks all.
MEMORY = """
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#define PAGES 8192
static int memory[PAGES][1024];
int main(void) {
    for (int page = 0; page < PAGES; page++)
        memory[page][0] = page;
    for (int round = 1;; round++) {
        for (int page = 0; page < PAGES; page++)
            if (memory[page][0] != page)
                return 1;
        memory[round % PAGES][1] = round;
        FILE *count = fopen("/tmp/count", "w");
        fprintf(count, "%d", round);
        fclose(count);
        usleep(20000);
    }
}
"""


def test_three_pre_dumps_and_a_dump(make_bundle, pyrunc, images, restore, compiled):
    bundle = make_bundle(["/memory"])
    shutil.copy(compiled("memory", MEMORY), bundle.rootfs / "memory")
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
    assert json.loads(last.stdout)["pagesOfParent"] > 8000
    before = number_in(count)
    restore(bundle, images / "last", timeout=200)
    assert goes_on(bundle, before)
