"""An ordinary user whom only a mount namespace knows, with subordinate ids or without.

Nothing of the machine is changed: files of /etc are bound over, and programs hidden by an overlay.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

#: Tests that run at the same time have each their own.
USER = 60_000 + os.getpid() % 5000
NAME = f"pyrunc-user-{USER}"
FIRST = 500_000_000 + os.getpid() % 20_000 * 65536
COUNT = 65536
HELPERS = ("newuidmap", "newgidmap")
#: The interpreter itself: that of an environment below a closed directory is out of a user's reach.
PYTHON = os.path.realpath(sys.executable)

_SETUP = """
set -e
for file in passwd group subuid subgid; do mount --bind "$1/etc/$file" "/etc/$file"; done
for name in $2; do
    path=$(command -v "$name")
    if ! mountpoint -q "$1/hidden"; then
        mount -t tmpfs hidden "$1/hidden"; mkdir "$1/hidden/upper" "$1/hidden/work"
        mount -t overlay -o "lowerdir=${path%/*},upperdir=$1/hidden/upper,workdir=$1/hidden/work" \
            hidden "${path%/*}"
    fi
    rm "$path"
done
for cgroup in $3; do echo 0 >"$cgroup/cgroup.procs"; done
shift 3
exec "$@"
"""


class Room:
    """What the user's programs are started in."""

    def __init__(self, directory: Path, sources: Path) -> None:
        for tool in (*HELPERS, "unshare", "setpriv"):
            if not shutil.which(tool):
                pytest.skip(f"needs {tool} (packages uidmap, util-linux)")
        self.directory = directory
        self.home = directory / "home"
        for name in ("etc", "home", "hidden"):
            (directory / name).mkdir()
        os.chown(self.home, USER, USER)
        for name, line in (
            ("passwd", f"{NAME}:x:{USER}:{USER}::{self.home}:/bin/sh\n"),
            ("group", f"{NAME}:x:{USER}:\n"),
        ):
            (directory / "etc" / name).write_text(Path("/etc", name).read_text() + line)
        self.give_ids(f"{NAME}:{FIRST}:{COUNT}\n")
        self._preamble = f"import sys; sys.path.insert(0, {str(sources)!r})\nimport pyrunc\n"
        self.cgroups: list[str] = []

    def give_ids(self, uids: str, gids: str | None = None) -> None:
        """Write /etc/subuid and /etc/subgid."""
        (self.directory / "etc/subuid").write_text(uids)
        (self.directory / "etc/subgid").write_text(uids if gids is None else gids)

    def start(
        self, text: str, *, hidden: tuple[str, ...] = (), options: tuple[str, ...] = ()
    ) -> subprocess.Popen[str]:
        """Start a program of the user's that uses the library.

        :param hidden: programs of the host that are not there.
        :param options: more of setpriv(1).
        """
        script = self._preamble + textwrap.dedent(text)
        user = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", *options]
        setup = [_SETUP, "sh", str(self.directory), " ".join(hidden), " ".join(self.cgroups)]
        return subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", *setup, *user, PYTHON, "-I", "-c", script],
            env={"PATH": "/usr/bin:/bin", "HOME": str(self.home)}, cwd="/",
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def run(self, text: str, **how: tuple[str, ...]) -> list[str]:
        """Return the lines that a program prints."""
        program = self.start(text, **how)
        stdout, stderr = program.communicate(timeout=120)
        if "user namespace, which containers" in stderr:
            pytest.skip("this host lets ordinary users have no user namespaces")
        assert program.returncode == 0, stderr
        return stdout.splitlines()

    @property
    def images(self) -> Path:
        """Where the user's unpacked images are."""
        return self.home / ".cache/pyrunc/images"


def wait_until_nothing_is_left() -> None:
    """Wait for the end of all that the user's engines have made."""
    base = Path(f"/tmp/pyrunc-library-{USER}")
    end = time.monotonic() + 30
    while left := [*(os.listdir(base) if base.exists() else ()), *_processes()]:
        assert time.monotonic() < end, left
        time.sleep(0.05)
    if base.exists():
        base.rmdir()


def _processes() -> list[str]:
    """Return what runs with one of the user's ids."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            uid = entry.stat().st_uid
            if entry.name.isdigit() and (uid == USER or FIRST <= uid < FIRST + COUNT):
                status = (entry / "stat").read_text()
                # An orphan that has ended is its new parent's affair, which may take seconds.
                if status.rpartition(")")[2].split()[:2] != ["Z", "1"]:
                    found.append(f"{entry.name} {status}")
        except OSError:
            continue
    return found
