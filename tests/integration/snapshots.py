"""An installation of pyrunc of its own, for tests about the snapshots that commands start from."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

BIN = Path(sys.executable).parent
VERSION = f"python{sys.version_info[0]}.{sys.version_info[1]}"
DIRECTORY = Path("/run/pyrunc/@snapshot")
SWITCH = Path("/etc/pyrunc/no-snapshot")
IN_USE = "in use"
#: The environment that switches it off.
OFF = {"PYRUNC_SNAPSHOT": "0"}


class Installation:
    """A launcher, its script and the package, in a directory; so its snapshot is its own too."""

    def __init__(self, top: Path, *, copy: bool = False) -> None:
        """``copy`` the package, instead of linking to the one that is installed."""
        self.launcher = top / "bin/pyrunc"
        self.script = top / "bin/pyrunc-python"
        self.launcher.parent.mkdir(parents=True)
        shutil.copy(BIN / "pyrunc", self.launcher)
        text = (BIN / "pyrunc-python").read_text().partition("\n")[2]
        self.script.write_text(f"#!{os.path.realpath(sys.executable)}\n{text}")
        packages = top / "lib" / VERSION / "site-packages"
        packages.mkdir(parents=True)
        installed = BIN.parent / "lib" / VERSION / "site-packages/pyrunc"
        self.package = packages / "pyrunc"
        if copy:
            shutil.copytree(installed, self.package, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            self.package.symlink_to(installed)
        #: Where it is, or will be.
        self.snapshot = DIRECTORY / f"{_hash(os.fsencode(self.launcher)):x}"

    def run(self, *words: str, **how: Any) -> subprocess.CompletedProcess[str]:
        """Run a command of this installation."""
        how = {"capture_output": True, "stdin": subprocess.DEVNULL, "timeout": 60} | how
        return subprocess.run([self.launcher, *words], text=True, check=False, **how)

    def serve(self, runtime: Any) -> None:
        """Let the fixture ``pyrunc`` call this installation."""
        runtime.command[: runtime.command.index("--root")] = [str(self.launcher)]

    def status(self, **how: Any) -> str:
        """Return what ``--version`` says of the snapshot: "in use" or "none (WHY)"."""
        done = self.run("--version", **how)
        assert (done.returncode, done.stderr) == (0, ""), done
        return done.stdout.rpartition("snapshot: ")[2].rstrip("\n")

    def warm_up(self) -> Path:
        """Make the snapshot and return its path."""
        for _ in range(50):
            done = self.run("warm-up")
            if done.returncode == 0:
                break
            # Files that were copied a moment ago are not trusted yet.
            assert "cannot make a snapshot now" in done.stderr, done
        assert done.returncode == 0, done
        assert done.stdout == f"{self.snapshot}\n"
        assert self.status() == IN_USE
        return self.snapshot

    def made(self) -> list[Path]:
        """Return what has been made for it outside of its directory."""
        return sorted(DIRECTORY.glob(f"{self.snapshot.name}*"))

    def remove(self) -> None:
        """Remove all that."""
        for path in self.made():
            path.unlink()


def _hash(path: bytes) -> int:
    """FNV-1a, as the launcher has it (restore.c)."""
    value = 0xCBF29CE484222325
    for byte in path:
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return value


@pytest.fixture(autouse=True)
def state_root(tmp_path: Path) -> None:
    """A state root for commands of an installation."""
    (tmp_path / "root").mkdir(mode=0o700)


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Installation]:
    """An installation, with a package of its own, of which there is no snapshot yet."""
    made = Installation(tmp_path / "installation", copy=True)
    # Files that were changed a moment ago are not trusted.
    time.sleep(0.2)
    yield made
    made.remove()


@pytest.fixture
def installation(tmp_path: Path) -> Iterator[Installation]:
    """An installation whose snapshot has been made."""
    made = Installation(tmp_path / "installation")
    made.warm_up()
    yield made
    made.remove()


@pytest.fixture
def own_package(tmp_path: Path) -> Iterator[Installation]:
    """One with a package of its own, which may be damaged, and a snapshot."""
    made = Installation(tmp_path / "installation", copy=True)
    made.warm_up()
    yield made
    made.remove()


def missing_for_snapshots() -> str:
    """Say what this machine lacks for them; nothing when it has everything."""
    if os.uname().machine != "x86_64":
        return "x86_64"
    if not (BIN / "pyrunc").exists():
        return "pyrunc installed beside this interpreter"
    if os.geteuid() != 0:
        return "root, whose snapshots are below /run/pyrunc"
    if SWITCH.exists():
        return f"{SWITCH} not to be there"
    return ""


needed = pytest.mark.skipif(bool(missing_for_snapshots()), reason=missing_for_snapshots())
