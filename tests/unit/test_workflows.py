"""The forge's workflows call the Makefile, so that what they do can be done anywhere."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_workflows_call_the_makefile_alone() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    called = [
        line.split("run:", 1)[1].strip()
        for path in sorted((ROOT / ".github/workflows").glob("*.yml"))
        for line in path.read_text().splitlines()
        if re.match(r"\s*(- )?run:", line)
    ]
    assert called
    for command in called:
        words = command.removeprefix("sudo ").split()
        assert words[0] == "make", command
        assert set(words[1:]) <= targets, command
