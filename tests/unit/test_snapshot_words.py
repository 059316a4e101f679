"""The launcher, which has no table of commands, knows which of them come often."""

from __future__ import annotations

import re
from pathlib import Path

from pyrunc.cli.commands import FREQUENT

RESTORE = Path(__file__).parents[2] / "launcher/restore.c"


def test_the_launcher_looks_for_the_frequent_commands() -> None:
    (names,) = re.findall(r"names\[\]\[8\] = \{(.*?)\}", RESTORE.read_text(), re.DOTALL)
    assert set(re.findall(r'"(\w+)"', names)) == FREQUENT
