"""Paths as typed, made absolute by their text alone, as Go's filepath.Abs does."""

from __future__ import annotations

import posix

from pyrunc.errors import Error, reason


def absolute(path: str) -> str:
    """Return ``path`` from the root, without ``.``, ``..``, and double slashes.

    Links are not followed: ``a/../b`` is ``b`` wherever ``a`` leads.

    :raises Error: when the current directory is gone.
    """
    if not path.startswith("/"):
        try:
            path = f"{posix.getcwd()}/{path}"
        except OSError as error:
            raise Error(f"cannot tell the current directory: {reason(error)}") from None
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return "/" + "/".join(parts)
