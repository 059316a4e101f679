"""What init says when a call of its launch program failed (``struct failure`` in init/init.c)."""

from __future__ import annotations

import posix
from _struct import Struct

from pyrunc.linux import processes as p

MAGIC = 0x31676E4C
#: How the label of a startContainer hook begins.
START_HOOK = "error running startContainer hook"
_FAILURE = Struct("<5I")


def parse_failure(record: bytes) -> tuple[int, int, int, str] | None:
    """Take a failure record of init's apart: ``(index, errno, wait status, label)``.

    None when it is not one.
    """
    if len(record) < _FAILURE.size:
        return None
    magic, index, code, detail, length = _FAILURE.unpack_from(record)
    if magic != MAGIC or len(record) < _FAILURE.size + length:
        return None
    label = record[_FAILURE.size : _FAILURE.size + length].decode("utf-8", "replace")
    return index, code, detail, label


def describe_failure(failure: tuple[int, int, int, str]) -> str:
    """Turn a failure record of init's into words."""
    _, code, detail, label = failure
    if code:
        return f"{label}: {posix.strerror(code).lower()}"
    if detail:
        ending = p.exit_status(detail)
        return f"{label}: exit status {ending}"
    return label
