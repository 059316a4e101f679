"""In which namespaces a container is elsewhere than the runtime, and the order of entering them."""

from __future__ import annotations

import posix

from pyrunc.process.namespaces import FILES, owner_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable


def differing_namespaces(pid: int) -> tuple[str, ...]:
    """Return the types of namespace in which the process ``pid`` is elsewhere than we."""
    differing = []
    for kind, name in FILES.items():
        try:
            # The links say the same if it is the same (namespaces(7)), in half of stat(2)'s time.
            there = posix.readlink(f"/proc/{pid}/ns/{name}")
            here = posix.readlink(f"/proc/self/ns/{name}")
        except FileNotFoundError:
            # A kernel without this type.
            continue
        if there != here:
            differing.append(kind)
    return tuple(differing)


def open_in_order(pid: int, kinds: Iterable[str]) -> list[tuple[str, int]]:
    """Open namespaces of a process in the order in which they can be entered one by one.

    Those that the process's user namespace owns are entered with the rights that it gives, so
    after it; all others, which are the host's, with ours, before. (With a pidfd the kernel does
    that by itself.) The mount namespace comes last: what /proc is then, matters no more.
    """
    opened = {
        kind: posix.open(f"/proc/{pid}/ns/{FILES[kind]}", posix.O_RDONLY | posix.O_CLOEXEC)
        for kind in sorted(kinds, key="mount".__eq__)
    }
    if "user" not in opened:
        return list(opened.items())
    user = posix.stat(opened["user"]).st_ino
    before: list[tuple[str, int]] = []
    after: list[tuple[str, int]] = []
    for kind, descriptor in opened.items():
        if kind != "user":
            (after if owner_of(descriptor) == user else before).append((kind, descriptor))
    return [*before, ("user", opened["user"]), *after]
