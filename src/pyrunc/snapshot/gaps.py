"""What is free between the objects of a snapshot is filled, so that commands begin on new pages.

What modules and the rehearsal have left is full of gaps, and what a command allocates would go
there: a few bytes on this page, a few on that one, each of which the kernel has to copy.
"""

from __future__ import annotations

#: Objects of up to so many bytes lie in pools, each of which has blocks of one size, in steps of so
#: many; it begins at a multiple of its own size, with what is known of it (Objects/obmalloc.c).
_LARGEST_SMALL = 512
_STEP = 16
_POOL = 16384
_POOL_HEAD = 48
#: So many bytes in the order of their addresses are no gaps any more: half of a page, of which the
#: other half is the command's, with the pool's beginning that it writes to.
_IN_ORDER = 2000
#: Larger ones are malloc(3)'s: the sizes of gaps that are looked for, and what is none of them.
_SIZES = (32768, 16384, 8192, 4096, 2048, 1536, 1024, 768, 640, 544)
_LARGER = 100_000
#: In bytes of one size: where no end of the gaps is found, the allocators are other ones.
_MOST_SMALL, _MOST_LARGE = 64 << 10, 256 << 10
#: Of an object of bytes, what is not its content.
_BYTES_HEAD = bytes.__basicsize__

_fillings: list[object] = []


def fill_gaps() -> None:
    """Allocate until what comes next comes from where nothing was before."""
    for size in range(_STEP, _LARGEST_SMALL + 1, _STEP):
        in_order, last = 0, 0
        for _ in range(_MOST_SMALL // size):
            filling = _small(size)
            _fillings.append(filling)
            place = id(filling)
            if place % _POOL == _POOL_HEAD:
                in_order = 1
            else:
                in_order = in_order + 1 if in_order and place == last + size else 0
            last = place
            if in_order * size > _IN_ORDER:
                # From its first block on: the pool was empty.
                break
    # Too large for any gap: it is behind all of them, and the first gap of the command's own.
    behind = id(bytes(_LARGER))
    for size in _SIZES:
        for _ in range(_MOST_LARGE // size):
            filling = bytes(size)
            _fillings.append(filling)
            if id(filling) >= behind:
                break


def _small(size: int) -> object:
    """Return an object of that many bytes, of which the garbage collector keeps no account."""
    if size == 16:
        return object()
    if size == 32:
        return float(len(_fillings))
    return bytes(size - _BYTES_HEAD)
