"""The hot path loads what it needs and nothing more; each module costs a tenth of a millisecond."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SOURCE = str(Path(__file__).parents[2] / "src")

# Module -> why `pyrunc state` cannot do without it.
ALLOWED = {
    "__future__": "annotations stay strings; the statement is an import like any other",
    "errno": "numbers of errors to tell apart",
    "_json": "the C half of the json package",
    "_ctypes": "raw system calls",
    "_struct": "loaded by _ctypes",
    "time": "the start of a process; loaded by every interpreter anyway",
    "pyrunc": "the package",
    "pyrunc.cli": "the room",
    "pyrunc.cli.main": "global options, choice of the command",
    "pyrunc.cli.flags": "what was typed",
    "pyrunc.cli.log": "where errors go",
    "pyrunc.cli.text": "an error is shown, with control characters escaped",
    "pyrunc.cli.paths": "--root is given, and made absolute",
    "pyrunc.cli.state": "the command",
    "pyrunc.container": "the room",
    "pyrunc.container.settings": "the global options, resolved",
    "pyrunc.container.state": "the status of a container",
    "pyrunc.container.store": "the record on disk",
    "pyrunc.errors": "every error",
    "pyrunc.linux": "the room",
    "pyrunc.linux.files": "files opened by descriptor",
    "pyrunc.linux.libc": "raw system calls",
    "pyrunc.linux.numbers": "their numbers",
    "pyrunc.linux.processes": "whether a process is still the one recorded",
    "pyrunc.trace": "the stand-in that makes --trace cost nothing when it is off",
    "pyrunc.spec": "the room",
    "pyrunc.spec.json_text": "the record is JSON, and so is the answer",
}

PROBE = f"""\
import sys
before = set(sys.modules)
sys.path.insert(0, {SOURCE!r})
from pyrunc.cli.main import invoke
invoke(sys.argv[1:])
print("\\n".join(sorted(set(sys.modules) - before)))
"""


def test_state_of_an_unknown_id_loads_no_newcomer(tmp_path: Path) -> None:
    words = ["--root", str(tmp_path), "state", "no-such-container"]
    result = subprocess.run(
        [sys.executable, "-I", "-S", "-X", "utf8", "-c", PROBE, *words],
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    assert "container does not exist" in result.stderr
    newcomers = set(result.stdout.split()) - ALLOWED.keys()
    assert not newcomers, f"give a reason in ALLOWED, or load lazily: {sorted(newcomers)}"
