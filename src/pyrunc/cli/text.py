"""Text made safe to show: control characters and stray bytes become visible escapes.

Ids, paths and error texts come from bundles and callers; written raw to a
terminal they could drive it.
"""

from __future__ import annotations

_NAMED = {
    "\a": "\\a",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\v": "\\v",
}


def visible(text: str) -> str:
    """Return ``text`` with everything unprintable escaped as Go's ``%q`` does it."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else _NAMED.get(c) or _escape(ord(c)) for c in text)


def quoted(text: str) -> str:
    """Return ``text`` in double quotes, escaped so that it can be read back."""
    return '"' + visible(text.replace("\\", "\\\\").replace('"', '\\"')) + '"'


def _escape(code: int) -> str:
    if 0xDC80 <= code <= 0xDCFF:  # a byte that was not UTF-8, as Python carries it
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
