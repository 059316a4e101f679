"""Every Python from the oldest that will do to the newest there is, and one that will not.

Debian 12 has 3.11, Debian 13 has 3.13, sid those that come next to each other, and PyPy.

`make test-elsewhere` runs this; some 10 minutes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import Machine, bare_machine
from test_installers import RUN
from test_wheels import dist, put_wheel

__all__ = ["dist"]

_NEW = ("3.13", "3.14", "3.15")
_TESTS = "pytest pytest-timeout hypothesis jsonschema pexpect"
_IN_USE = "snapshot: in use"


@pytest.fixture(scope="module")
def sid(dist: Path) -> Iterator[Machine]:
    with bare_machine("sid") as machine:
        # What of it is not there any more, or not yet, is skipped below.
        machine.install("python3-venv", "busybox-static", "procps", "libseccomp2", "iproute2")
        for package in [f"python{version}-venv" for version in _NEW] + ["pypy3", "pypy3-venv"]:
            machine.run(f"apt-get -q -y --no-install-recommends install {package}")
        put_wheel(machine, dist)
        machine.put_checkout("opt/checkout")
        yield machine


def _installed(machine: Machine, python: str) -> str:
    """Install the wheel for an interpreter, without the network, and return the environment."""
    if machine.run(f"command -v {python}").returncode:
        pytest.skip(f"no {python} in sid today")
    machine.must(f"{python} -m venv /{python}")
    machine.must(f"/{python}/bin/pip -q install --no-index /opt/*x86_64.whl", network=False)
    return f"/{python}/bin"


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("version", _NEW)
def test_a_new_python(sid: Machine, version: str) -> None:
    """A container runs, from a snapshot as soon as there is one; the unit tests pass."""
    here = _installed(sid, f"python{version}")
    shown = sid.must(f"{RUN.format(command=f'{here}/pyrunc')}{here}/pyrunc --version")
    assert "hello from inside\n" in shown
    assert f"python: {version}." in shown
    assert _IN_USE in shown
    sid.must(f"{here}/pip -q install {_TESTS}", timeout=600)
    done = sid.run(f"cd /opt/checkout; {here}/python -m pytest -q tests/unit", timeout=900)
    assert done.returncode == 0, done.stdout[-10000:]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("version", _NEW)
def test_a_python_that_the_wheel_has_no_image_for(sid: Machine, version: str) -> None:
    """It starts from a snapshot as the one that built it does, without loading modules again."""
    sid.install("strace")
    here = _installed(sid, f"python{version}")
    # All in one: each script mounts the layer anew, with another number of a device perhaps, which
    # a snapshot does not fit then; and not within a minute is it made again by itself.
    script = (
        f"mkdir -p /tmp/state; {here}/pyrunc warm-up; {here}/pyrunc --version | grep '{_IN_USE}'\n"
    )
    for snapshot in ("1", "0"):
        trace = f"strace -f -c -o /tmp/calls {here}/pyrunc --root /tmp/state list >/dev/null"
        # The last line: percent, seconds, microseconds a call, calls, errors, "total".
        script += f"PYRUNC_SNAPSHOT={snapshot} {trace}; tail -n 1 /tmp/calls\n"
    lines = sid.must(script).splitlines()[-2:]
    calls = [int(line.split()[3]) for line in lines]
    print(f"Python {version}: {calls[0]} system calls from a snapshot, {calls[1]} without")
    assert calls[0] * 3 < calls[1]


@pytest.mark.timeout(900)
def test_pypy_is_refused_in_one_line(sid: Machine) -> None:
    here = _installed(sid, "pypy3")
    for command in ("pyrunc --version", "python -m pyrunc --version", "python -c 'import pyrunc'"):
        done = sid.run(f"{here}/{command} 2>&1 | tail -n 1")
        assert re.search("needs CPython, and /pypy3/bin/\\S+ is pypy", done.stdout), done.stdout
