"""What was changed in a throw-away layer, read from the overlay's upper directory."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pyrunc.engine.roots import Layer

_OPAQUE = ("trusted.overlay.opaque", "user.overlay.opaque")


def changes(layer: Layer) -> list[tuple[str, str]]:
    """Return ``(path, kind)`` of all that differs from the root below, sorted by path.

    Kinds are "added", "changed" and "deleted"; a directory whose contents alone differ is not in
    it, nor is what lies in one that was deleted.
    """
    return sorted(_below(layer.upper, layer.lower, ""))


def _below(upper: str, lower: str, path: str) -> Iterator[tuple[str, str]]:
    opaque = _is_opaque(f"{upper}{path}")
    seen = set()
    for entry in os.scandir(f"{upper}{path}"):
        seen.add(entry.name)
        name = f"{path}/{entry.name}"
        status = entry.stat(follow_symlinks=False)
        before = _status(f"{lower}{name}")
        if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
            # A whiteout (overlayfs.rst).
            if before is not None:
                yield name, "deleted"
            continue
        both = before is not None and stat.S_IFMT(before.st_mode) == stat.S_IFMT(status.st_mode)
        if before is None:
            yield name, "added"
        elif not both or not stat.S_ISDIR(status.st_mode) or _differ(before, status):
            yield name, "changed"
        if stat.S_ISDIR(status.st_mode):
            yield from _below(upper, lower, name)
    if opaque and path:
        for gone in _names(f"{lower}{path}") - seen:
            yield f"{path}/{gone}", "deleted"


def _differ(before: os.stat_result, after: os.stat_result) -> bool:
    """Tell whether a directory's own attributes differ."""
    return (before.st_mode, before.st_uid, before.st_gid) != (
        after.st_mode,
        after.st_uid,
        after.st_gid,
    )


def _status(path: str) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except OSError:
        return None


def _names(path: str) -> set[str]:
    try:
        return set(os.listdir(path))
    except OSError:
        return set()


def _is_opaque(path: str) -> bool:
    for name in _OPAQUE:
        try:
            if os.getxattr(path, name, follow_symlinks=False) == b"y":
                return True
        except OSError:
            continue
    return False
