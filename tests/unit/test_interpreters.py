"""Other implementations of Python are refused in one line (the real ones: tests/elsewhere)."""

from __future__ import annotations

import subprocess
import sys

import pytest

_PRETEND = "import sys; sys.implementation.name = 'pypy'; "


@pytest.mark.parametrize("what", ["import pyrunc", "import runpy; runpy.run_module('pyrunc')"])
def test_what_is_not_cpython_is_refused(what: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _PRETEND + what], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert f"pyrunc needs CPython, and {sys.executable} is pypy" in done.stderr.splitlines()[-1]
