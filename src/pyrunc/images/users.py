"""The users of an image: names and numbers, looked up in its own /etc."""

from __future__ import annotations

import os

from pyrunc.images.errors import ImageInvalid
from pyrunc.linux import files

_LARGEST = 1 << 22


def user_of(root: str, user: str) -> tuple[int, int]:
    """Return uid and gid for an image's ``User``.

    :param root: the image, unpacked.
    :raises ImageInvalid: for a name that is not there.
    """
    name, _, group = user.partition(":")
    if not name:
        return 0, 0
    entry = _entry(root, "passwd", name)
    uid = int(name) if name.isdigit() else int(entry[2]) if entry else None
    if uid is None:
        raise ImageInvalid(f"the image's user {user!r} is not in its /etc/passwd")
    if not group:
        return uid, int(entry[3]) if entry else 0
    entry = _entry(root, "group", group)
    if not group.isdigit() and not entry:
        raise ImageInvalid(f"the image's group {group!r} is not in its /etc/group")
    return uid, int(group) if group.isdigit() else int(entry[2])


def _entry(root: str, name: str, wanted: str) -> list[str]:
    """Return the fields of a user or group, by name or number; none when it is not there."""
    directory = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        text = files.read_in_root(directory, f"/etc/{name}", _LARGEST)
    except OSError:
        return []
    finally:
        os.close(directory)
    for line in text.decode("utf-8", "replace").splitlines():
        fields = line.split(":")
        numbers = fields[2:4] if name == "passwd" else fields[2:3]
        if wanted in (fields[0], *fields[2:3]) and all(n.isdigit() for n in numbers) and numbers:
            return fields
    return []
