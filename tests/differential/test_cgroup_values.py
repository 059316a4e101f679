"""The same limits give the same contents of the cgroup files, whichever runtime sets them.

Every file of the container's cgroups is compared, not only those that a case is about: so a
runtime that sets too much is found as well. And what one refuses, the other must refuse.
"""

from __future__ import annotations

import copy
import itertools
import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from cgroup_cases import FILE_CHANGES, FLAG_CHANGES, Change, Limits, limits
from cgroup_files import directories_of, values_of
from integration_fixtures import Bundle, Runtime, mount_missing_controllers, pyrunc_command

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(
    not Path("/sys/fs/cgroup/memory").exists(), reason="cgroup v1 is not mounted here"
)

_numbers = itertools.count(1)


class Outcome(NamedTuple):
    """What came of giving limits to a container."""

    code: int
    stderr: str
    #: Contents of its cgroup files by name; empty when there is no container.
    values: dict[str, str]


class Difference(NamedTuple):
    """A way in which another runtime differs, and why it should."""

    #: "runc", "crun", or both.
    others: str
    #: Names of the cases (regular expression).
    cases: str
    #: Names of the files that may differ (regular expression), or "refused" or "accepted": that
    #: pyrunc does so and the other one does not.
    what: str
    reason: str


#: Every difference that is meant to be.
DIFFERENCES: tuple[Difference, ...] = ()


@pytest.fixture(scope="module")
def machine() -> Iterator[tuple[list[str], Path]]:
    """All v1 controllers mounted, some only for us: a prefix for commands, and the mounts."""
    prepare = mount_missing_controllers()
    with subprocess.Popen([*prepare, "sleep", "100000"]) as holder:
        while Path(f"/proc/{holder.pid}/comm").read_text() != "sleep\n":
            time.sleep(0.01)
        mounts = Path(f"/proc/{holder.pid}/root/sys/fs/cgroup")
        yield ["nsenter", f"--mount=/proc/{holder.pid}/ns/mnt"], mounts
        holder.kill()


@pytest.fixture(scope="module")
def bundle(rootfs_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """One root file system for all: the containers sleep, and change nothing."""
    path = tmp_path_factory.mktemp("values")
    shutil.copytree(rootfs_template, path / "rootfs", symlinks=True)
    config = {
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": ["sleep", "1000"],
            "env": ["PATH=/bin"],
            "cwd": "/",
        },
        "root": {"path": "rootfs"},
        "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
        "linux": {"namespaces": [{"type": "pid"}, {"type": "mount"}, {"type": "ipc"}]},
    }
    return Bundle(path, config)


@pytest.fixture
def runtimes(tmp_path: Path, machine: tuple[list[str], Path]) -> Iterator[dict[str, Runtime]]:
    """Those that are installed, by name; the one under test is "pyrunc"."""
    commands = {"pyrunc": pyrunc_command()}
    commands |= {name: [path] for name in ("runc", "crun") if (path := shutil.which(name))}
    if len(commands) == 1:
        pytest.skip("neither runc nor crun is installed")
    found = {n: Runtime(n, [*machine[0], *command], tmp_path) for n, command in commands.items()}
    yield found
    for runtime in found.values():
        runtime.remove_all()


@pytest.mark.parametrize("case", limits(), ids=lambda case: case.name.replace(" ", "-"))
def test_limits_of_a_new_container(case: Limits, runtimes, bundle, machine):
    outcomes = {
        name: created(runtime, bundle, case.resources, machine[1])
        for name, runtime in runtimes.items()
    }
    compare(case.name, outcomes)


@pytest.mark.parametrize("status", ["created", "running", "paused"])
@pytest.mark.parametrize(
    "change", FLAG_CHANGES + FILE_CHANGES, ids=lambda change: change.name.replace(" ", "_")
)
def test_update(change: Change, status: str, runtimes, bundle, machine, tmp_path):
    # crun has other flags, and its words for zero and "unchanged" are others as well.
    outcomes = {
        name: updated(runtimes[name], bundle, change, status, machine[1], tmp_path)
        for name in ("pyrunc", "runc")
        if name in runtimes
    }
    compare(f"{change.name} ({status})", outcomes)


def created(
    runtime: Runtime, bundle: Bundle, resources: dict[str, Any], mounts: Path
) -> Outcome:
    """Create a container, read its values, and remove it."""
    path = prepare(bundle, resources)
    result = runtime.create(bundle)
    try:
        if result.code:
            return Outcome(result.code, result.stderr, {})
        return Outcome(0, "", values(runtime, result.id, mounts))
    finally:
        runtime("delete", "--force", result.id)
        remove_cgroups(runtime, path, mounts)


def updated(
    runtime: Runtime, bundle: Bundle, change: Change, status: str, mounts: Path, directory: Path
) -> Outcome:
    """Create a container, bring it to ``status``, update it, read its values, and remove it."""
    path = prepare(bundle, change.before)
    result = runtime.create(bundle)
    try:
        assert result.code == 0, (runtime.name, result)
        for command in {"created": (), "running": ("start",), "paused": ("start", "pause")}[status]:
            done = runtime(command, result.id)
            assert done.code == 0, (runtime.name, done)
        arguments = [*change.arguments]
        if change.resources is not None:
            file = directory / "resources.json"
            text = change.resources
            file.write_text(text if isinstance(text, str) else json.dumps(text))
            arguments = ["--resources", str(file)]
        done = runtime("update", *arguments, result.id)
        assert runtime.state(result)["status"] == status, (runtime.name, done)
        return Outcome(done.code, done.stderr, values(runtime, result.id, mounts))
    finally:
        runtime("delete", "--force", result.id)
        remove_cgroups(runtime, path, mounts)


def prepare(bundle: Bundle, resources: dict[str, Any]) -> str:
    """Put the limits into the config, and return the new name of the container's cgroups."""
    path = f"/test-values-{os.getpid()}-{next(_numbers)}"
    bundle.linux["resources"] = copy.deepcopy(resources)
    bundle.linux["cgroupsPath"] = path
    return path


def values(runtime: Runtime, container: str, mounts: Path) -> dict[str, str]:
    """Return the contents of all files of the container's cgroups."""
    pid = json.loads(runtime("state", container).stdout)["pid"]
    return values_of(directories_of(pid, mounts))


def remove_cgroups(runtime: Runtime, path: str, mounts: Path) -> None:
    """Only pyrunc must have left none; crun leaves them when it refuses a value."""
    left = [found for top in mounts.iterdir() if (found := Path(f"{top}/{path}")).exists()]
    for directory in left:
        directory.rmdir()
    assert not left or runtime.name != "pyrunc"


def compare(case: str, outcomes: dict[str, Outcome]) -> None:
    """Fail with every difference that is not meant to be."""
    ours = outcomes["pyrunc"]
    found = []
    for name, theirs in outcomes.items():
        meant = [d for d in DIFFERENCES if name in d.others.split() and re.fullmatch(d.cases, case)]
        for what, text in differences(ours, theirs):
            if not any(re.fullmatch(difference.what, what) for difference in meant):
                found.append(f"{name}: {what}: {text}")
    assert not found, "\n".join(found)


def differences(ours: Outcome, theirs: Outcome) -> Iterator[tuple[str, str]]:
    """Name what differs, in the words of `Difference`, with the two sides of it."""
    if ours.code and not theirs.code:
        yield "refused", ours.stderr
    elif theirs.code and not ours.code:
        yield "accepted", theirs.stderr
    elif ours.code != theirs.code:
        yield "code", f"{ours} {theirs}"
    if not ours.values or not theirs.values:
        return
    for file in sorted(ours.values | theirs.values):
        mine, other = ours.values.get(file, "missing"), theirs.values.get(file, "missing")
        if mine != other:
            yield file, f"{mine!r}, not {other!r}"
