"""The README's lines on bare Debian 12 and 13, as a stranger pastes them.

`make test-elsewhere` runs this; some 8 minutes for both, most of it apt's and pip's.
"""

from __future__ import annotations

import pytest
from conftest import Machine
from readme import block

_QUIET = "export DEBIAN_FRONTEND=noninteractive; set -x\n"
_WALKED = ("snakebusybox", "hello from inside", '"ociVersion"')
_MAKE_USER = "useradd --create-home somebody --uid 1000"


def _remove_container(name: str) -> str:
    return f"trap 'pyrunc delete --force {name} 2>/dev/null' EXIT\n"


@pytest.mark.timeout(900)
def test_demo(machine: Machine) -> None:
    """The first block, but for what takes longer than some minutes."""
    source = machine.put_checkout()
    machine.install("make")
    first = block("make demo").replace("make test", "true").replace("make hostile", "true")
    shown = machine.must(f"{_QUIET}cd {source}\n{first}", timeout=600)
    assert "hello from demo, process 1" in shown
    assert "this shell is process" in shown
    assert f"The command is {source}/.venv/bin/pyrunc." in shown


@pytest.mark.timeout(900)
@pytest.mark.parametrize("way", ["python3 -m venv", "pipx install", "uv tool install"])
def test_install_and_walk(machine: Machine, way: str) -> None:
    """Each way to install, then the walk as root and as an ordinary user."""
    source = machine.put_checkout()
    machine.install("ca-certificates", "procps", "busybox-static")
    if way.startswith("uv"):
        # Its own installer is a script from its site.
        machine.install("python3-venv")
        machine.must("python3 -m venv /uv && /uv/bin/pip -q install uv")
        machine.must("ln -s /uv/bin/uv /usr/local/bin/uv")
    machine.must(f"{_QUIET}cd {source}\n{block(way)}", timeout=600)
    assert "pyrunc version" in machine.must("pyrunc --version")

    walk = block("ps snakebusybox")
    shown = machine.must(f"{_remove_container('snakebusybox')}cd /root\n{walk}")
    for sign in _WALKED:
        assert sign in shown
    machine.must(_MAKE_USER)
    # As after su: what is missing is named.
    said = machine.run("pyrunc list", user=1000).stdout
    assert "name a state root of your own: --root, or XDG_RUNTIME_DIR" in said
    shown = machine.must(f"{_remove_container('snakebusybox')}{block('--rootless')}", user=1000)
    assert "hello from inside" in shown
