"""The command runs wherever an installer puts it, and however it is called.

`make test-elsewhere` runs this; some 6 minutes.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import Machine
from test_wheels import dist, put_wheel

__all__ = ["dist"]

_PIP = "-q --disable-pip-version-check --no-input"
#: Name -> how to install the wheel $W, and where the command is then; as root.
INSTALLERS = {
    "pip": ("python3 -m venv /a && /a/bin/pip $PIP install $W", "/a/bin/pyrunc"),
    "pip for all": (
        "python3 -m pip $PIP install --break-system-packages $W 2>/dev/null",
        "/usr/local/bin/pyrunc",
    ),
    "pip --user": (
        "python3 -m pip $PIP install --break-system-packages --user $W 2>/dev/null",
        "/root/.local/bin/pyrunc",
    ),
    "pip --target": ("python3 -m pip $PIP install --target /t $W 2>/dev/null", "/t/bin/pyrunc"),
    "a moved environment": ("cp -a /a /b && mv /a /a.old", "/b/bin/pyrunc"),
    "a copied environment": ("mv /a.old /a && cp -a /a /c", "/c/bin/pyrunc"),
    "a read-only environment": (
        "cp -a /a /r && mount --bind /r /r && mount -o remount,ro,bind /r",
        "/r/bin/pyrunc",
    ),
    "pipx": ("pipx install $W >/dev/null 2>&1", "/root/.local/bin/pyrunc"),
    # From pipx 1.5 on; before, what the README says.
    "pipx --global": (
        "rm -f /usr/local/bin/pyrunc*; if pipx install --help | grep -q -- --global;"
        " then pipx install --global $W >/dev/null 2>&1; else"
        " PIPX_HOME=/opt/pipx PIPX_BIN_DIR=/usr/local/bin pipx install $W >/dev/null 2>&1; fi",
        "/usr/local/bin/pyrunc",
    ),
    "uv tool": (
        "rm -f /root/.local/bin/pyrunc*; uv -q tool install $W",
        "/root/.local/bin/pyrunc",
    ),
    "uvx": ("", "uvx -q --from $W pyrunc"),
    "uvx, from an index": ("", "uvx -q --no-index --find-links /opt pyrunc"),
    "uv run --with": ("", "uv -q run --no-project --with $W pyrunc"),
    "uv venv --relocatable": (
        "uv -q venv --relocatable /v && uv -q pip install --python /v/bin/python $W && mv /v /w",
        "/w/bin/pyrunc",
    ),
    "python -m": ("", "/a/bin/python -m pyrunc"),
    "an empty environment": ("", "env -i /a/bin/pyrunc"),
    "PATH without sbin": ("", "env PATH=/usr/bin:/bin /a/bin/pyrunc"),
    "pex": ("/uv/bin/pex $W -m pyrunc -o /p.pex", "/p.pex"),
    "shiv": ("/uv/bin/shiv -q -e pyrunc.cli.main:main -o /s.pyz $W >/dev/null", "/s.pyz"),
    "sudo": ("", "sudo /a/bin/pyrunc"),
}
RUN = """
mkdir -p /tmp/b/rootfs/bin; cd /tmp/b; cp /bin/busybox rootfs/bin; ln -sf busybox rootfs/bin/sh
rm -f config.json; {command} spec
sed -i 's/"terminal": true/"terminal": false/' config.json
sed -i 's/"sh"/"sh", "-c", "echo hello from inside"/' config.json
{command} --root /tmp/state run hello
"""


@pytest.mark.timeout(1200)
def test_every_installer(machine: Machine, dist: Path) -> None:
    wheel = put_wheel(machine, dist)
    machine.install("python3-venv", "python3-pip", "pipx", "busybox-static", "sudo")
    machine.must(
        "python3 -m venv /uv && /uv/bin/pip -q install uv pex shiv && ln -s /uv/bin/uv* /usr/bin/"
    )
    script = f"W={wheel}; PIP='{_PIP}'; set +e\n"
    for name, (how, command) in INSTALLERS.items():
        script += f"(set -e; {how or ':'}; {RUN.format(command=command)}) >/tmp/said 2>&1\n"
        script += f'echo "{name}: $? $(tail -n 1 /tmp/said)"; cat /tmp/said >&2\n'
    shown = machine.run(script, timeout=900).stdout
    failed = [name for name in INSTALLERS if f"{name}: 0 hello from inside" not in shown]
    assert not failed, shown
