"""The fixtures of the integration tests, and the figures: what was tried, and what held.

``pytest tests/hostile`` tries a bounded part; ``make hostile`` sets HOSTILE_FACTOR, tries as many
times more, and prints the figures of each class (a class is a file of tests).
"""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

import pytest
from stepping import HERE, Stepper

from bundles import make_bundle, rootfs_template
from runtimes import compiled, crun, no_ignored_signals, public_path, pyrunc, runc

__all__ = [
    "compiled",
    "crun",
    "make_bundle",
    "no_ignored_signals",
    "public_path",
    "pyrunc",
    "rootfs_template",
    "runc",
]

# For what is no fixture there.
sys.path.append(str(Path(__file__).resolve().parents[1] / "integration"))

#: For each class: how many attempts there were, and how many of them failed to do harm.
FIGURES: dict[str, list[int]] = {}


@pytest.fixture(scope="session")
def factor():
    """How many times the bounded number of attempts is to be made."""
    return int(os.environ.get("HOSTILE_FACTOR", "1"))


@pytest.fixture
def stepper(compiled, tmp_path):
    """What runs a command from system call to system call."""
    if platform.machine() != "x86_64":
        pytest.skip("the stepper knows x86_64 only")
    program = compiled("stepper", (HERE / "stepper.c").read_text())
    return Stepper(program, tmp_path)


class Tally:
    """Counts attempts that are alike; the test fails at its end if any went wrong."""

    def __init__(self) -> None:
        self.tried = 0
        self.wrong: list[str] = []

    def __call__(self, attempt: str, wrong: list[str]) -> None:
        """Count one attempt; ``wrong`` is empty when everything held."""
        self.tried += 1
        if wrong:
            self.wrong.append(f"{attempt}: {'; '.join(wrong)}")


@pytest.fixture
def tally(request):
    return request.node.stash.setdefault(_TALLY, Tally())


_TALLY = pytest.StashKey[Tally]()


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem):
    result = yield
    made = pyfuncitem.stash.get(_TALLY, None)
    if made and made.wrong:
        told = "\n".join(line[:2000] for line in made.wrong[:30])
        pytest.fail(f"{len(made.wrong)} of {made.tried} attempts:\n{told}", pytrace=False)
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if call.when == "call" and not report.skipped:
        made = item.stash.get(_TALLY, None)
        tried = made.tried if made else 1
        wrong = len(made.wrong) if made else int(report.failed)
        figures = FIGURES.setdefault(item.path.stem, [0, 0])
        figures[0] += tried
        figures[1] += tried - max(wrong, int(report.failed))
    return report


def pytest_terminal_summary(terminalreporter):
    if "HOSTILE_FACTOR" not in os.environ:
        return
    terminalreporter.section("what was tried, and what held")
    for name, (tried, held) in sorted(FIGURES.items()):
        line = f"{name.removeprefix('test_').replace('_', ' '):30} {tried:7} tried {held:7} held"
        terminalreporter.write_line(line, red=tried != held)
