"""Measure pyrunc, runc and crun side by side and write a table and a plot.

    make bench                      all cases
    benchmarks/run.py --quick       fewer rounds
    benchmarks/run.py --only exec   cases whose name holds "exec"

The runtimes take turns (A B C A B C …), so that whatever else the machine does
hits all of them alike; only the ratios of one run mean anything. Everything
happens in a private mount namespace: the state roots lie on a tmpfs, as /run
does on a real host, and crun gets the cgroup v1 controllers that it misses.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).resolve().parent
RUNTIMES = ("pyrunc", "runc", "crun")
FIXTURES = HERE / "configs"


class Runtime:
    """One runtime's binary with a state root of its own."""

    def __init__(self, name: str, program: str, base: Path) -> None:
        self.name = name
        self.program = program
        self.root = str(base / f"root-{name}")

    def spawn(self, *arguments: str, cwd: str | None = None) -> tuple[float, int, int]:
        """Run a command; return its wall time in ms, peak RSS in KiB and exit status."""
        argv = [self.program, "--root", self.root, *arguments]
        actions = [(os.POSIX_SPAWN_OPEN, n, "/dev/null", os.O_RDWR, 0) for n in (0, 1)]
        start = time.perf_counter()
        pid = os.posix_spawn(self.program, argv, os.environ, file_actions=actions)
        _, status, usage = os.wait4(pid, 0)
        elapsed = (time.perf_counter() - start) * 1000
        return elapsed, usage.ru_maxrss, os.waitstatus_to_exitcode(status)

    def must(self, *arguments: str) -> float:
        """Run a command that has to succeed; return its wall time in ms."""
        elapsed, _, status = self.spawn(*arguments)
        if status != 0:
            raise SystemExit(f"{self.name} {' '.join(arguments)}: exit status {status}")
        return elapsed


class Bench:
    """The cases, and what they gave."""

    def __init__(self, runtimes: list[Runtime], base: Path, rounds: int, only: str) -> None:
        self.runtimes = runtimes
        self.base = base
        self.rounds = rounds
        self.only = only
        self.results: dict[str, dict[str, list[float]]] = {}
        self.notes: dict[str, str] = {}
        self._number = 0

    def name(self) -> str:
        """Return an id not used before."""
        self._number += 1
        return f"bench{os.getpid()}-{self._number}"

    def case(self, title: str, measure: Callable[[Runtime], float], rounds: int = 0) -> None:
        """Measure a case for every runtime in turn."""
        if self.only not in title:
            return
        series: dict[str, list[float]] = {r.name: [] for r in self.runtimes}
        for runtime in self.runtimes:
            measure(runtime)
        for _ in range(rounds or self.rounds):
            for runtime in self.runtimes:
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


def run_cases(bench: Bench) -> None:
    """All cases, in the order of the table."""
    true = bench.bundle("true", default_config(["true"]))
    sleeper = bench.bundle("sleep", default_config(["sleep", "3600"]))
    bench.case("run true, spec default", lambda r: r.must("run", "-b", true, bench.name()))
    engines = {}
    for name, config in engine_configs().items():
        engines[name] = bench.bundle(name, config)
        bench.case(
            f"run true, config of {name}",
            lambda r, b=engines[name]: r.must("run", "-b", b, bench.name()),  # type: ignore[misc]
        )

    def life(bundle: str) -> Callable[[Runtime], float]:
        def measure(runtime: Runtime) -> float:
            container = bench.name()
            total = runtime.must("create", "-b", bundle, container)
            total += runtime.must("start", container)
            time.sleep(0.005)
            return total + runtime.must("delete", "--force", container)

        return measure

    bench.case("create + start + delete, spec default", life(true))
    for name, bundle in engines.items():
        bench.case(f"create + start + delete, config of {name}", life(bundle))
    _single_commands(bench, sleeper)
    _lists(bench, sleeper)
    _crowd(bench, true, sleeper)


def _single_commands(bench: Bench, sleeper: str) -> None:
    """Each command alone, on a container that is there already."""

    def timed(
        command: Callable[[Runtime, str], float], *, start: bool
    ) -> Callable[[Runtime], float]:
        def measure(runtime: Runtime) -> float:
            container = bench.name()
            runtime.must("create", "-b", sleeper, container)
            if start:
                runtime.must("start", container)
            elapsed = command(runtime, container)
            runtime.spawn("delete", "--force", container)
            return elapsed

        return measure

    def create(runtime: Runtime) -> float:
        container = bench.name()
        elapsed = runtime.must("create", "-b", sleeper, container)
        runtime.spawn("delete", "--force", container)
        return elapsed

    bench.case("create", create)
    bench.case("start", timed(lambda r, c: r.must("start", c), start=False))
    bench.case("exec true", timed(lambda r, c: r.must("exec", c, "true"), start=True))
    bench.case("state", timed(lambda r, c: r.must("state", c), start=True))
    bench.case("kill", timed(lambda r, c: r.must("kill", c, "KILL"), start=True))
    bench.case(
        "delete --force (running)", timed(lambda r, c: r.must("delete", "--force", c), start=True)
    )

    def delete_stopped(runtime: Runtime, container: str) -> float:
        runtime.must("kill", container, "KILL")
        time.sleep(0.02)
        return runtime.must("delete", container)

    bench.case("delete (stopped)", timed(delete_stopped, start=True))
    python = Runtime(
        "python3 -I -S -c pass", shutil.which("python3.11") or sys.executable, bench.base
    )
    series = []
    for _ in range(bench.rounds * 2):
        start = time.perf_counter()
        pid = os.posix_spawn(python.program, ["python3", "-I", "-S", "-c", "pass"], os.environ)
        os.waitpid(pid, 0)
        series.append((time.perf_counter() - start) * 1000)
    bench.results["(python3 -I -S -c pass)"] = {"pyrunc": series}


def _lists(bench: Bench, sleeper: str) -> None:
    """`list` with many containers; created ones, which cost the least."""
    made: dict[str, list[str]] = {r.name: [] for r in bench.runtimes}
    for count in (10, 100, 1000):
        if bench.only not in f"list, {count} containers" and bench.only not in "create, crowded":
            continue
        for runtime in bench.runtimes:
            while len(made[runtime.name]) < count:
                container = bench.name()
                runtime.must("create", "-b", sleeper, container)
                made[runtime.name].append(container)
        bench.case(
            f"list, {count} containers",
            lambda r: r.must("list"),
            rounds=max(3, bench.rounds // (1 + count // 100)),
        )
    if any(made.values()):

        def create(runtime: Runtime) -> float:
            container = bench.name()
            elapsed = runtime.must("create", "-b", sleeper, container)
            runtime.spawn("delete", "--force", container)
            return elapsed

        bench.case("create, crowded with 1000 containers of each", create)
    for runtime in bench.runtimes:
        for container in made[runtime.name]:
            runtime.spawn("delete", "--force", container)


def _crowd(bench: Bench, true: str, sleeper: str) -> None:
    """Many at once, and how little memory is enough."""

    def eight_at_a_time(runtime: Runtime) -> float:
        start = time.perf_counter()
        running: list[int] = []
        actions = [(os.POSIX_SPAWN_OPEN, n, "/dev/null", os.O_RDWR, 0) for n in (0, 1)]
        for _ in range(40):
            if len(running) == 8:
                os.waitpid(running.pop(0), 0)
            argv = [runtime.program, "--root", runtime.root, "run", "-b", true, bench.name()]
            running.append(os.posix_spawn(argv[0], argv, os.environ, file_actions=actions))
        for pid in running:
            os.waitpid(pid, 0)
        return (time.perf_counter() - start) * 1000

    bench.case("40 times run true, 8 at a time", eight_at_a_time, rounds=3)

    def smallest_limit(runtime: Runtime) -> float:
        low, high = 4, 65536
        while high - low > max(4, low // 8):
            middle = (low + high) // 2
            config = default_config(["true"])
            config["linux"]["resources"]["memory"] = {"limit": middle * 1024}  # type: ignore[index]
            bundle = bench.bundle(bench.name(), config)
            good = all(runtime.spawn("run", "-b", bundle, bench.name())[2] == 0 for _ in range(2))
            low, high = (low, middle) if good else (middle, high)
        return float(high)

    bench.case("smallest memory limit for true (KiB)", smallest_limit, rounds=1)

    def init_rss(runtime: Runtime) -> float:
        container = bench.name()
        runtime.must("create", "-b", sleeper, container)
        state = subprocess.run(
            [runtime.program, "--root", runtime.root, "state", container],
            capture_output=True,
            check=True,
        )
        pid = json.loads(state.stdout)["pid"]
        status = Path(f"/proc/{pid}/status").read_text()
        runtime.spawn("delete", "--force", container)
        return float(next(x.split()[1] for x in status.splitlines() if x.startswith("VmRSS")))

    bench.case("RSS of a created container's init (KiB)", init_rss, rounds=3)


def private_mounts(base: Path) -> None:
    """In our own mount namespace: a tmpfs for the state roots, v1 controllers for crun."""
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(base)], check=True)
    if Path("/sys/fs/cgroup/cgroup.controllers").exists():
        return
    # The directories must not stay behind in the host's /sys/fs/cgroup: cover it first.
    covered = base / "cgroup"
    covered.mkdir()
    subprocess.run(["mount", "--rbind", "/sys/fs/cgroup", str(covered)], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/sys/fs/cgroup"], check=True)
    names = [entry.name for entry in covered.iterdir() if entry.is_mount()]
    for name in names:
        where = Path("/sys/fs/cgroup") / name
        where.mkdir()
        subprocess.run(["mount", "--bind", str(covered / name), str(where)], check=True)
    for controller in ("hugetlb", "perf_event", "net_cls", "net_prio"):
        where = Path("/sys/fs/cgroup") / controller
        if controller not in names:
            where.mkdir()
            subprocess.run(
                ["mount", "-t", "cgroup", "-o", controller, "cgroup", str(where)],
                check=False,
                stderr=subprocess.DEVNULL,
            )


def table(bench: Bench) -> str:
    """Return the results as a Markdown table."""
    names = [r.name for r in bench.runtimes]
    others = [n for n in names if n != "pyrunc"]
    head = ["case", *names, *(f"pyrunc / {n}" for n in others)]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for title, series in bench.results.items():
        row = [title]
        medians = {n: statistics.median(series[n]) for n in names if series.get(n)}
        for name in names:
            if name not in medians:
                row.append("")
                continue
            quartiles = sorted(series[name])
            spread = quartiles[len(quartiles) * 3 // 4] - quartiles[len(quartiles) // 4]
            row.append(f"{medians[name]:.1f} ± {spread / 2:.1f}")
        for other in others:
            ratio = medians["pyrunc"] / medians[other] if medians.get(other) else None
            row.append(f"{ratio:.2f}" if ratio is not None else "")
        lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines) + "\n"


def plot(bench: Bench) -> str:
    """Return a bar chart of the medians as SVG, relative to runc."""
    titles = [t for t, s in bench.results.items() if len(s) > 1 and "KiB" not in t]
    height = 40 + 54 * len(titles)
    colours = {"pyrunc": "#3572a5", "runc": "#00add8", "crun": "#888888"}
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="860" height="{height}" '
        'font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="white"/>'
        '<text x="10" y="20" font-size="14">time relative to runc (shorter is faster)</text>'
    ]
    for row, title in enumerate(titles):
        top = 36 + 54 * row
        medians = {n: statistics.median(v) for n, v in bench.results[title].items()}
        base = medians.get("runc") or max(medians.values())
        parts.append(f'<text x="10" y="{top + 14}">{title}</text>')
        for index, (name, value) in enumerate(medians.items()):
            width = min(420, 210 * value / base)
            y = top + 2 + 15 * index
            parts.append(
                f'<rect x="330" y="{y}" width="{width:.0f}" height="12" fill="{colours[name]}"/>'
                f'<text x="{336 + width:.0f}" y="{y + 10}">{name} {value:.1f} ms</text>'
            )
    return "\n".join(parts) + "\n</svg>\n"


def main() -> None:
    """Parse the options, measure, print the table, write the files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--only", default="", help="only cases whose name holds this")
    parser.add_argument("--pyrunc", default=shutil.which("pyrunc"), help="the pyrunc to measure")
    parser.add_argument("--output", default="", help="directory for results.md and results.svg")
    options = parser.parse_args()
    if os.geteuid() != 0:
        raise SystemExit("the benchmarks need root")
    if "PYRUNC_BENCH_INSIDE" not in os.environ:
        os.environ["PYRUNC_BENCH_INSIDE"] = "1"
        os.execvp(
            "unshare", ["unshare", "-m", "--propagation", "private", sys.executable, *sys.argv]
        )
    base = Path(tempfile.mkdtemp(prefix="pyrunc-bench-"))
    try:
        private_mounts(base)
        programs = {
            "pyrunc": options.pyrunc,
            "runc": shutil.which("runc"),
            "crun": shutil.which("crun"),
        }
        runtimes = [Runtime(n, p, base) for n, p in programs.items() if p]
        bench = Bench(runtimes, base, 8 if options.quick else 30, options.only)
        run_cases(bench)
        versions = ", ".join(
            subprocess.run(
                [r.program, "--version"], capture_output=True, text=True, check=False
            ).stdout.splitlines()[0]
            for r in runtimes
        )
        machine = f"{platform.machine()}, {os.cpu_count()} cores, Linux {platform.release()}"
        head = f"{versions}; {machine}; median ± half the interquartile range, ms unless said\n\n"
        text = head + table(bench)
        print(text)
        if options.output:
            Path(options.output, "results.md").write_text(text)
            Path(options.output, "results.svg").write_text(plot(bench))
    finally:
        subprocess.run(["umount", "-l", str(base)], check=False)
        shutil.rmtree(base, ignore_errors=True)


if __name__ == "__main__":
    main()
