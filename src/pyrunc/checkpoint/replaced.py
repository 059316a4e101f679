"""Files outside of the container, as its stdout, may be replaced on restore by something else.

CRIU remembers size and mode of every open file and the place in it. It refuses a file of others,
and a terminal or pipe, which have no places. So they are taken out of the images: what is there
instead is read from its beginning, and written to at its end (``files.img``: images/fdinfo.proto,
images/regfile.proto).
"""

from __future__ import annotations

import posix
from _struct import pack

from pyrunc.checkpoint.messages import IMAGE_HEADER, decode, encode, entries, fields, within
from pyrunc.errors import Error, reason
from pyrunc.linux import files

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.checkpoint.messages import Table

_NAME = "files.img"
_LARGEST = 256 << 20
#: ``file_entry.reg``, and ``size`` and ``mode`` in there.
_REG, _CHECKED = 3, (8, 10)
#: What else is looked at in there; ``ext`` is whether the file is outside.
_FILE: Table = {"flags": (2, int), "pos": (3, int), "ext": (9, int)}
#: The place in a file that has none.
_NOWHERE = -1


def make_replaceable(images: int) -> None:
    """Let files outside be replaced by others, or by what is none, in the images in a directory.

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
        after = replaceable(before)
        if after != before:
            _replace(images, after, mode)
    except (OSError, ValueError) as error:
        raise Error(f"cannot make {_NAME} fit for other files: {reason(error)}") from None


def replaceable(content: bytes) -> bytes:
    """Return a ``files.img`` that knows nothing of files outside that another need not have.

    :raises ValueError: when it is none.
    """
    parts = [content[:IMAGE_HEADER]]
    for message in entries(content):
        entry = _entry(message)
        parts += [pack("=I", len(entry)), entry]
    return b"".join(parts)


def _entry(entry: bytes) -> bytes:
    parts = []
    for number, value, raw in fields(entry):
        if number == _REG and isinstance(value, bytes):
            file = decode(_FILE, value)
            if file.get("ext"):
                parts.append(within(_REG, _file(value, file.get("flags", 0))))
                continue
        parts.append(raw)
    return b"".join(parts)


def _file(file: bytes, flags: int) -> bytes:
    if flags & (posix.O_WRONLY | posix.O_RDWR):
        flags |= posix.O_APPEND
    changed = {"flags": flags, "pos": _NOWHERE}
    new = {_FILE[name][0]: encode(_FILE, {name: value}) for name, value in changed.items()}
    return b"".join(
        new.get(number, raw) for number, _, raw in fields(file) if number not in _CHECKED
    )


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
