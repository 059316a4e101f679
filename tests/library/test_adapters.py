"""`examples/adapters`, against the real packages.

Dask is small, and one of the packages that `make test` installs. Those of the agents' frameworks
weigh hundreds of megabytes: `make test-adapters` makes an environment for them in build/, and
runs these tests with it.
"""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from conftest import SOURCES, wait_until_gone

ROOT = Path(__file__).resolve().parents[2]
ADAPTERS = ROOT / "examples/adapters"
HEAVY = ROOT / "build/adapters-venv/bin/python"
USER = 54322


def shown(words, python=sys.executable, **options):
    environment = {**os.environ, "PYTHONPATH": f"{SOURCES}:{ADAPTERS}"}
    environment |= options.pop("env", {})
    program = subprocess.Popen(
        [python, *words], env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options,
    )  # fmt: skip
    stdout, stderr = program.communicate(timeout=300)
    assert program.returncode == 0, stderr
    wait_until_gone(program.pid)
    return stdout


def files_of(name: str, seen: set[str]) -> list[Path]:
    """Return what a distribution has installed, with all that it requires."""
    if name in seen:
        return []
    seen.add(name)
    try:
        found = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        # For another system or Python.
        return []
    tops = {
        path.parts[0] for path in found.files or () if path.parts[0] not in ("..", "__pycache__")
    }
    files = [Path(str(found.locate_file(top))) for top in tops]
    for required in found.requires or ():
        if "extra ==" not in required:
            files += files_of(re.split(r"[ <>=!~;\[(]", required)[0], seen)
    return files


@pytest.fixture(scope="module")
def for_everybody():
    """Dask and the library where every user may read them."""
    pytest.importorskip("distributed")
    directory = Path(tempfile.mkdtemp(prefix="pyrunc-test-", dir="/var/tmp"))
    for path in {SOURCES / "pyrunc", ADAPTERS / "dask_cluster.py", *files_of("distributed", set())}:
        if path.is_dir():
            shutil.copytree(path, directory / path.name, ignore=shutil.ignore_patterns("tests"))
        else:
            shutil.copy(path, directory)
    subprocess.run(["chmod", "-R", "a+rX", directory], check=True)
    yield directory
    shutil.rmtree(directory)


@pytest.mark.parametrize("user", [0, USER])
def test_dask(for_everybody, user):
    home = tempfile.mkdtemp(prefix="pyrunc-test-", dir="/var/tmp")
    os.chown(home, user, user)
    try:
        lines = shown(
            [for_everybody / "dask_cluster.py"], os.path.realpath(sys.executable), cwd=home,
            user=user, group=user, extra_groups=[],
            env={"PYTHONPATH": str(for_everybody), "HOME": home, "TMPDIR": home},
        ).splitlines()  # fmt: skip
    finally:
        shutil.rmtree(home)
    assert lines == [
        str([n * n for n in range(8)]),
        "process ids inside: {2}",
        "workers: 2",
        "too long: TimeoutExpired",
    ]


def heavy(package):
    """Skip, unless the environment is there."""
    if not HEAVY.parents[1].joinpath("complete").exists():
        pytest.skip(f"needs what only `make test-adapters` installs: {package}")


INSPECT = """
import inspect_sandbox, traceback
from inspect_ai import Task, eval
from inspect_ai.dataset import Sample
from inspect_ai.solver import solver
from inspect_ai.util import sandbox
from inspect_ai.util._sandbox import self_check

@solver
def check():
    async def solve(state, generate):
        box = sandbox()
        print("the sample's file:", await box.read_file("a.txt"))
        checks = [name for name in dir(self_check) if name.startswith("test_")]
        print(len(checks) > 30)
        for name in checks:
            try:
                await getattr(self_check, name)(box)
            except BaseException as error:
                print(name, type(error).__name__, error)
        return state
    return solve

task = Task(
    dataset=[Sample(input="x", files={"a.txt": "content"})], solver=check(), sandbox="pyrunc"
)
log, = eval(task, model="mockllm/model", display="none", log_dir="logs")
print(log.status)
"""


def test_inspect(tmp_path):
    """Inspect's own checks of what a provider of sandboxes must do."""
    heavy("inspect_ai")
    lines = shown(["-c", INSPECT], HEAVY, cwd=tmp_path).splitlines()
    assert lines[:2] == ["the sample's file: content", "True"]
    assert [line.split()[0] for line in lines[2:-1]] == ["test_exec_as_user"]
    assert lines[-1] == "success"


AGENTS = """
import asyncio, io
from pathlib import Path
from openai_agents import Manifest, PyruncClient, PyruncOptions
from agents.sandbox.entries import File
from agents.sandbox.errors import ExecTimeoutError, WorkspaceReadNotFoundError

async def refused(error, call):
    try:
        await call
    except error:
        print("refused:", error.__name__)

async def main():
    client = PyruncClient()
    manifest = Manifest(entries={"main.py": File(content=b"print(6 * 7)")})
    session = await client.create(manifest=manifest, options=PyruncOptions(memory="512M"))
    async with session:
        print((await session.exec("python3 main.py; pwd; id -u")).stdout)
        await session.write(Path("new/file"), io.BytesIO(b"content"))
        print((await session.read(Path("new/file"))).read())
        print(sorted(Path(entry.path).name for entry in await session.ls(".")))
        await refused(ExecTimeoutError, session.exec("sleep 100", timeout=0.5))
        await refused(WorkspaceReadNotFoundError, session.read(Path("missing")))
        packed = await session.persist_workspace()
        written = client.serialize_session_state(session.state)
    other = await client.create()
    async with other:
        await other.hydrate_workspace(packed)
        print((await other.exec("cat new/file")).stdout, await other.running())
    await client.delete(other)
    print(await other.running())
    async with await client.resume(client.deserialize_session_state(written)) as again:
        print((await again.exec("ls")).stdout)

asyncio.run(main())
"""


def test_openai_agents(tmp_path):
    heavy("openai-agents")
    assert shown(["-c", AGENTS], HEAVY, cwd=tmp_path).splitlines() == [
        r"b'42\n/workspace\n65534\n'",
        "b'content'",
        "['main.py', 'new']",
        "refused: ExecTimeoutError",
        "refused: WorkspaceReadNotFoundError",
        "b'content' True",
        "False",
        r"b'main.py\n'",
    ]


def test_pyright(tmp_path):
    heavy("pyright")
    config = f'{{"typeCheckingMode": "strict", "extraPaths": ["{SOURCES}"]}}'
    (tmp_path / "pyrightconfig.json").write_text(config)
    shutil.copy(Path(__file__).with_name("typed_use.py"), tmp_path)
    done = subprocess.run(
        [HEAVY, "-m", "pyright", "--project", tmp_path, tmp_path / "typed_use.py"],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
