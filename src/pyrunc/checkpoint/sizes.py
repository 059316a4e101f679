"""Files outside of the container may have another size on restore, when they are others.

CRIU remembers the size of every file that is open, and refuses one that has another; also of those
that are replaced on restore, as a container's stdout is. So that is taken out of the images
(``files.img``: images/fdinfo.proto, images/regfile.proto).
"""

from __future__ import annotations

import posix
from _struct import pack, unpack_from

from pyrunc.checkpoint.messages import decode, fields, within
from pyrunc.errors import Error, reason
from pyrunc.linux import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.checkpoint.messages import Table

_NAME = "files.img"
#: Two magic numbers come first; then, for each entry, its length as 4 bytes and a message.
_HEADER = 8
_LARGEST = 256 << 20
#: ``file_entry.reg``, and of that ``size`` and ``ext``: whether the file is outside.
_REG, _SIZE = 3, 8
_REG_TABLE: Table = {"ext": (9, int)}


def forget(images: int) -> None:
    """Take the sizes of files outside out of the images in a directory.

    :raises Error: when these are not what they must be.
    """
    flags = posix.O_RDONLY | files.O_NOFOLLOW | files.O_CLOEXEC
    try:
        image = posix.open(_NAME, flags, dir_fd=images)
        try:
            before = files.read_all(image, _LARGEST)
            mode = posix.stat(image).st_mode & 0o777
        finally:
            posix.close(image)
        after = without_sizes(before)
        if after != before:
            _replace(images, after, mode)
    except (OSError, ValueError) as error:
        raise Error(f"cannot make {_NAME} fit for other files: {reason(error)}") from None


def without_sizes(content: bytes) -> bytes:
    """Return a ``files.img`` without the sizes of files outside.

    :raises ValueError: when it is none.
    """
    parts = [content[:_HEADER]]
    at = _HEADER
    while at < len(content):
        if at + 4 > len(content):
            raise ValueError("cut off")
        (length,) = unpack_from("=I", content, at)
        if at + 4 + length > len(content):
            raise ValueError("cut off")
        entry = _without_size(content[at + 4 : at + 4 + length])
        parts += [pack("=I", len(entry)), entry]
        at += 4 + length
    return b"".join(parts)


def _without_size(entry: bytes) -> bytes:
    parts = []
    for number, value, raw in fields(entry):
        if number == _REG and isinstance(value, bytes) and decode(_REG_TABLE, value).get("ext"):
            kept = b"".join(r for n, _, r in fields(value) if n != _SIZE)
            parts.append(within(_REG, kept))
        else:
            parts.append(raw)
    return b"".join(parts)


def _replace(images: int, content: bytes, mode: int) -> None:
    new = f"{_NAME}.new"
    flags = posix.O_WRONLY | posix.O_CREAT | posix.O_TRUNC | files.O_NOFOLLOW | files.O_CLOEXEC
    file = posix.open(new, flags, 0o600, dir_fd=images)
    try:
        posix.fchmod(file, mode)
        files.write_all(file, content)
    finally:
        posix.close(file)
    posix.rename(new, _NAME, src_dir_fd=images, dst_dir_fd=images)
