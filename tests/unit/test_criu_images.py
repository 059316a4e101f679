"""CRIU's images, as far as they are changed here: files outside."""

from __future__ import annotations

import os
import struct

import pytest

from pyrunc.checkpoint.messages import encode
from pyrunc.checkpoint.replaced import replaceable

_REG = {
    "id": (1, int),
    "flags": (2, int),
    "pos": (3, int),
    "name": (6, str),
    "size": (8, int),
    "ext": (9, int),
    "mode": (10, int),
}
_ENTRY = {"type": (1, int), "id": (2, int), "reg": (3, _REG), "pipe": (8, bytes)}


def image(*entries):
    parts = [b"8 bytes."]
    for entry in entries:
        text = encode(_ENTRY, entry)
        parts += [struct.pack("=I", len(text)), text]
    return b"".join(parts)


def file(number, **values):
    return {"type": 1, "id": number, "reg": {"id": number, **values}}


def test_only_files_outside_lose_their_size_and_place():
    inside = file(1, flags=1, pos=5, name="/a", size=5, mode=0o100644)
    pipe = {"type": 2, "id": 2, "pipe": b"x" * 300}
    written = file(3, flags=1, pos=7, name="/b", size=1 << 40, ext=True, mode=1)
    read = file(4, flags=0, pos=7, name="/c", size=9, ext=True, mode=1)
    assert replaceable(image(inside, pipe, written, read)) == image(
        inside,
        pipe,
        file(3, flags=1 | os.O_APPEND, pos=-1, name="/b", ext=True),
        file(4, flags=0, pos=-1, name="/c", ext=True),
    )
    assert replaceable(image()) == image()


@pytest.mark.parametrize("damage", [slice(None, -1), slice(None, 10)])
def test_what_is_cut_off_is_said(damage):
    whole = image({"type": 1, "id": 1, "reg": {"id": 1, "name": "/a"}})
    with pytest.raises(ValueError, match="cut off"):
        replaceable(whole[damage])
