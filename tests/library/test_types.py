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


#: The oldest and the newest that the library is for.
@pytest.mark.parametrize("python", ["3.11", "3.15"])
def test_mypy_strict(tmp_path, python):
    if not importlib.util.find_spec("mypy"):
        pytest.skip("needs mypy")
    mypy = [sys.executable, "-m", "mypy", "--strict", "--python-version", python]
    done = subprocess.run(
        [*mypy, "--cache-dir", tmp_path, FILE, *EXAMPLES],
        env={**os.environ, "MYPYPATH": str(SOURCES)}, cwd=tmp_path, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
