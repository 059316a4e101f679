"""After the gaps are filled, what is allocated lies side by side where nothing was before."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
from pyrunc.snapshot.gaps import fill_gaps

# Objects of each size, every second of which is gone again.
objects = [bytes(size - 33) for size in range(48, 513, 16) for _ in range(160)]
large = [bytes(size) for size in range(600, 6000, 200) for _ in range(4)]
del objects[::2], large[::2]
fill_gaps()
for size in range(48, 513, 16):
    new = [bytes(size - 33) for _ in range(16384 // size // 2)]
    pages = {id(x) // 4096 for x in new}
    # A pool has four; what was in use while they were filled may have been let go of since.
    assert len(pages) <= 2 + 3, (size, len(pages))
new = [bytes(size) for size in (700, 900, 5000) for _ in range(5)]
behind = [x for x in new if id(x) > max(map(id, large))]
# Lists of free chunks that newer C libraries keep by themselves are not emptied.
assert len(behind) >= 10, len(behind)
"""


def test_new_objects_do_not_share_pages_with_old_ones():
    subprocess.run([sys.executable, "-c", SCRIPT], check=True, env={"PYTHONPATH": "src"})


def test_with_another_allocator_it_comes_to_an_end():
    script = (
        "from pyrunc.snapshot import gaps; gaps.fill_gaps();"
        "assert sum(x.__sizeof__() for x in gaps._fillings) < 5 << 20"
    )
    environment = {"PYTHONPATH": "src", "PYTHONMALLOC": "malloc"}
    subprocess.run([sys.executable, "-c", script], check=True, env=environment)
