"""The command as other programs see it: by its own name, however it was started."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from snapshots import BIN, Installation

pytestmark = pytest.mark.skipif(
    not (BIN / "pyrunc").exists(), reason="pyrunc is not installed here"
)


@pytest.mark.parametrize("snapshot", ["0", "1"])
def test_the_command_has_its_own_name(make_bundle, pyrunc, tmp_path, snapshot):
    """Without a snapshot what ran was `python -c` with the launcher's program."""
    installation = Installation(tmp_path / "top")
    installation.serve(pyrunc)
    bundle = make_bundle(args=["sh", "-c", "echo ready; sleep 1000"])
    bundle.save()
    installation.run("warm-up")
    words = [*pyrunc.command, "run", "-b", str(bundle.path), pyrunc.new_id()]
    options = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(words, env={"PYRUNC_SNAPSHOT": snapshot}, **options) as process:
        try:
            assert process.stdout.readline() == "ready\n"
            proc = Path(f"/proc/{process.pid}")
            assert (proc / "comm").read_text() == "pyrunc\n"
            shown = (proc / "cmdline").read_bytes().decode().replace("\0", " ").split()
            assert Path(shown[0]).name == "pyrunc"
            assert shown[1:] == words[1:]
        finally:
            process.kill()
    installation.snapshot.unlink(missing_ok=True)
