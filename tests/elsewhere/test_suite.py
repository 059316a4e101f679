"""`make test` on bare Debian 12 and 13, part by part, from a checkout below a closed /root.

`make test-debian` runs this; an hour for each. One part:
`make test-debian PART='trixie and integration'`.

What a part says, test by test, is in build/debian/RELEASE-PART.txt while it runs, and its results
are in RELEASE-PART.xml beside it afterwards.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator

import pytest
from conftest import CHECKOUT, RELEASES, Machine, bare_machine

#: tests/vm is the same everywhere: the machine in it is what it tests.
PARTS = sorted(
    path.name
    for path in (CHECKOUT / "tests").iterdir()
    if any(path.glob("test_*.py")) and path.name not in ("elsewhere", "vm")
)
_TOLD = CHECKOUT / "build/debian"
_BOUND = "timeout --signal=INT --kill-after=60 5100"
_ACTIVATE = "cd /root/pyrunc; PATH=$PWD/.venv/bin:$PATH"
#: How skips speak of what a package would cure.
_CURABLE = re.compile(
    r"not installed|could not import|\(package |needs [a-z]+( \(|$)|C compiler|C library"
)


@pytest.fixture(scope="module", params=RELEASES)
def prepared(request: pytest.FixtureRequest) -> Iterator[Machine]:
    """A machine with all that `make test` installs of its own accord."""
    with bare_machine(request.param, copied=True) as machine:
        machine.put_checkout("root/pyrunc")
        machine.must("chmod 0700 /root")
        machine.install("make")
        machine.must("cd /root/pyrunc; tools/prepare test", timeout=1800)
        yield machine


@pytest.mark.timeout(900)
def test_linters(prepared: Machine) -> None:
    shown = prepared.must("cd /root/pyrunc; tools/check lint", timeout=800)
    assert "skipped" not in shown


@pytest.mark.timeout(5400)
@pytest.mark.parametrize("part", PARTS)
def test_part(prepared: Machine, part: str) -> None:
    _TOLD.mkdir(parents=True, exist_ok=True)
    told = _TOLD / f"{prepared.release}-{part}.txt"
    # An interrupted pytest still tells what has failed; begun in the background it would not be.
    run = f"env --default-signal=INT {_BOUND} pytest -v -ra --junitxml=/root/{part}.xml"
    with told.open("w") as output:
        done = prepared.run(f"{_ACTIVATE} {run} tests/{part}", timeout=5300, output=output)
    with contextlib.suppress(FileNotFoundError):
        prepared.take(f"root/{part}.xml", told.with_suffix(".xml"))
    assert done.returncode == 0, done.stdout[-20000:]
    skipped = [line for line in done.stdout.splitlines() if line.startswith("SKIPPED")]
    assert [line for line in skipped if _CURABLE.search(line)] == []
