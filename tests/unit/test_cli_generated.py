"""The manual pages and the shell completion say what the commands' flags say."""

from __future__ import annotations

import runpy
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_manual_pages_are_up_to_date() -> None:
    pages = runpy.run_path(str(ROOT / "man" / "generate.py"))["pages"]()
    found = {path.name: path.read_text() for path in (ROOT / "man").glob("*.8")}
    assert found == pages, "run python3 man/generate.py"


def test_completion_is_up_to_date() -> None:
    script = runpy.run_path(str(ROOT / "completions" / "generate.py"))["script"]()
    assert (ROOT / "completions" / "pyrunc.bash").read_text() == script, (
        "run python3 completions/generate.py"
    )


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
@pytest.mark.parametrize(
    ("words", "replies"),
    [
        (["pyrunc", "cr"], "create"),
        (["pyrunc", "--root", "/none", "create", "--pid"], "--pidfd-socket --pid-file"),
        (["pyrunc", "--systemd"], "--systemd-cgroup"),
    ],
)
def test_bash_completes(words: list[str], replies: str) -> None:
    typed = " ".join(f"'{word}'" for word in words)
    program = (
        f"source completions/pyrunc.bash; COMP_WORDS=({typed}); COMP_CWORD={len(words) - 1};"
        ' _pyrunc; echo "${COMPREPLY[*]}"'
    )
    result = subprocess.run(
        ["bash", "-c", program], cwd=ROOT, capture_output=True, text=True, check=True, timeout=30
    )
    assert result.stdout.strip() == replies
