"""The standard output of the commands: bytes, JSON and tables."""

from __future__ import annotations

import posix
from _json import encode_basestring_ascii
from errno import EPIPE

from pyrunc.errors import Error, reason

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

_STDOUT = 1


def write(text: str) -> None:
    """Write all of ``text`` to the standard output.

    :raises SystemExit: 141, as a program stopped by SIGPIPE, when the reader is gone.
    :raises Error: when it cannot be written.
    """
    content = text.encode("utf-8", "surrogateescape")
    try:
        while content:
            content = content[posix.write(_STDOUT, content) :]
    except OSError as error:
        if error.errno == EPIPE:
            raise SystemExit(141) from None
        raise Error(f"cannot write to the standard output: {reason(error)}") from None


def write_json(value: Any, indent: str = "") -> None:
    """Write ``value`` as JSON: one line, or with ``indent`` a member a line."""
    write(json(value, indent) + "\n")


def json(value: Any, indent: str = "", margin: str = "\n") -> str:
    """Encode dicts, lists, strings, numbers, booleans and None in plain ASCII.

    The ``json`` module would do the same for a hundred times the start-up time.
    """
    if isinstance(value, str):
        return encode_basestring_ascii(value).replace("\x7f", "\\u007f")
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    inner = margin + indent if indent else ""
    colon = ": " if indent else ":"
    if isinstance(value, dict):
        members = [f"{json(str(k))}{colon}{json(v, indent, inner)}" for k, v in value.items()]
        opening, closing = "{", "}"
    else:
        members = [json(member, indent, inner) for member in value]
        opening, closing = "[", "]"
    if not members:
        return opening + closing
    return f"{opening}{inner}{f',{inner}'.join(members)}{margin if indent else ''}{closing}"


def table(rows: Sequence[Sequence[str]], least: int = 12, padding: int = 3) -> str:
    """Lay out rows in columns at least ``least`` wide, ``padding`` spaces apart.

    The last column is not padded.
    """
    widths = [
        max(least, *(len(cell) + padding for cell in column)) for column in zip(*rows, strict=True)
    ]
    widths[-1] = 0
    return "".join(
        "".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + "\n"
        for row in rows
    )
