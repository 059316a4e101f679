"""Type checkers accept a file that uses all of the library."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

FILE = Path(__file__).with_name("typed_use.py")
#: Of the checkout: a type checker refuses what is installed as a path of its own.
SOURCES = FILE.parents[2] / "src"
EXAMPLES = sorted(FILE.parents[2].glob("examples/*.py"))


def test_mypy_strict(tmp_path):
    if not importlib.util.find_spec("mypy"):
        pytest.skip("needs mypy")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", tmp_path, FILE, *EXAMPLES],
        env={**os.environ, "MYPYPATH": str(SOURCES)}, cwd=tmp_path, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
