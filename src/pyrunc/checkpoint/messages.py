"""CRIU's messages (images/rpc.proto): protocol buffers, of which two wire types are enough.

A message is a table: the name of a field -> its number and kind. The kind is ``int`` (also for
truth values and enums, a varint on the wire), ``str`` or ``bytes``, or the table of a message
within; in a list of one element it may come several times. The package `protobuf` would take longer
to import (25 ms) than a container takes to make.
"""

from __future__ import annotations

from _struct import unpack_from

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    Table = Mapping[str, tuple[int, Any]]
    Message = dict[str, Any]

# Types of requests, which answers repeat.
DUMP, RESTORE, PRE_DUMP, NOTIFY, FEATURE_CHECK, VERSION = 1, 2, 4, 6, 9, 10

#: How CRIU treats cgroups (enum criu_cg_mode), by the words of --manage-cgroups-mode.
CGROUPS_MODES = {"ignore": 0, "soft": 3, "full": 4, "strict": 5}

_PAGE_SERVER: Table = {"address": (1, str), "port": (2, int)}
_MOUNT: Table = {"key": (1, str), "val": (2, str)}
_INHERITED: Table = {"key": (1, str), "fd": (2, int)}
_CGROUP_ROOT: Table = {"ctrl": (1, str), "path": (2, str)}
FEATURES: Table = {"mem_track": (1, int), "lazy_pages": (2, int)}
OPTIONS: Table = {
    "images_dir_fd": (1, int),
    "pid": (2, int),
    "leave_running": (3, int),
    "ext_unix_sk": (4, int),
    "tcp_established": (5, int),
    "shell_job": (7, int),
    "file_locks": (8, int),
    "log_level": (9, int),
    "log_file": (10, str),
    "ps": (11, _PAGE_SERVER),
    "notify_scripts": (12, int),
    "root": (13, str),
    "parent_img": (14, str),
    "track_mem": (15, int),
    "auto_dedup": (16, int),
    "work_dir_fd": (17, int),
    "link_remap": (18, int),
    "ext_mnt": (23, [_MOUNT]),
    "manage_cgroups": (24, int),
    "cg_root": (25, [_CGROUP_ROOT]),
    "rst_sibling": (26, int),
    "inherit_fd": (27, [_INHERITED]),
    "manage_cgroups_mode": (34, int),
    "external": (37, [str]),
    "empty_ns": (38, int),
    "cgroup_dump_controller": (43, [str]),
    "freeze_cgroup": (44, str),
    "timeout": (45, int),
    "tcp_skip_in_flight": (46, int),
    "lazy_pages": (48, int),
    "status_fd": (49, int),
    "orphan_pts_master": (50, int),
    "config_file": (51, str),
    "lsm_profile": (53, str),
    "cgroup_yard": (60, str),
    "lsm_mount_context": (63, str),
}
REQUEST: Table = {
    "type": (1, int),
    "opts": (2, OPTIONS),
    "notify_success": (3, int),
    "keep_open": (4, int),
    "features": (5, FEATURES),
}
RESPONSE: Table = {
    "type": (1, int),
    "success": (2, int),
    "restore": (4, {"pid": (1, int)}),
    "notify": (5, {"script": (1, str), "pid": (2, int)}),
    "cr_errno": (7, int),
    "features": (8, FEATURES),
    "cr_errmsg": (9, str),
    "version": (10, {"major_number": (1, int), "minor_number": (2, int), "sublevel": (4, int)}),
}

#: Two magic numbers, which an image begins with.
IMAGE_HEADER = 8

_VARINT, _FIXED_64, _BYTES, _FIXED_32 = 0, 1, 2, 5


def encode(table: Table, message: Mapping[str, Any]) -> bytes:
    """Return the message on the wire; a list gives its field once for each element."""
    parts = []
    for name, value in message.items():
        number, kind = table[name]
        for one in value if isinstance(kind, list) else (value,):
            parts.append(_field(number, kind[0] if isinstance(kind, list) else kind, one))
    return b"".join(parts)


def _field(number: int, kind: Any, value: Any) -> bytes:
    if kind is int:
        return _varint(number << 3 | _VARINT) + _varint(int(value))
    if kind is str:
        body: bytes = value.encode("utf-8", "surrogateescape")
    else:
        body = value if kind is bytes else encode(kind, value)
    return within(number, body)


def within(number: int, body: bytes) -> bytes:
    """Return a field that holds a text, bytes or a message."""
    return _varint(number << 3 | _BYTES) + _varint(len(body)) + body


def _varint(number: int) -> bytes:
    """Seven bits a byte, the lowest first; a negative number has 64 of them."""
    number &= (1 << 64) - 1
    groups = bytearray()
    while number > 0x7F:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    groups.append(number)
    return bytes(groups)


def decode(table: Table, data: bytes) -> Message:
    """Return what a message says; fields that the table does not have are passed over.

    :raises ValueError: when it is none.
    """
    known = {
        number: (name, kind[0] if isinstance(kind, list) else kind, isinstance(kind, list))
        for name, (number, kind) in table.items()
    }
    message: Message = {}
    for number, value, _ in fields(data):
        name, kind, repeated = known.get(number, ("", None, False))
        if name:
            one = _converted(kind, value)
            if repeated:
                message.setdefault(name, []).append(one)
            else:
                message[name] = one
    return message


def fields(data: bytes) -> Iterator[tuple[int, int | bytes, bytes]]:
    """Yield the fields of a message: number, value, and the whole as it is on the wire.

    :raises ValueError: when it is none.
    """
    at = 0
    while at < len(data):
        begin = at
        tag, at = _read_varint(data, at)
        value, at = _read_value(tag & 7, data, at)
        yield tag >> 3, value, data[begin:at]


def entries(image: bytes) -> Iterator[bytes]:
    """Yield the messages of an image, each of which has its length before it.

    :raises ValueError: when it is cut off.
    """
    at = IMAGE_HEADER
    while at < len(image):
        if at + 4 > len(image):
            raise ValueError("cut off")
        (length,) = unpack_from("=I", image, at)
        at += 4
        if at + length > len(image):
            raise ValueError("cut off")
        yield image[at : at + length]
        at += length


def _read_value(wire: int, data: bytes, at: int) -> tuple[int | bytes, int]:
    if wire == _VARINT:
        return _read_varint(data, at)
    if wire == _BYTES:
        length, at = _read_varint(data, at)
    elif wire in (_FIXED_64, _FIXED_32):
        length = 8 if wire == _FIXED_64 else 4
    else:
        raise ValueError(f"wire type {wire}")
    if at + length > len(data):
        raise ValueError("cut off")
    return data[at : at + length], at + length


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while at < len(data) and shift < 70:
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            number &= (1 << 64) - 1
            return number - (1 << 64) if number >> 63 else number, at
        shift += 7
    raise ValueError("cut off")


def _converted(kind: Any, value: int | bytes) -> Any:
    if isinstance(value, int) != (kind is int):
        raise ValueError("a field of another type")
    if isinstance(value, int) or kind is bytes:
        return value
    return value.decode("utf-8", "surrogateescape") if kind is str else decode(kind, value)
