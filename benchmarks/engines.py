"""What an engine's user sees: `podman run --rm` and `ctr run --rm` of true on each runtime.

    benchmarks/engines.py [--rounds N] [--pyrunc PATH]

The engines run as in tests/clients: real ones, each in namespaces and with a data root of its own.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests/clients"))
RUNTIMES = ("pyrunc", "runc", "crun")


def measure(rounds: int, commands: dict[str, Callable[[], list[str]]]) -> dict[str, list[float]]:
    """Run the commands in turn and return their times in milliseconds."""
    times: dict[str, list[float]] = {name: [] for name in commands}
    for turn in range(rounds + 1):
        for name, command in commands.items():
            argv = command()
            start = time.perf_counter()
            subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True)
            if turn:
                times[name].append((time.perf_counter() - start) * 1000)
    return times


def podman(programs: dict[str, str], rounds: int) -> dict[str, list[float]]:
    """Measure `podman run --rm`."""
    from engine_room import started
    from test_podman import Podman

    options = ["run", "--rm", "--network", "none", "box", "true"]
    with started(Podman) as engine:
        os.environ.update(engine.room.environment)
        return measure(
            rounds,
            {
                name: lambda program=program: engine.room.command(  # type: ignore[misc]
                    "podman", "--runtime", program, *options
                )
                for name, program in programs.items()
            },
        )


def ctr(programs: dict[str, str], rounds: int) -> dict[str, list[float]]:
    """Measure `ctr run --rm`."""
    from containerd_engine import IMAGE, Containerd
    from engine_room import started

    numbers = iter(range(1_000_000))
    with started(Containerd) as engine:
        options = ["ctr", "-a", engine.socket, "run", "--rm", "--runc-binary"]
        return measure(
            rounds,
            {
                name: lambda program=program: engine.room.command(  # type: ignore[misc]
                    *options, program, IMAGE, f"bench{next(numbers)}", "true"
                )
                for name, program in programs.items()
            },
        )


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--pyrunc", default=shutil.which("pyrunc"), help="the pyrunc to measure")
    options = parser.parse_args()
    options.pyrunc = os.path.abspath(options.pyrunc)
    found = {name: shutil.which(name) for name in RUNTIMES} | {"pyrunc": options.pyrunc}
    programs = {name: program for name, program in found.items() if program}
    os.environ["PYRUNC"] = options.pyrunc
    print("| command | " + " | ".join(programs) + " | pyrunc / runc | pyrunc / crun |")
    print("|---|" + "---|" * (len(programs) + 2))
    for title, case in (("podman run --rm", podman), ("ctr run --rm", ctr)):
        times = case(programs, options.rounds)
        medians = {name: statistics.median(values) for name, values in times.items()}
        cells = [f"{medians[name]:.0f} ± {statistics.pstdev(times[name]):.0f}" for name in programs]
        for other in ("runc", "crun"):
            ratio = medians["pyrunc"] / medians[other] if other in medians else None
            cells.append("" if ratio is None else f"{ratio:.2f}")
        print(f"| {title} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
