"""Runs inside the virtual machine: what runc and pyrunc write into the files of cgroup v2.

The cases are those of tests/differential; because the machine is emulated only some run, unless
ALL_LIMITS is in the environment. Each is a container of runc's and one of pyrunc's with the same
limits: all files of their cgroups must be equal then, and the properties of their units.
"""

import copy
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest

sys.path.append(str(Path(__file__).resolve().parents[2] / "differential"))
from cgroup_cases import FILE_CHANGES, FLAG_CHANGES, MIB, SOME, Limits, a_disk, limits
from cgroup_files import directories_of, values_of
from guest_cgroups import BOOTSTRAP, ROOT, SYSTEMCTL, managers, old_weight, run

sys.path.append(str(Path(__file__).resolve().parents[3] / "src"))
from pyrunc.cgroups.v2_limits import weight_of_shares

PROPERTIES = (
    "AllowedCPUs,AllowedMemoryNodes,CPUQuotaPerSecUSec,CPUQuotaPeriodUSec,CPUWeight,Delegate,"
    "IOWeight,MemoryLow,MemoryMax,MemorySwapMax,Slice,TasksMax,Transient"
)
ALL = "ALL_LIMITS" in os.environ
_numbers = itertools.count(1)


class Difference(NamedTuple):
    """A way in which runc differs, and why it should."""

    #: Names of the cases (regular expression).
    cases: str
    #: Names of the files or properties (regular expression), or "refused" or "accepted": that
    #: pyrunc does so and runc does not.
    what: str
    reason: str
    #: Under which managers (regular expression).
    managers: str = ".*"


_OF_LATER_SPECS = "runc 1.1 is older than this part of the specification."

DIFFERENCES = (
    Difference("cpu burst.*|file: cpu burst", r"unified/cpu\.max\.burst", _OF_LATER_SPECS),
    Difference("cpu idle.*|file: cpu idle", r"unified/cpu\.(idle|weight.*)", _OF_LATER_SPECS),
    Difference(
        "memory (swappiness|no out|kernel).*|cpu realtime.*|.*leaf weight.*|network.*"
        "|file: (real time|kernel memory)",
        "refused",
        "Where there is no conversion to v2 the specification wants an error; runc has none.",
    ),
    Difference(
        "cpu idle.*|file: cpu idle",
        "CPUWeight",
        "What systemd was not told of it sets back.",
        "systemd",
    ),
    Difference(
        "limits: .*|file: .*",
        "AllowedCPUs|AllowedMemoryNodes",
        "What was refused stays in runc's unit.",
        "systemd",
    ),
    Difference("cpu burst over the quota", "refused", _OF_LATER_SPECS),
    Difference("memory swappiness too high", "refused", "The specification has 0 to 100."),
    Difference(
        "cpu shares too high", "refused", "They are refused on v1, where runc refuses them as well."
    ),
    Difference(
        "blockIO weight of (a|no) disk",
        "refused",
        "The kernel takes no weight for the disk, and what cannot be set is an error; without BFQ "
        "runc does not ask it.",
    ),
    Difference(
        "blockIO throttle zero",
        "accepted",
        "0 takes a throttle away on v1; on v2 that is called max, and the kernel refuses runc's 0.",
    ),
    Difference(
        "block.*",
        "IOWeight",
        "systemd is told of all that it has a property for.",
        "systemd",
    ),
    Difference(
        "limits: .*|file: .*",
        r"IOWeight|unified/io\.weight|MemorySwapMax|unified/memory\.swap\.max",
        "As these two show, what systemd was not told of it sets back with the next update.",
        "systemd",
    ),
    Difference(
        "memory swap same as limit",
        "MemorySwapMax",
        "No swap is a limit on swap as well; runc tells systemd of none.",
        "systemd",
    ),
)

_DISK = dict(zip(("major", "minor"), a_disk(), strict=True))
UNIFIED = [
    Limits(f"unified {name}", {**more, "unified": files})
    for name, files, more in (
        ("files", {"memory.high": "50331648", "cpu.weight": "77", "pids.max": "31"}, {}),
        ("over the others", {"memory.max": "50331648"}, {"memory": {"limit": 64 * MIB}}),
        ("unknown controller", {"nonsense.max": "1"}, {}),
        ("unknown file", {"memory.nonsense": "1"}, {}),
        ("path", {"../memory.max": "1"}, {}),
        ("bad value", {"memory.max": "much"}, {}),
    )
]
#: As much as possible in few containers.
TOGETHER = [
    Limits("all usual ones", {**SOME, "hugepageLimits": [{"pageSize": "2MB", "limit": 4 * MIB}]}),
    Limits(
        "none at all",
        {
            "memory": {"limit": -1, "swap": -1, "reservation": -1},
            "cpu": {"quota": -1, "shares": 2},
            "pids": {"limit": -1},
        },
    ),
    Limits(
        "odd numbers",
        {
            "memory": {"limit": 64 * MIB + 1, "swap": -1},
            "cpu": {"shares": 262144, "period": 50000, "cpus": "0-1"},
            "pids": {"limit": 1},
        },
    ),
    Limits(
        "block devices",
        {
            "blockIO": {
                "weight": 300,
                "throttleReadBpsDevice": [{**_DISK, "rate": 1048576}],
                "throttleWriteBpsDevice": [{**_DISK, "rate": 1048577}],
                "throttleReadIOPSDevice": [{**_DISK, "rate": 1000}],
                "throttleWriteIOPSDevice": [{**_DISK, "rate": 1001}],
            }
        },
    ),
]
CHOSEN = {
    "nothing",
    "memory swap same as limit",
    "memory swap alone",
    "memory swap below the limit",
    "cpu shares too low",
    "cpu period too long",
    "cpu burst",
    "cpu idle",
    "cpu cpus that are not",
    "memory swappiness",
    "network class",
    "pids 0",
}
#: Those in which systemd has a part.
WITH_PROPERTIES = {
    *(case.name for case in TOGETHER),
    "unified files",
    "unified over the others",
    "memory swap same as limit",
}
CASES = [*TOGETHER, *UNIFIED, *(case for case in limits() if ALL or case.name in CHOSEN)]
#: Not compared in a row of updates, since what they do differently would show ever after.
_LEFT_OUT = re.compile(
    # 0 is a limit of processes for us (docs/differences-from-runc.md).
    r"--pids-limit 0"
    # runc on v2 wants the memory limit said again with one on swap, and the quota with its period.
    r"|: --memory-swap (64m|32m)|: --cpu-(quota|period) \S+$"
    # What was refused stays in runc's unit.
    r"|--memory 80m --cpuset-cpus 77"
    # The kernel makes it come true by killing the container. So it does with runc under systemd
    # though a check was asked for; test_a_check_before_update_comes_before_everything has it.
    r"|--memory 1$|file: check before"
    # With a file, runc sets some members only.
    r"|file: (swappiness|no out|cpu burst|cpu idle|throttle|huge pages|class|priority|devices)"
    # No business of cgroups.
    r"|no-such-flag|cpu-rt|not JSON|a list|nothing at"
)
CHANGES = [
    change
    for change in FLAG_CHANGES + FILE_CHANGES
    if change.before and not _LEFT_OUT.search(change.name)
]


WEIGHTS = ("unified/cpu.weight", "CPUWeight")


class Runtime:
    """One of the two, with one of the managers."""

    def __init__(self, name, command, manager, directory, config):
        self.name = name
        self.command = [*command, "--root", str(directory / f"{name}-{manager}")]
        self.command += ["--systemd-cgroup"] if manager == "systemd" else []
        self.manager = manager
        self.directory = directory
        self.config = config

    def __call__(self, *words):
        """Run it; its output goes to a file, which containers may keep open."""
        with (self.directory / f"{self.name}.log").open("w+") as log:
            done = subprocess.run(
                [*self.command, *words],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, check=False, timeout=120,
            )  # fmt: skip
            log.seek(0)
            return done.returncode, log.read()

    def create(self, resources):
        """Return a container's name, its pid, and how `create` ended."""
        name = f"values-{self.name}-{next(_numbers)}"
        bundle = self.directory / f"bundle-{self.name}"
        bundle.mkdir(exist_ok=True)
        config = copy.deepcopy(self.config)
        config["linux"]["resources"] = resources
        systemd = self.manager == "systemd"
        config["linux"]["cgroupsPath"] = f":values:{name}" if systemd else f"/{name}"
        (bundle / "config.json").write_text(json.dumps(config))
        file = bundle / "pid"
        code, text = self("create", "--bundle", str(bundle), "--pid-file", str(file), name)
        return name, 0 if code else int(file.read_text()), code, text

    def values(self, name, pid, *, properties):
        """Return the contents of the cgroup's files, and of the unit's properties, by name."""
        found = values_of(directories_of(pid, Path("/sys/fs/cgroup")))
        if properties and self.manager == "systemd":
            shown = run(*SYSTEMCTL, "show", f"values-{name}.scope", "-p", PROPERTIES).stdout
            found |= dict(line.split("=", 1) for line in shown.splitlines())
        return found

    def look(self, resources):
        """Create a container, and return how that ended with what is in its files then."""
        name, pid, code, text = self.create(resources)
        try:
            return code, text, {} if code else self.values(name, pid, properties=True)
        finally:
            self("delete", "--force", name)


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """What all containers have in common."""
    path = tmp_path_factory.mktemp("rootfs")
    (path / "bin").mkdir()
    shutil.copy(shutil.which("busybox"), path / "bin/sleep")
    spec = tmp_path_factory.mktemp("spec")
    run(*pyrunc_words(), "spec", "--bundle", str(spec), *([] if ROOT else ["--rootless"]))
    found = json.loads((spec / "config.json").read_text())
    found["ociVersion"] = "1.0.2"
    found["process"] |= {"terminal": False, "args": ["sleep", "1000"]}
    found["root"] = {"path": str(path)}
    for name in ("dev", "proc", "sys"):
        (path / name).mkdir()
    return found


def pyrunc_words():
    return ["python3", "-I", "-S", "-X", "utf8", "-c", BOOTSTRAP]


@pytest.fixture(params=managers())
def runtimes(request, config, tmp_path):
    return [
        Runtime(name, words, request.param, tmp_path, config)
        for name, words in (("runc", ["runc"]), ("pyrunc", pyrunc_words()))
    ]


def of_the_same_shares(old, new):
    """Tell whether there are ``cpu.shares`` of which runc before 1.3.2 makes the weight ``old``.

    And pyrunc, as runc does since, ``new``. About 26 shares have one weight.
    """
    if not (old and new and old.isdigit() and new.isdigit()) or not 1 <= int(old) <= 10000:
        return False
    first = 2 + (int(old) - 1) * 262142 // 9999
    return any(
        old_weight(shares) == int(old) and weight_of_shares(shares) == int(new)
        for shares in range(first, min(first + 28, 262144) + 1)
    )


def both(runtimes, look):
    """Return what it is with runc and with pyrunc; they work at the same time."""
    with ThreadPoolExecutor() as threads:
        return list(threads.map(look, runtimes))


def unexplained(case, manager, theirs, ours):
    """Return the differences that are not meant to be."""
    found = []
    newer = {name for name in WEIGHTS if of_the_same_shares(theirs[2].get(name), ours[2].get(name))}
    if "unified/cpu.weight" in newer:
        newer.add("unified/cpu.weight.nice")
    if bool(ours[0]) != bool(theirs[0]):
        found.append(("refused" if ours[0] else "accepted", f"{ours[1]}{theirs[1]}"))
    if ours[2] and theirs[2]:
        for name in sorted(ours[2] | theirs[2]):
            mine, other = ours[2].get(name), theirs[2].get(name)
            if mine != other and name not in newer:
                found.append((name, f"{mine!r}, not {other!r}"))
    meant = [
        difference
        for difference in DIFFERENCES
        if re.fullmatch(difference.cases, case) and re.fullmatch(difference.managers, manager)
    ]
    return [
        f"{case}: {what}: {text}"
        for what, text in found
        if not any(re.fullmatch(difference.what, what) for difference in meant)
    ]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.replace(" ", "-"))
def test_limits_of_a_new_container(case, runtimes):
    if runtimes[0].manager == "systemd" and not ALL and case.name not in WITH_PROPERTIES:
        pytest.skip("what the kernel thinks of it was seen with cgroupfs; ALL_LIMITS runs it")
    theirs, ours = both(runtimes, lambda runtime: runtime.look(case.resources))
    assert not unexplained(case.name, runtimes[0].manager, theirs, ours)


def test_a_check_before_update_comes_before_everything(runtimes, tmp_path):
    """A limit below what is used is refused; neither the kernel nor systemd has heard of it."""
    runtime = runtimes[1]
    name, pid, code, text = runtime.create(SOME)
    assert code == 0, text
    try:
        assert runtime("start", name)[0] == 0
        before = runtime.values(name, pid, properties=True)
        file = tmp_path / "resources.json"
        file.write_text(json.dumps({"memory": {"limit": 4096, "checkBeforeUpdate": True}}))
        code, text = runtime("update", "--resources", str(file), name)
        assert code == 1
        assert "(checkBeforeUpdate)" in text
        assert runtime.values(name, pid, properties=True) == before
    finally:
        runtime("delete", "--force", name)


def test_updates(runtimes, tmp_path):
    """One after the other on the same container, which is paused for the last half of them."""
    systemd = runtimes[0].manager == "systemd"
    names: dict[str, tuple[str, int]] = {}
    for runtime in runtimes:
        name, pid, code, text = runtime.create(SOME)
        assert code == 0, (runtime.name, text)
        names[runtime.name] = name, pid
    found = []
    chosen = CHANGES if ALL else CHANGES[1::6] if systemd else CHANGES[::3]

    def change_of(change):
        words = list(change.arguments)
        if change.resources is not None:
            file = tmp_path / "resources.json"
            text = change.resources
            file.write_text(text if isinstance(text, str) else json.dumps(text))
            words = ["--resources", str(file)]

        def look(runtime):
            name, pid = names[runtime.name]
            code, text = runtime("update", *words, name)
            return code, text, runtime.values(name, pid, properties=True)

        return look

    try:
        for number, change in enumerate(chosen):
            if number == len(chosen) // 2:
                for command in ("start", "pause"):
                    for runtime in runtimes:
                        code, text = runtime(command, names[runtime.name][0])
                        assert code == 0, (runtime.name, command, text)
            theirs, ours = both(runtimes, change_of(change))
            found += unexplained(change.name, runtimes[0].manager, theirs, ours)
    finally:
        for runtime in runtimes:
            runtime("delete", "--force", names[runtime.name][0])
    assert not found, "\n".join(found)
