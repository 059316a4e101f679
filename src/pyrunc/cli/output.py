"""The standard output of the commands: bytes, JSON and tables."""

from __future__ import annotations

import posix
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
    """Write ``value`` as JSON in ASCII: one line, or with ``indent`` a line a member."""
    from pyrunc.spec.json_text import encode, encode_indented

    text = encode_indented(value, indent) if indent else encode(value)
    # The one control character that JSON lets stand.
    write(text.replace("\x7f", "\\u007f") + "\n")


def table(rows: Sequence[Sequence[str]], least: int = 12, padding: int = 3) -> str:
    """Lay out rows in columns at least ``least`` wide, ``padding`` spaces apart.

    The last column is not padded.
    """
    columns = zip(*rows, strict=True)
    widths = [max(least, max(map(len, column)) + padding) for column in columns]
    widths[-1] = 0
    line = "".join(f"%-{width}s" for width in widths) + "\n"
    return "".join([line % tuple(row) for row in rows])
