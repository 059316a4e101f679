"""What the host's /proc tells about a process in a container: its namespaces, ids and number."""

from __future__ import annotations

import posix

from pyrunc.linux import files
from pyrunc.process.namespaces import FILES


def differing_namespaces(pid: int) -> tuple[str, ...]:
    """Return the types of namespace in which the process ``pid`` is elsewhere than we."""
    differing = []
    for kind, name in FILES.items():
        try:
            there = posix.stat(f"/proc/{pid}/ns/{name}")
            here = posix.stat(f"/proc/self/ns/{name}")
        except FileNotFoundError:
            # A kernel without this type.
            continue
        if there.st_ino != here.st_ino:
            differing.append(kind)
    return tuple(differing)


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
