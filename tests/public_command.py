"""The command where every user of the machine can start it.

A checkout may lie below a closed directory, as /root is, and so may the interpreter of its tests.
"""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest

_SOURCES = Path(__file__).resolve().parents[1] / "src"
_MINOR = f"python{sys.version_info[0]}.{sys.version_info[1]}"
_NOBODY = 65534


def for_everybody(command: Sequence[str]) -> list[str]:
    """Return ``command``, or what does the same from copies, which last as long as the tests.

    The command is the installed one or an interpreter with the sources; who cannot be helped by
    copies, as the interpreter itself is out of reach, has the test skipped.
    """
    if starts_for_everybody(command):
        return list(command)
    place = _place()
    if Path(command[0]).name.startswith("python"):
        sources = place / "src"
        if not sources.exists():
            _copy(_SOURCES / "pyrunc", sources / "pyrunc")
        words = [word.replace(str(_SOURCES), str(sources)) for word in command[1:]]
        tried = [[python, *words] for python in _interpreters()]
    else:
        tried = [[str(installation(Path(command[0]), place / "installed") / "bin/pyrunc")]]
    for other in tried:
        if starts_for_everybody(other):
            return other
    pytest.skip("no Python of at least 3.11 that an ordinary user may execute")


@functools.cache
def _place() -> Path:
    """Make a directory for everybody, which goes with this process."""
    place = Path(tempfile.mkdtemp(prefix="pyrunc-test-", dir="/var/tmp"))
    place.chmod(0o755)
    maker = os.getpid()
    # Tests fork; none of their children may remove it.
    atexit.register(lambda: os.getpid() == maker and shutil.rmtree(place))
    return place


def _interpreters() -> list[str]:
    """Return the interpreters that may be everybody's to execute, this one first."""
    return [sys.executable, os.path.realpath(sys.executable), "/usr/bin/python3"]


def starts_for_everybody(command: Sequence[str]) -> bool:
    """Tell whether an ordinary user may start the command."""
    try:
        done = subprocess.run(
            [*command, "--version"],
            user=_NOBODY, group=_NOBODY, extra_groups=[], cwd="/", check=False,
            stdin=subprocess.DEVNULL, capture_output=True, env={"PYRUNC_SNAPSHOT": "0"},
        )  # fmt: skip
    except PermissionError:
        return False
    return done.returncode == 0


def installation(launcher: Path, top: Path) -> Path:
    """Copy the command and its package to ``top`` as pip puts them, and return that."""
    if top.exists():
        return top
    (top / "bin").mkdir(parents=True)
    shutil.copy(launcher, top / "bin/pyrunc")
    text = launcher.with_name("pyrunc-python").read_text().partition("\n")[2]
    script = top / "bin/pyrunc-python"
    script.write_text(f"#!{os.path.realpath(sys.executable)} -sP\n{text}")
    script.chmod(0o755)
    library = launcher.parents[1] / "lib"
    _copy(library / _MINOR / "site-packages/pyrunc", top / "lib" / _MINOR / "site-packages/pyrunc")
    if (library / "pyrunc").exists():
        shutil.copytree(library / "pyrunc", top / "lib/pyrunc")
    for path in (top, *top.rglob("*")):
        path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o111 else 0o644)
    return top


def _copy(package: Path, target: Path) -> None:
    shutil.copytree(package, target, ignore=shutil.ignore_patterns("__pycache__"))
    for path in (target, *target.rglob("*")):
        path.chmod(path.stat().st_mode | (0o555 if path.is_dir() else 0o444))
