"""Lists of CPUs and memory nodes, as the kernel writes and reads them."""

from __future__ import annotations


def numbers_of(ranges: str) -> list[int]:
    """Return the numbers in a list of CPUs or memory nodes such as ``0-3,7``.

    That is "List format" in cpuset(7).

    :raises ValueError: when it holds something else than numbers.
    """
    numbers: list[int] = []
    for part in ranges.replace(" ", "").split(","):
        if part:
            first, _, last = part.partition("-")
            numbers.extend(range(int(first), int(last or first) + 1))
    return numbers


def mask_of(ranges: str) -> int:
    """Return the same as a number with those bits set."""
    mask = 0
    for number in numbers_of(ranges):
        mask |= 1 << number
    return mask
