"""CRIU's images, as far as they are changed here: sizes of files outside."""

from __future__ import annotations

import struct

import pytest

from pyrunc.checkpoint.messages import encode
from pyrunc.checkpoint.sizes import without_sizes

_REG = {"id": (1, int), "name": (6, str), "size": (8, int), "ext": (9, int), "mode": (10, int)}
_ENTRY = {"type": (1, int), "id": (2, int), "reg": (3, _REG), "pipe": (8, bytes)}


def image(*entries):
    parts = [b"8 bytes."]
    for entry in entries:
        text = encode(_ENTRY, entry)
        parts += [struct.pack("=I", len(text)), text]
    return b"".join(parts)


def test_only_files_outside_lose_their_size():
    inside = {"type": 1, "id": 1, "reg": {"id": 1, "name": "/a", "size": 5, "mode": 0o100644}}
    pipe = {"type": 2, "id": 2, "pipe": b"x" * 300}
    outside = {"type": 1, "id": 3, "reg": {"id": 3, "size": 1 << 40, "ext": True, "mode": 1}}
    bare = {"type": 1, "id": 3, "reg": {"id": 3, "ext": True, "mode": 1}}
    assert without_sizes(image(inside, pipe, outside)) == image(inside, pipe, bare)
    assert without_sizes(image()) == image()


@pytest.mark.parametrize("damage", [slice(None, -1), slice(None, 10)])
def test_what_is_cut_off_is_said(damage):
    whole = image({"type": 1, "id": 1, "reg": {"id": 1, "name": "/a"}})
    with pytest.raises(ValueError, match="cut off"):
        without_sizes(whole[damage])
