"""What ids are called on the two sides of a user namespace (user_namespaces(7))."""

from __future__ import annotations

from pyrunc import ids
from pyrunc.linux import files

#: The mapping where there is no user namespace between the two sides.
IDENTITY = [(0, 0, ids.HIGHEST + 1)]


def id_mapping(pid: int | str, name: str) -> list[tuple[int, int, int]]:
    """Return the id mapping of the process's user namespace: ``(inside, outside, count)``."""
    numbers = [int(n) for n in files.read_file(f"/proc/{pid}/{name}").split()]
    return list(zip(numbers[::3], numbers[1::3], numbers[2::3], strict=True))


def outside(mapping: list[tuple[int, int, int]], number: int) -> int:
    """Return what the id is called outside of the container; -1 when it is not mapped."""
    for inside, first, count in mapping:
        if inside <= number < inside + count:
            return first + number - inside
    return -1
