"""Fixtures of the library's tests: the library of the sources, and proof that nothing is left."""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from images import BUSYBOX, busybox_layer

import pyrunc
from cgroup_tree import cgroups_beginning
from pyrunc.engine import client, roots

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator
    from typing import Any


def _package_parent() -> Path:
    """Return where the package is: the sources when init is built there, else as installed."""
    sources = Path(__file__).resolve().parents[2] / "src"
    if (sources / "pyrunc/init/pyrunc-init").exists():
        return sources
    return Path(pyrunc.__file__).resolve().parents[1]


SOURCES = _package_parent()
#: What a sandbox's programs make there stays in its layer, unlike in /tmp.
WORK = f"/{roots.WORK}"
#: What a program of a test begins with, so that it uses the library under test.
PREAMBLE = f"import sys; sys.path.insert(0, {str(SOURCES)!r})\nimport pyrunc\n"


#: An ordinary user's program with a run and a sandbox in which something does not end by itself.
BUSY_USER = """
    import threading, time
    script = "trap '' TERM HUP; sleep 1000 & sleep 1000"
    def one(): pyrunc.run(["sh", "-c", script], timeout=None)
    threading.Thread(target=one, daemon=True).start()
    pyrunc.Sandbox().open().start(["sleep", "1000"])
    time.sleep(1); print("ready", flush=True); time.sleep(1000)
"""


def missing() -> str:
    """Say what this machine lacks to run the library's tests."""
    return "" if os.geteuid() == 0 else "root"


@pytest.fixture(scope="session", autouse=True)
def no_ignored_signals() -> None:
    """A shell has what it runs in the background ignore SIGINT, and so would our programs."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def needs_containers() -> None:
    if lacking := missing():
        pytest.skip(f"real containers need {lacking}")


def engine_processes(program: int | None = None) -> list[int]:
    """Return the pids of the engines and keepers of ``program`` (default: this process)."""
    wanted = str(program or os.getpid())
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if (
                any(b"from pyrunc.engine." in word for word in words)
                and words[-2] == wanted.encode()
            ):
                found.append(int(entry.name))
    return found


def keeper_and_engine() -> tuple[int, int]:
    """Return the pids of a keeper of this process's and of its engine, once they are up."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        pids = set(engine_processes())
        # Our own child is the starter, until it ends; below an engine builders look like one.
        children = {pid: pids & set(children_of(pid)) for pid in pids}
        tops = pids - set(children_of(os.getpid())) - set().union(*children.values())
        for top in tops:
            if len(children[top]) == 1:
                return top, children[top].pop()
        time.sleep(0.01)
    raise AssertionError(f"no engine: {engine_processes()}")


async def cancel_early(start: Callable[[], Coroutine[Any, Any, Any]]) -> None:
    """Start processes, and cancel each start a little later than the one before."""
    for turns in range(8):
        task = asyncio.create_task(start())
        await asyncio.sleep(0.001 * turns)
        task.cancel()
        try:
            # It was there before it could be cancelled.
            (await task).close()
        except asyncio.CancelledError:
            continue


def children_of(pid: int) -> list[int]:
    """Return the children of a process, whichever of its threads has forked them."""
    found = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            found += map(int, path.read_text().split())
    return found


def shown_on(terminal: int) -> bytes:
    """Return all that is still to be read from a terminal, up to the end of its last program."""
    shown = b""
    # The last one has closed its side.
    with contextlib.suppress(OSError):
        while piece := os.read(terminal, 4096):
            shown += piece
    return shown


def remains(program: int | None = None) -> list[str]:
    """Return what is left of a program's engines: processes, directories, cgroups."""
    name = str(program or os.getpid())
    found = [f"process {pid}" for pid in engine_processes(program)]
    found += [str(path) for path in Path("/run/pyrunc-library").glob(f"{name}-*")]
    return found + cgroups_beginning(f"pyrunc-{name}-")


def wait_until_gone(program: int | None = None, seconds: float = 20) -> None:
    """Wait until nothing is left of a program's engines."""
    end = time.monotonic() + seconds
    while left := remains(program):
        assert time.monotonic() < end, left
        time.sleep(0.02)


@pytest.fixture
def no_remains() -> Iterator[None]:
    """End this process's engines after the test, and see that nothing is left of them."""
    yield
    client.engines().close()
    wait_until_gone()


@pytest.fixture
def criu(monkeypatch: pytest.MonkeyPatch) -> Path:
    """A CRIU that works here, in $PATH; fetched as for the command's tests."""
    path = Path(__file__).resolve().parents[1] / "integration" / "checkpoints.py"
    spec = importlib.util.spec_from_file_location("checkpoints_of_integration", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: Path | None = module.find_criu()
    if found is None:
        pytest.skip("needs a CRIU that works on this kernel (`criu check`)")
    monkeypatch.setenv("PATH", f"{found.parent}:{os.environ['PATH']}")
    return found


@pytest.fixture(scope="module")
def sources() -> Iterator[Path]:
    """The library where every user may read it."""
    directory = Path(tempfile.mkdtemp(prefix="pyrunc-test-", dir="/var/tmp"))
    shutil.copytree(SOURCES / "pyrunc", directory / "src/pyrunc")
    subprocess.run(["chmod", "-R", "a+rX", directory], check=True)
    yield directory / "src"
    shutil.rmtree(directory)


@pytest.fixture
def python() -> str:
    """A Python to run programs with that use the library."""
    return sys.executable


@pytest.fixture(scope="module")
def rootfs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root file system with busybox."""
    if not BUSYBOX.exists():
        pytest.skip(f"needs {BUSYBOX} (package busybox-static)")
    path = tmp_path_factory.mktemp("root")
    (path / "layer.tar").write_bytes(busybox_layer())
    with tarfile.open(path / "layer.tar") as archive:
        archive.extractall(path / "rootfs")
    return path / "rootfs"


@pytest.fixture
def runtime(tmp_path: Path) -> Iterator[pyrunc.Runtime]:
    """A state root, of which nothing is left."""
    made = pyrunc.Runtime(tmp_path / "state")
    yield made
    for container in made.containers():
        container.delete(force=True)
    assert made.containers() == []
