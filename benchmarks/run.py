"""Measure pyrunc, runc and crun side by side and write a table and a plot.

    make bench                      all cases
    benchmarks/run.py --quick       fewer rounds
    benchmarks/run.py --only 'exec|state'       cases whose name matches a regular expression
    benchmarks/run.py --pause 0     without a pause between commands
    benchmarks/run.py --runc PATH --crun PATH   other peers than those of the PATH

The runtimes take turns (A B C A B C …), so that whatever else the machine does
hits all of them alike; only the ratios of one run mean anything. Everything
happens in a private mount namespace: the state roots lie on a tmpfs, as /run
does on a real host, and crun gets the cgroup v1 controllers that it misses.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from cases import run_cases
from measure import PAUSE, Bench, Runtime
from report import ORDINARY, plot, table


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


def end(*_: object) -> None:
    """End in good order. timeout(1) sends its signal twice; what is being taken away then, goes."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit("terminated")


def interpreter_of(pyrunc: str) -> str:
    """Return the Python that an installed pyrunc is run by."""
    first_line = Path(pyrunc).with_name("pyrunc-python").read_text().splitlines()[0]
    return first_line.removeprefix("#!").strip()


def main() -> None:
    """Parse the options, measure, print the table, write the files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--only", default="", help="only cases whose name matches this (re.search)")
    parser.add_argument("--rounds", type=int, default=0, help="of each case but the longest")
    parser.add_argument("--pyrunc", default=shutil.which("pyrunc"), help="the pyrunc to measure")
    parser.add_argument("--output", default="", help="directory for results.md and results.svg")
    parser.add_argument("--runc", default=shutil.which("runc"), help="the runc to measure")
    parser.add_argument("--crun", default=shutil.which("crun"), help="the crun to measure")
    parser.add_argument("--pause", type=float, default=PAUSE * 1000, help="ms before a command")
    options = parser.parse_args()
    options.pyrunc = os.path.abspath(options.pyrunc)
    if os.geteuid() != 0:
        raise SystemExit("the benchmarks need root")
    if "PYRUNC_BENCH_INSIDE" not in os.environ:
        os.environ["PYRUNC_BENCH_INSIDE"] = "1"
        os.execvp(
            "unshare", ["unshare", "-m", "--propagation", "private", sys.executable, *sys.argv]
        )
    base = Path(tempfile.mkdtemp(prefix="pyrunc-bench-"))
    # Thousands of containers may be there, which whoever made them takes away.
    signal.signal(signal.SIGTERM, end)
    try:
        private_mounts(base)
        programs = {"pyrunc": options.pyrunc, "runc": options.runc, "crun": options.crun}
        pause = options.pause / 1000
        runtimes = [Runtime(n, p, base, pause) for n, p in programs.items() if p]
        # The same commands, from the ordinary start of the interpreter (docs/snapshot.md).
        ordinary = Runtime(ORDINARY, options.pyrunc, base, pause, PYRUNC_SNAPSHOT="0")
        runtimes.insert(1, ordinary)
        python = interpreter_of(options.pyrunc)
        rounds = options.rounds or (8 if options.quick else 30)
        bench = Bench(runtimes, base, rounds, options.only, python)
        run_cases(bench)
        versions = ", ".join(
            subprocess.run(
                [r.program, "--version"], capture_output=True, text=True, check=False
            ).stdout.splitlines()[0]
            for r in runtimes
        )
        machine = f"{platform.machine()}, {os.cpu_count()} cores, Linux {platform.release()}"
        version = subprocess.run([python, "-V"], capture_output=True, text=True, check=True).stdout
        head = (
            f"{versions}; {version.strip()}; {machine}; "
            f"{options.pause:g} ms of rest before each command; "
            "median ± half the interquartile range, ms unless said\n\n"
        )
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
