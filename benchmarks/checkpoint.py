"""Measure checkpoint and restore of pyrunc and runc side by side, on the same containers.

    benchmarks/checkpoint.py --criu PATH --pyrunc .venv/bin/pyrunc --runc PATH

A container runs until it is ready, is saved, restored under another id and deleted; the runtimes
take turns. Both use the same CRIU, which does most of the work, so what is between them is what
they ask of it. "frozen" is what CRIU tells (stats-dump): how long the processes stood still.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from measure import busybox, default_config

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from pyrunc.checkpoint.statistics import read

#: Programs that say when they are ready, by the file /tmp/ready, and then do little.
PROGRAMS = {
    "a shell that sleeps": ["sh", "-c", "echo > /tmp/ready; while :; do sleep 1000; done"],
    "twenty processes": [
        "sh", "-c",
        "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19; do sleep 1000 & done; "
        "echo > /tmp/ready; wait",
    ],
    "Python, a dozen modules": [
        "python3", "-c",
        "import argparse, asyncio, decimal, email.message, http.client, json, sqlite3, unittest, "
        "time; open('/tmp/ready', 'w'); time.sleep(1000)",
    ],
    "256 MiB of memory": [
        "python3", "-c",
        "import os, time; kept = os.urandom(1 << 20) * 256; open('/tmp/ready', 'w'); "
        "time.sleep(1000)",
    ],
}  # fmt: skip


def bundle(base: Path, name: str, words: list[str]) -> Path:
    """Make a bundle of busybox and, read-only, the host's /usr/lib and Python."""
    path = base / name.replace(" ", "-")
    root = path / "rootfs"
    for directory in ("bin", "proc", "sys", "dev", "tmp", "usr"):
        (root / directory).mkdir(parents=True)
    shutil.copy(busybox(), root / "bin/busybox")
    for applet in ("sh", "sleep"):
        (root / "bin" / applet).symlink_to("busybox")
    for link in ("lib", "lib64"):
        if os.path.islink(f"/{link}"):
            (root / link).symlink_to(os.readlink(f"/{link}"))
    config = default_config(words)
    config["root"] = {"path": "rootfs", "readonly": False}
    config["process"]["env"] = ["PATH=/bin:/usr/bin"]  # type: ignore[index]
    mount = {"destination": "/usr", "type": "bind", "source": "/usr", "options": ["rbind", "ro"]}
    config["mounts"].append(mount)  # type: ignore[attr-defined]
    (path / "config.json").write_text(json.dumps(config))
    return path


class Runtime:
    """One of the two, with a state root of its own."""

    def __init__(self, name: str, program: str, base: Path) -> None:
        self.name = name
        self.words = [program, "--root", str(base / f"root-{name}")]
        self.figures: dict[str, dict[str, list[float]]] = {}

    def must(self, *arguments: str) -> float:
        """Run a command that has to succeed; return its wall time in ms."""
        time.sleep(0.05)
        begun = time.perf_counter()
        # Neither takes a file outside of the container for stdio but this one.
        done = subprocess.run(
            [*self.words, *arguments],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            check=False,
        )  # fmt: skip
        if done.returncode:
            raise SystemExit(f"{self.name} {' '.join(arguments)}: exit status {done.returncode}")
        return (time.perf_counter() - begun) * 1000

    def measure(self, case: str, path: Path, number: int) -> None:
        """Save and restore a container once."""
        ready, images = path / "rootfs/tmp/ready", path / "images"
        ready.unlink(missing_ok=True)
        shutil.rmtree(images, ignore_errors=True)
        first, second = (f"bench{os.getpid()}-{self.name}-{number}-{kind}" for kind in "ab")
        self.must("run", "-d", "-b", str(path), first)
        while not ready.exists():
            time.sleep(0.01)
        time.sleep(0.2)
        saved = self.must("checkpoint", "--image-path", str(images), first)
        descriptor = os.open(images, os.O_RDONLY)
        frozen = read(descriptor)["frozenMicroseconds"] / 1000
        os.close(descriptor)
        size = sum(file.stat().st_size for file in images.glob("*.img")) / 2**20
        restored = self.must("restore", "-d", "-b", str(path), "--image-path", str(images), second)
        self.must("delete", "--force", second)
        figures = {"checkpoint": saved, "frozen": frozen, "restore": restored, "MiB": size}
        if number:
            for name, value in figures.items():
                self.figures.setdefault(case, {}).setdefault(name, []).append(value)


def median(values: list[float]) -> str:
    """Return the median, with half of the interquartile range."""
    if len(values) < 4:
        return f"{statistics.median(values):.1f}"
    low, middle, high = statistics.quantiles(values, n=4)
    return f"{middle:.1f} ± {(high - low) / 2:.1f}"


def table(runtimes: list[Runtime]) -> str:
    """Return what was measured, in Markdown."""
    names = ("checkpoint", "frozen", "restore", "MiB")
    head = "| container | " + " | ".join(f"{n}, {r.name}" for n in names for r in runtimes) + " |"
    lines = [head, "|---" + "|---:" * len(names) * len(runtimes) + "|"]
    for case in PROGRAMS:
        if case in runtimes[0].figures:
            cells = [median(r.figures[case][n]) for n in names for r in runtimes]
            lines.append(f"| {case} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Parse the options, measure, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--only", default="", help="only containers whose name holds this")
    parser.add_argument("--criu", default=shutil.which("criu"), help="the CRIU for both")
    parser.add_argument("--pyrunc", default=shutil.which("pyrunc"), help="the pyrunc to measure")
    parser.add_argument("--runc", default=shutil.which("runc"), help="the runc to measure")
    options = parser.parse_args()
    if os.geteuid() or not (options.criu and options.pyrunc and options.runc):
        raise SystemExit("the benchmark needs root, CRIU, pyrunc and runc")
    criu = os.path.abspath(options.criu)
    os.environ["PATH"] = f"{os.path.dirname(criu)}:{os.environ['PATH']}"
    with tempfile.TemporaryDirectory(prefix="pyrunc-bench-") as directory:
        base = Path(directory)
        programs = {"pyrunc": os.path.abspath(options.pyrunc), "runc": options.runc}
        runtimes = [Runtime(name, program, base) for name, program in programs.items()]
        for case, words in PROGRAMS.items():
            if options.only not in case:
                continue
            path = bundle(base, case, words)
            for number in range(options.rounds + 1):
                for runtime in runtimes:
                    runtime.measure(case, path, number)
            print(f"{case}: done", file=sys.stderr, flush=True)
        for name in (*programs.values(), criu):
            shown = subprocess.run([name, "--version"], capture_output=True, text=True, check=False)
            print(" ".join(shown.stdout.split("\n")[:1]), end="; ")
        print(f"{options.rounds} rounds; median ± half the interquartile range, ms unless said\n")
        print(table(runtimes))


if __name__ == "__main__":
    main()
