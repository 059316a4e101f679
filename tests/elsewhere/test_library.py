"""The library's first example, pasted into a fresh interpreter: bare machines, as root and not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from conftest import CHECKOUT, RELEASES, Machine, bare_machine

import pyrunc

PACKAGE = Path(pyrunc.__file__).parent
#: What its first line prints, by the comment behind it.
PRINTED = re.compile(r"print\(.*?\) +# (.*)")


def example() -> str:
    blocks = re.findall(r"```python\n(.*?)```", (CHECKOUT / "README.md").read_text(), re.DOTALL)
    return next(block for block in blocks if "pyrunc.run" in block)


def paste(code: str) -> str:
    """Return a command that types ``code`` at the prompt of an interpreter."""
    interpreter = "PYTHONPATH=/home/src python3 -i - 2>/tmp/said"
    return f"cd /\n{interpreter} <<'END' || cat /tmp/said\n{code}\nEND"


@pytest.fixture(params=RELEASES)
def with_python(request: pytest.FixtureRequest):
    """A bare machine with Python and the library, without engines and without libseccomp."""
    if not (PACKAGE / "init/pyrunc-init").exists():
        pytest.skip("needs the native parts in src/ (make dev)")
    with bare_machine(request.param, copied=True) as machine:
        machine.install("python3")
        machine.put(PACKAGE, "home/src/pyrunc")
        yield machine


@pytest.mark.parametrize("user", [0, 1000])
def test_pasted_into_a_fresh_interpreter(with_python: Machine, user: int) -> None:
    shown = with_python.must(paste(example()), user=user).splitlines()
    assert shown[0] == PRINTED.search(example())[1]
    duration, _, memory = shown[1].split()
    assert float(duration) > 0
    assert memory == "None" or int(memory) > 0
