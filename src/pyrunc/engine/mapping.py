"""Mapping the ids of an engine's user namespace, as its keeper does it: from outside.

Loaded where an engine asks for it: root's does not.
"""

from __future__ import annotations

import os
import pwd
import signal
from typing import TYPE_CHECKING, Any

from pyrunc.container.making import idmap
from pyrunc.engine import messages
from pyrunc.errors import Error

if TYPE_CHECKING:
    import socket

    from pyrunc.spec.types import IDMapping

    Mappings = dict[str, list[IDMapping]]

#: More than anybody has, and few enough for the kernel to take them as they are.
_MOST_RANGES = 64
_LONGEST_KEY = 200
_FILES = {"uidMappings": "/etc/subuid", "gidMappings": "/etc/subgid"}


def give(engine: int, asked: socket.socket, refused: str) -> None:
    """Map the ids of an engine that has asked for them, and tell it.

    :param refused: what went wrong with an engine before it; this one is to map its own only.
    :raises Error: when they could not be mapped. What has a part of them only is of no use: that
        engine is gone then.
    """
    mappings, why = ({}, refused) if refused else _all_ids()
    told: dict[str, Any] = {"uids": [1], "gids": [1], "why": why}
    if mappings:
        try:
            idmap.write_mappings(engine, {"linux": mappings}, rootless=True)  # type: ignore[typeddict-item]
        except Error:
            os.kill(engine, signal.SIGKILL)
            os.waitpid(engine, 0)
            raise
        uids, gids = ([mapping["size"] for mapping in mappings[name]] for name in _FILES)
        told = {"uids": uids, "gids": gids, "key": _key(mappings)}
    messages.tell(asked, "ids", told)


def _all_ids() -> tuple[Mappings, str]:
    """Return what maps all ids of this user; or nothing, and why."""
    uid, gid = os.geteuid(), os.getegid()
    if uid == 0:
        return {}, "root that may not mount, as in a container, maps itself alone"
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        return {}, f"user {uid} is not in /etc/passwd, so there can be no subordinate ids"
    if missing := idmap.missing_helpers():
        return {}, f"{' and '.join(missing)} would have to be there (package uidmap)"
    found: Mappings = {}
    for (kind, file), own in zip(_FILES.items(), (uid, gid), strict=True):
        ranges = _ranges(file, {name, str(uid)})
        if not ranges:
            return {}, f"{file} has no range for {name}, as `usermod --add-sub{kind[:3]}s` gives"
        found[kind] = _mapping(own, ranges)
    return found, ""


def _ranges(file: str, names: set[str]) -> list[tuple[int, int]]:
    """Return first and count of each range of ids that a file gives to the user of these names."""
    try:
        with open(file, "rb") as opened:
            lines = opened.read().decode("utf-8", "surrogateescape").splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        name, *numbers = line.strip().split(":")
        if (
            name in names
            and len(numbers) == 2
            and all(n.isascii() and n.isdigit() for n in numbers)
        ):
            found.append((int(numbers[0]), int(numbers[1])))
    return [(first, count) for first, count in found if count]


def _mapping(own: int, ranges: list[tuple[int, int]]) -> list[IDMapping]:
    mapping: list[IDMapping] = [{"containerID": 0, "hostID": own, "size": 1}]
    after = 1
    for first, count in ranges[:_MOST_RANGES]:
        mapping.append({"containerID": after, "hostID": first, "size": count})
        after += count
    return mapping


def _key(mappings: Mappings) -> str:
    """Return a name for the mappings, fit for a file's."""
    names = ["+".join(f"{m['hostID']}-{m['size']}" for m in mappings[kind]) for kind in _FILES]
    key = "_".join(dict.fromkeys(names))
    if len(key) <= _LONGEST_KEY:
        return key
    # Not at the start: it brings OpenSSL's library along.
    from hashlib import sha256

    return sha256(key.encode()).hexdigest()
