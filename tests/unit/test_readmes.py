"""The README in both languages has the same lines to paste; only comments are translated."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
OTHERS = sorted(path.name for path in ROOT.glob("README.*.md"))


def blocks(name: str) -> list[tuple[str, str]]:
    """Return language and lines of each block of code, without comments."""
    found = re.findall(r"^```(\w+)\n(.*?)^```$", (ROOT / name).read_text(), re.M | re.S)
    return [(language, re.sub(r"(^|\s+)#.*$", "", text, flags=re.M)) for language, text in found]


@pytest.mark.parametrize("name", OTHERS)
def test_every_language_has_the_same_blocks(name: str) -> None:
    assert blocks(name) == blocks("README.md")


def test_there_is_another_language() -> None:
    assert OTHERS == ["README.zh-CN.md"]
