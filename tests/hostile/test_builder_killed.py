"""The process that builds a container is killed: it has the memory of whoever it builds for.

Its interpreter is of no use any more then. A command says so and ends, and `delete --force` takes
away what is left; an engine of the library's ends, as if it had been killed; the next one works.
"""

from __future__ import annotations

import os
import sys

import pytest
from stepping import Case, plain

PIVOT_ROOT = 155
LAST_WORDS = "the process that builds the container was killed"
PROGRAM = """
import pyrunc
print(pyrunc.run(["true"]).status)
print(pyrunc.run(["true"]).status)
"""


@pytest.mark.parametrize("name", ["create", "run"])
def test_a_command_ends_with_it(make_bundle, pyrunc, stepper, public_path, name):
    bundle = make_bundle(at=public_path / "bundle")
    plain(bundle)
    case = Case(name, pyrunc, bundle)
    outcome = stepper.run("kill-call", PIVOT_ROOT, *case.prepare())
    assert outcome.hit
    assert case.judge(outcome) == []
    assert os.waitstatus_to_exitcode(outcome.status) == 1
    assert LAST_WORDS in outcome.stderr


def test_an_engine_ends_with_it_and_the_next_works(stepper):
    outcome = stepper.run("kill-call", PIVOT_ROOT, sys.executable, "-c", PROGRAM)
    assert outcome.hit
    assert outcome.stderr.split() == ["lost", "exited"], outcome.stderr
