"""A short soak (soak.py, of which `make soak` is the long one)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_a_hundred_and_fifty_runs_of_every_kind():
    command = [sys.executable, str(Path(__file__).with_name("soak.py")), "150"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "nothing left" in done.stdout
