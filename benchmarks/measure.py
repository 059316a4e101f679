"""Running the runtimes in turn, on bundles made for it."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

#: Seconds of rest before every command, unless told otherwise.
PAUSE = 0.05
FIXTURES = Path(__file__).resolve().parent / "configs"


class Runtime:
    """One runtime's binary with a state root of its own, and variables for it."""

    def __init__(
        self, name: str, program: str, base: Path, pause: float = PAUSE, **variables: str
    ) -> None:
        self.name = name
        self.pause = pause
        self.environment = {**os.environ, **variables}
        self.program = program
        self.root = str(base / f"root-{name.replace(' ', '-')}")

    def spawn(self, *arguments: str, pause: float | None = None) -> tuple[float, int]:
        """Run a command; return its wall time in ms and its exit status.

        After a pause, since the first move between cgroups waits for the kernel and those
        right after it do not: no runtime may profit from what the one before it waited for.
        """
        argv = [self.program, "--root", self.root, *arguments]
        actions = [(os.POSIX_SPAWN_OPEN, n, "/dev/null", os.O_RDWR, 0) for n in (0, 1)]
        time.sleep(self.pause if pause is None else pause)
        start = time.perf_counter()
        pid = os.posix_spawn(self.program, argv, self.environment, file_actions=actions)
        _, status = os.waitpid(pid, 0)
        elapsed = (time.perf_counter() - start) * 1000
        return elapsed, os.waitstatus_to_exitcode(status)

    def must(self, *arguments: str, pause: float | None = None) -> float:
        """Run a command that has to succeed; return its wall time in ms."""
        elapsed, status = self.spawn(*arguments, pause=pause)
        if status != 0:
            raise SystemExit(f"{self.name} {' '.join(arguments)}: exit status {status}")
        return elapsed


class Bench:
    """The cases, and what they gave."""

    def __init__(
        self, runtimes: list[Runtime], base: Path, rounds: int, only: str, interpreter: str
    ) -> None:
        self.runtimes = runtimes
        #: The Python that runs pyrunc.
        self.interpreter = interpreter
        self.base = base
        self.rounds = rounds
        self._only = re.compile(only)
        self.results: dict[str, dict[str, list[float]]] = {}
        self.notes: dict[str, str] = {}
        self._number = 0

    def name(self) -> str:
        """Return an id not used before."""
        self._number += 1
        return f"bench{os.getpid()}-{self._number}"

    def wants(self, title: str) -> bool:
        """Whether a case is to be measured: its title matches the expression that was given."""
        return bool(self._only.search(title))

    def case(self, title: str, measure: Callable[[Runtime], float], rounds: int = 0) -> None:
        """Measure a case for every runtime in turn, each time in another order.

        Whoever comes after another of its kind finds more of what it needs in the caches.
        """
        if not self.wants(title):
            return
        series: dict[str, list[float]] = {r.name: [] for r in self.runtimes}
        for runtime in self.runtimes:
            measure(runtime)
        for _ in range(rounds or self.rounds):
            for runtime in random.sample(self.runtimes, len(self.runtimes)):
                series[runtime.name].append(measure(runtime))
        self.results[title] = series
        shown = "  ".join(f"{n} {statistics.median(v):8.2f}" for n, v in series.items())
        print(f"{title:44} {shown}", file=sys.stderr, flush=True)

    def bundle(self, name: str, config: dict[str, object]) -> str:
        """Make a bundle with a busybox root file system."""
        path = self.base / name
        binaries = path / "rootfs" / "bin"
        binaries.mkdir(parents=True)
        shutil.copy(busybox(), binaries / "busybox")
        for applet in ("sh", "true", "sleep", "cat"):
            (binaries / applet).symlink_to("busybox")
        for directory in ("proc", "sys", "dev", "tmp", "run", "etc"):
            (path / "rootfs" / directory).mkdir()
        (path / "config.json").write_text(json.dumps(config))
        return str(path)


def busybox() -> str:
    """Return the path of a static busybox."""
    for path in ("/bin/busybox", "/usr/bin/busybox"):
        if os.path.exists(path):
            return path
    raise SystemExit("the benchmarks need busybox (package busybox-static)")


def default_config(args: list[str]) -> dict[str, object]:
    """Return what `runc spec` writes, without a terminal."""
    with tempfile.TemporaryDirectory() as directory:
        subprocess.run(["runc", "spec"], cwd=directory, check=True)
        config: dict[str, object] = json.loads(Path(directory, "config.json").read_text())
    config["ociVersion"] = "1.0.2"
    config["process"] |= {"terminal": False, "args": args}  # type: ignore[operator]
    return config


def engine_configs() -> dict[str, dict[str, object]]:
    """Return the configs that engines wrote, made to run in our bundles."""
    configs = {}
    for path in sorted(FIXTURES.glob("*.json")):
        config = json.loads(path.read_text())
        config["ociVersion"] = "1.0.2"
        config["process"] |= {"terminal": False, "args": ["true"], "cwd": "/", "env": ["PATH=/bin"]}
        config["root"] = {"path": "rootfs"}
        config.pop("hooks", None)
        linux = config["linux"]
        linux.pop("cgroupsPath", None)
        linux["namespaces"] = [{"type": n["type"]} for n in linux["namespaces"]]
        config["mounts"] = [
            m
            for m in config["mounts"]
            if "bind" not in [*m.get("options", []), m.get("type")]
            and "rbind" not in m.get("options", [])
        ]
        config["process"].pop("rlimits", None)
        config["process"].pop("oomScoreAdj", None)
        config["process"].pop("apparmorProfile", None)
        configs[path.stem] = config
    return configs
