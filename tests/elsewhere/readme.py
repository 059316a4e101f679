"""The README's blocks of shell lines."""

from __future__ import annotations

import re
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[2]


def blocks(name: str = "README.md") -> list[str]:
    """Return what is between ```sh and ```, in order."""
    return re.findall(r"^```sh\n(.*?)^```$", (CHECKOUT / name).read_text(), re.M | re.S)


def block(sign: str) -> str:
    """Return the one block that ``sign`` is in."""
    found = [text for text in blocks() if sign in text]
    assert len(found) == 1, (sign, found)
    return found[0]


def without_comments(text: str) -> str:
    return re.sub(r"(^|\s+)#.*$", r"", text, flags=re.M)
