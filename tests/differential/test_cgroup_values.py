"""The same limits give the same contents of the cgroup files, whichever runtime sets them.

Every file of the container's cgroups is compared, not only those that a case is about: so a
runtime that sets too much is found as well. And what one refuses, the other must refuse.
"""

from __future__ import annotations

import copy
import errno
import itertools
import json
import os
import re
import shutil
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from cgroup_cases import FILE_CHANGES, FLAG_CHANGES, Change, Limits, limits
from cgroup_files import directories_of, values_of

from bundles import Bundle
from runtimes import Runtime, mount_missing_controllers, pyrunc_command

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.skipif(
    not Path("/sys/fs/cgroup/memory").exists(), reason="cgroup v1 is not mounted here"
)

_numbers = itertools.count(1)

#: The commands that bring a new container to a status.
STATUSES = {"created": (), "running": ("start",), "paused": ("start", "pause")}


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


_OF_LATER_SPECS = "runc 1.1 is older than this part of the specification."
_DEVICES = r"devices/devices\.list"
_FILE_ALONE = "`update -r` takes all of linux.resources, runc some members: the rest does nothing."

#: Every difference that is meant to be; docs/differences-from-runc.md tells of those that matter.
DIFFERENCES = (
    Difference(
        "crun", r".*", _DEVICES, "crun allows all devices without rules, and /dev/console with."
    ),
    Difference(
        "runc crun",
        r"memory too small",
        r"accepted",
        "The kernel takes the limit: where runc and crun have a program of megabytes, pyrunc's "
        "waits in some pages.",
    ),
    Difference(
        "runc",
        r"limits: --memory 1 \(created\)|file: check before update \(created\)",
        r"accepted|memory/memory\.limit_in_bytes",
        "As above.",
    ),
    Difference(
        "runc",
        r"limits: --cpu-share 1 .*",
        r"cpu/cpu\.shares",
        "runc refuses the value after the kernel took it, and does not set it back.",
    ),
    Difference(
        "runc",
        r"memory kernelTCP|file: kernel memory .*",
        r"memory/memory\.kmem\.tcp\.limit_in_bytes",
        "runc 1.1 passes over kernelTCP, which the specification calls a hard limit.",
    ),
    Difference(
        "runc crun",
        r"memory kernel",
        r"refused",
        "Since 5.16 the kernel takes the limit and keeps none; the others do not look.",
    ),
    Difference("runc crun", r"cpu burst.*", r"cpu/cpu\.cfs_burst_us", _OF_LATER_SPECS),
    Difference("runc crun", r"cpu burst over the quota", r"refused", _OF_LATER_SPECS),
    Difference("runc", r"cpu idle.*", r"cpu/cpu\.(idle|shares)", _OF_LATER_SPECS),
    Difference(
        "runc crun",
        r"hugepages .*",
        r"hugetlb/hugetlb\.\d+[MG]B\.rsvd\.limit_in_bytes",
        "A page that is reserved but not there yet is limited as well: without that, a process "
        "is killed when it touches what it was given. runc does so since 1.2.",
    ),
    Difference("runc", r"file: kernel memory .*", r"memory/memory\.kmem.*", _FILE_ALONE),
    Difference("runc", r"file: swappiness .*", r"memory/memory\.swappiness", _FILE_ALONE),
    Difference(
        "runc", r"file: no out-of-memory killer .*", r"memory/memory\.oom_control", _FILE_ALONE
    ),
    Difference("runc", r"file: cpu burst .*", r"cpu/cpu\.cfs_burst_us", _FILE_ALONE),
    Difference("runc", r"file: cpu idle .*", r"cpu/cpu\.(idle|shares)", _FILE_ALONE),
    Difference("runc", r"file: throttle .*", r"blkio/blkio\.throttle\.read_bps.*", _FILE_ALONE),
    Difference("runc", r"file: huge pages .*", r"hugetlb/.*\.limit_in_bytes", _FILE_ALONE),
    Difference("runc", r"file: devices .*", _DEVICES, _FILE_ALONE),
    Difference("runc", r"file: class .*", r"net_cls/net_cls\.classid", _FILE_ALONE),
    Difference("runc", r"file: priority .*", r"net_prio/net_prio\.ifpriomap", _FILE_ALONE),
    Difference(
        "crun", r"memory swappiness too high", r"refused", "The specification has 0 to 100."
    ),
    Difference(
        "crun",
        r"memory (limit|swap) zero",
        r"accepted",
        "Zero stands for a limit that is not set, as in runc and with the engines.",
    ),
    Difference(
        "crun", r"memory no hierarchy", r"accepted", "Kernels since 5.11 know nothing else."
    ),
    Difference(
        "crun",
        r"cpu no quota.*|pids -1|network class largest",
        r"accepted",
        "crun writes signed numbers as unsigned ones, and the other way round.",
    ),
    Difference(
        "crun",
        r"cpu shares too (low|high)",
        r"refused",
        "The kernel would take others for them; runc refuses them as well.",
    ),
    Difference(
        "crun",
        r"blockIO weight( too low)?",
        r"accepted",
        "As runc, no failure where the kernel has no scheduler that knows weights.",
    ),
    Difference(
        "crun", r"rdma .*", r"refused", "A limit that cannot be set is no limit; crun is silent."
    ),
)


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
def config(rootfs_template: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What all containers have in common: they sleep.

    Each runtime has a root file system of its own, since they make nodes in its /dev at the
    same time.
    """
    rootfs = tmp_path_factory.mktemp("limits") / "rootfs"
    for name in ("pyrunc", "runc", "crun"):
        shutil.copytree(rootfs_template, f"{rootfs}-{name}", symlinks=True)
    return {
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": ["sleep", "1000"],
            "env": ["PATH=/bin"],
            "cwd": "/",
        },
        "root": {"path": str(rootfs), "readonly": True},
        "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
        "linux": {"namespaces": [{"type": "pid"}, {"type": "mount"}, {"type": "ipc"}]},
    }


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
def test_limits_of_a_new_container(case: Limits, runtimes, config, machine):
    compare(
        case.name,
        of_each(
            runtimes,
            lambda runtime: created(runtime, Case(runtime, config, case.resources), machine[1]),
        ),
    )


@pytest.mark.parametrize("status", STATUSES)
@pytest.mark.parametrize(
    "change", FLAG_CHANGES + FILE_CHANGES, ids=lambda change: change.name.replace(" ", "_")
)
def test_update(change: Change, status: str, runtimes, config, machine):
    # crun has other flags, and other words for zero and "unchanged".
    runtimes.pop("crun", None)
    compare(
        f"{change.name} ({status})",
        of_each(
            runtimes,
            lambda runtime: updated(
                runtime, Case(runtime, config, change.before), change, status, machine[1]
            ),
        ),
    )


class Case(Bundle):
    """A bundle of its own for one runtime, with the limits, below a cgroup with a new name."""

    def __init__(self, runtime: Runtime, config: dict[str, Any], resources: dict[str, Any]) -> None:
        self.cgroup = f"/test-values-{os.getpid()}-{next(_numbers)}"
        path = Path(tempfile.mkdtemp(prefix="pyrunc-values-"))
        super().__init__(path, copy.deepcopy(config))
        self.config["root"]["path"] += f"-{runtime.name}"
        self.linux["resources"] = copy.deepcopy(resources)
        self.linux["cgroupsPath"] = self.cgroup

    def remove(self, runtime: Runtime, mounts: Path) -> None:
        """Only pyrunc must have left no cgroups; crun leaves them when it refuses a value."""
        shutil.rmtree(self.path)
        left = [x for top in mounts.iterdir() if (x := Path(f"{top}/{self.cgroup}")).exists()]
        for directory in left:
            remove_when_empty(directory)
        assert not left or runtime.name != "pyrunc", left


def of_each(runtimes: dict[str, Runtime], look: Callable[[Runtime], Outcome]) -> dict[str, Outcome]:
    """Return what each runtime makes of it, all at the same time."""
    with ThreadPoolExecutor() as threads:
        futures = {name: threads.submit(look, runtime) for name, runtime in runtimes.items()}
        return {name: future.result() for name, future in futures.items()}


def created(runtime: Runtime, bundle: Case, mounts: Path) -> Outcome:
    """Create a container, read its values, and remove it."""
    result = runtime.create(bundle)
    try:
        if result.code:
            return Outcome(result.code, result.stderr, {})
        return Outcome(0, "", values(runtime, result.id, mounts))
    finally:
        runtime("delete", "--force", result.id)
        bundle.remove(runtime, mounts)


def updated(runtime: Runtime, bundle: Case, change: Change, status: str, mounts: Path) -> Outcome:
    """Create a container, bring it to ``status``, update it, read its values, and remove it."""
    result = runtime.create(bundle)
    try:
        assert result.code == 0, (runtime.name, result)
        for command in STATUSES[status]:
            done = runtime(command, result.id)
            assert done.code == 0, (runtime.name, done)
        arguments = [*change.arguments]
        if change.resources is not None:
            file = bundle.path / "resources.json"
            text = change.resources
            file.write_text(text if isinstance(text, str) else json.dumps(text))
            arguments = ["--resources", str(file)]
        done = runtime("update", *arguments, result.id)
        state = runtime.state(result)
        assert state["status"] == status, (runtime.name, done)
        return Outcome(done.code, done.stderr, values_of(directories_of(state["pid"], mounts)))
    finally:
        runtime("delete", "--force", result.id)
        bundle.remove(runtime, mounts)


def values(runtime: Runtime, container: str, mounts: Path) -> dict[str, str]:
    """Return the contents of all files of the container's cgroups."""
    pid = json.loads(runtime("state", container).stdout)["pid"]
    return values_of(directories_of(pid, mounts))


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


def remove_when_empty(cgroup: Path) -> None:
    """Remove it once what was killed in it is gone: on a busy machine that takes a while."""
    end = time.monotonic() + 20
    while True:
        try:
            return cgroup.rmdir()
        except OSError as error:
            if error.errno != errno.EBUSY or time.monotonic() > end:
                raise
            time.sleep(0.01)


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
