"""`pyrunc.run(["true"])` beside what else a Python program can run a command in: bubblewrap, crun…

    python benchmarks/library.py [RUNS]

From one program, sync and asyncio, 1, 8 and 32 at a time, in rounds that take turns, so that a
busy moment of the machine hits all alike. What is not installed is left out. Meant for a quiet
machine: the medians are in milliseconds.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))

import pyrunc
from pyrunc.spec.default import default_spec

if TYPE_CHECKING:
    from collections.abc import Callable

BWRAP = [
    "bwrap", "--unshare-all", "--die-with-parent", "--ro-bind", "/usr", "/usr",
    "--symlink", "usr/bin", "/bin", "--symlink", "usr/lib", "/lib",
    "--symlink", "usr/lib64", "/lib64", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp",
    "true",
]  # fmt: skip
NSJAIL = [
    "nsjail", "-Mo", "-q", "-R", "/usr", "-s", "usr/bin:/bin", "-s", "usr/lib:/lib",
    "-s", "usr/lib64:/lib64", "-T", "/tmp", "--", "/usr/bin/true",
]  # fmt: skip


def by_command(words: list[str]) -> Callable[[int], None]:
    """Return a run of a command."""

    def run(_: int) -> None:
        subprocess.run(words, check=True, capture_output=True)

    return run


def runtime(name: str, bundle: Path) -> Callable[[int], None]:
    """Return a run of an OCI runtime's command."""

    def run(number: int) -> None:
        words = [name, "run", "--bundle", str(bundle), f"bench-{name}-{number}-{time.time_ns()}"]
        subprocess.run(words, check=True, capture_output=True)

    return run


def make_bundle(directory: Path) -> Path:
    """Make a bundle of the host's /usr, with the filter that the library has."""
    from pyrunc.security import default_filter

    for name in ("usr", "proc", "dev", "sys", "tmp"):
        (directory / "rootfs" / name).mkdir(parents=True)
    for name in ("bin", "lib", "lib64"):
        (directory / "rootfs" / name).symlink_to(f"usr/{name}")
    spec = default_spec()
    # Older crun knows no newer one.
    spec["ociVersion"] = "1.0.2"
    spec["process"]["terminal"] = False
    spec["process"]["args"] = ["true"]
    bind = {"destination": "/usr", "type": "bind", "source": "/usr", "options": ["rbind", "ro"]}
    spec["mounts"].append(bind)  # type: ignore[arg-type]
    spec["linux"]["seccomp"] = default_filter.section()  # type: ignore[typeddict-item]
    spec["linux"]["resources"]["memory"] = {"limit": 256 << 20}
    (directory / "config.json").write_text(json.dumps(spec))
    return directory


def candidates(bundle: Path) -> dict[str, Callable[[int], None]]:
    """Return what is there to be measured."""

    def plain(_: int) -> None:
        pyrunc.run(["true"], check=True)

    def pooled(_: int) -> None:
        pyrunc.run(["true"], check=True, pool=8)

    found = {"pyrunc": plain, "pyrunc, pool": pooled}
    found |= {words[0]: by_command(words) for words in (BWRAP, NSJAIL) if shutil.which(words[0])}
    found |= {name: runtime(name, bundle) for name in ("crun", "runc") if shutil.which(name)}
    return found


def measure(run: Callable[[int], None], at_a_time: int, count: int) -> tuple[float, float]:
    """Return the median of a run in milliseconds, and runs a second."""
    times: list[float] = []

    def one(number: int) -> None:
        began = time.perf_counter()
        run(number)
        times.append((time.perf_counter() - began) * 1000)

    began = time.perf_counter()
    with ThreadPoolExecutor(at_a_time) as threads:
        list(threads.map(one, range(count)))
    return statistics.median(times), count / (time.perf_counter() - began)


async def measure_async(at_a_time: int, count: int) -> tuple[float, float]:
    """Do the same with asyncio."""
    times: list[float] = []
    limit = asyncio.Semaphore(at_a_time)

    async def one() -> None:
        async with limit:
            began = time.perf_counter()
            await pyrunc.aio.run(["true"], check=True)
            times.append((time.perf_counter() - began) * 1000)

    began = time.perf_counter()
    await asyncio.gather(*(one() for _ in range(count)))
    return statistics.median(times), count / (time.perf_counter() - began)


def main(count: int) -> None:
    """Measure all and print a table."""
    with tempfile.TemporaryDirectory() as directory:
        measured = candidates(make_bundle(Path(directory)))
        for run in measured.values():
            run(0)
        print(f"{'':16} {'at a time':>9} {'median ms':>10} {'a second':>9}")
        for at_a_time in (1, 8, 32):
            for name, run in measured.items():
                median, rate = measure(run, at_a_time, count)
                print(f"{name:16} {at_a_time:9} {median:10.2f} {rate:9.1f}", flush=True)
            median, rate = asyncio.run(measure_async(at_a_time, count))
            print(f"{'pyrunc.aio':16} {at_a_time:9} {median:10.2f} {rate:9.1f}", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
