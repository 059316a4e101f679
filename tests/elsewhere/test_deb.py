"""The Debian package of `make deb`: accepted by lintian, installed, run, removed without a trace.

`make test-elsewhere` runs this; some 6 minutes.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from conftest import CHECKOUT, Machine
from test_installers import RUN
from test_wheels import dist

__all__ = ["dist"]

_UNIT = "pyrunc-warm-up.service"
_FILES = "find / -xdev -not -path '/tmp*' -not -path '/var/lib/dpkg*' -not -path '/var/log/*'"


def made(dist: Path) -> Path:
    """Return the package, which is there when a release is tried."""
    if not list(dist.glob("*_amd64.deb")):
        subprocess.run([CHECKOUT / "tools/deb", *dist.glob("*x86_64.whl")], check=True)
    (package,) = dist.glob("*_amd64.deb")
    return package


def test_same_bytes_again(dist: Path) -> None:
    package = made(dist)
    before = package.read_bytes()
    package.unlink()
    assert made(dist).read_bytes() == before
    assert package.name in (dist / "SHA256SUMS").read_text()


@pytest.mark.timeout(1200)
def test_installed_run_and_removed(machine: Machine, dist: Path) -> None:
    package = made(dist)
    machine.put(package, f"opt/{package.name}")
    machine.install("python3", "busybox-static")
    machine.must(f"{_FILES} -not -path '*/__pycache__*' | sort >/tmp/before")
    machine.must(f"dpkg -i /opt/{package.name}", network=False)
    shown = machine.must(RUN.format(command="pyrunc"), network=False)
    assert shown.splitlines()[-1] == "hello from inside"
    machine.must(f"test -e /etc/systemd/system/multi-user.target.wants/{_UNIT}", network=False)
    machine.must("dpkg --purge pyrunc", network=False)
    left = machine.must(f"{_FILES} -not -path '*/__pycache__*' | sort | comm -13 /tmp/before -")
    assert left == ""
    assert "pyrunc" not in machine.must(f"{_FILES} -name '*pyrunc*' -not -path '/opt/*'")


@pytest.mark.timeout(1200)
def test_lintian_finds_no_errors(machine: Machine, dist: Path) -> None:
    package = made(dist)
    machine.put(package, f"opt/{package.name}")
    machine.install("lintian")
    said = machine.run(f"lintian --fail-on error --allow-root /opt/{package.name}")
    assert said.returncode == 0, said.stdout
