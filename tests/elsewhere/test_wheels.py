"""The wheels of `make wheels`: what is in them, that they can be made again, where they run.

`make test-elsewhere` runs this; some 6 minutes.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import CHECKOUT, Machine

_PIP = "pip -q --disable-pip-version-check --no-input"
#: A bundle whose program says hello, run from a state root of its own.
_RUN = """
mkdir -p /tmp/b/rootfs/bin; cd /tmp/b; cp /bin/busybox rootfs/bin; ln -sf busybox rootfs/bin/sh
rm -f config.json; "$pyrunc" spec
sed -i 's/"terminal": true/"terminal": false/' config.json
sed -i 's/"sh"/"sh", "-c", "echo hello from inside"/' config.json
"$pyrunc" --root /tmp/state run hello
"""


@pytest.fixture(scope="session")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What `make wheels` leaves, made from a copy of the checkout, or is to be released."""
    if named := os.environ.get("PYRUNC_DIST"):
        yield Path(named)
        return
    ziglang = [sys.executable, "-m", "pip", "install", "-q", "ziglang"]
    if subprocess.run(ziglang, check=False).returncode:
        pytest.skip("no network for the package ziglang, a C compiler for every processor")
    copy = tmp_path_factory.mktemp("wheels")
    subprocess.run(["git", "clone", "-q", CHECKOUT, copy / "git"], check=True)
    make(copy / "git")
    yield copy / "git/dist"
    shutil.rmtree(copy)


def make(checkout: Path) -> None:
    """Make the wheels of a source tree, with the tools of this environment."""
    (checkout / ".venv").symlink_to(sys.prefix)
    done = subprocess.run([checkout / "tools/wheels"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def wheels(dist: Path) -> dict[str, bytes]:
    return {wheel.name: wheel.read_bytes() for wheel in dist.glob("*.whl")}


def test_same_bytes_from_git_and_from_the_sdist(dist: Path, tmp_path: Path) -> None:
    (sdist,) = dist.glob("*.tar.gz")
    shutil.unpack_archive(sdist, tmp_path)
    (tree,) = tmp_path.iterdir()
    make(tree)
    assert len(wheels(dist)) == 2
    assert wheels(tree / "dist") == wheels(dist)


def test_what_needs_a_library_is_refused(dist: Path, tmp_path: Path) -> None:
    wheel = next(dist.glob("*x86_64.whl"))
    spoilt = tmp_path / wheel.name
    program = Path(sys.executable).read_bytes()
    with zipfile.ZipFile(wheel) as old, zipfile.ZipFile(spoilt, "w") as new:
        for name in old.namelist():
            new.writestr(name, program if name.endswith("/pyrunc-init") else old.read(name))
    check = CHECKOUT / "tools/check-wheel"
    done = subprocess.run([check, spoilt], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "pyrunc-init: it asks for a loader" in done.stderr
    assert "pyrunc-init: it needs a library" in done.stderr


def put_wheel(machine: Machine, dist: Path) -> str:
    wheel = next(dist.glob("*x86_64.whl"))
    machine.put(wheel, f"opt/{wheel.name}")
    return f"/opt/{wheel.name}"


def test_without_network_and_compiler(machine: Machine, dist: Path) -> None:
    wheel = put_wheel(machine, dist)
    machine.install("python3-venv", "busybox-static")
    machine.must("! command -v cc && ! command -v gcc && python3 -m venv /venv")
    begin = time.monotonic()
    script = f"/venv/bin/{_PIP} install {wheel}; pyrunc=/venv/bin/pyrunc; {_RUN}"
    shown = machine.must(script, network=False)
    print(f"installed and run on {machine.release} in {time.monotonic() - begin:.1f} s")
    assert shown.splitlines()[-1] == "hello from inside"
