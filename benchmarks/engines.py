"""What an engine's user sees: `podman run --rm`, `ctr run --rm` and the CRI's ExecSync of true.

    benchmarks/engines.py [--rounds N] [--pyrunc PATH] [--runc PATH] [--crun PATH]

The engines run as in tests/clients: real ones, each in namespaces and with a data root of its own.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from measure import PAUSE

_TESTS = Path(__file__).resolve().parents[1] / "tests"
sys.path[:0] = [str(_TESTS / "clients"), str(_TESTS)]
RUNTIMES = ("pyrunc", "runc", "crun")


def measure(rounds: int, commands: dict[str, Callable[[], list[str]]]) -> dict[str, list[float]]:
    """Run the commands in turn and return their times in milliseconds."""

    def call(command: Callable[[], list[str]]) -> Callable[[], object]:
        argv = command()
        return lambda: subprocess.run(
            argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True
        )

    return take_turns(
        rounds,
        {name: lambda c=command: call(c) for name, command in commands.items()},  # type: ignore[misc]
    )


def take_turns(
    rounds: int, prepare: dict[str, Callable[[], Callable[[], object]]]
) -> dict[str, list[float]]:
    """Prepare and time something of each in turn; the first turn does not count."""
    times: dict[str, list[float]] = {name: [] for name in prepare}
    for turn in range(rounds + 1):
        for name, prepared in random.sample(list(prepare.items()), len(prepare)):
            act = prepared()
            time.sleep(PAUSE)
            start = time.perf_counter()
            act()
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


HANDLER = """
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.{name}]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.{name}.options]
      BinaryName = "{program}"
"""


def exec_sync(programs: dict[str, str], rounds: int) -> dict[str, list[float]]:
    """Measure the CRI's ExecSync, which a node's exec probes are."""
    import containerd_engine
    import test_cri
    from engine_room import started

    for name, program in programs.items():
        containerd_engine.CONFIG += HANDLER.format(name=name, program=program)
    with started(test_cri.Cri) as cri:
        containers = {}
        for name in programs:
            test_cri.HANDLER = name
            pod = cri.pod()
            containers[name] = pod, pod.run("sleep", "100000")

        def call(name: str) -> Callable[[], object]:
            pod, container = containers[name]
            return lambda: pod.execute(container, "true")

        return take_turns(
            rounds,
            {name: lambda n=name: call(n) for name in programs},  # type: ignore[misc]
        )


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--pyrunc", default=shutil.which("pyrunc"), help="the pyrunc to measure")
    parser.add_argument("--runc", default=shutil.which("runc"), help="the runc to measure")
    parser.add_argument("--crun", default=shutil.which("crun"), help="the crun to measure")
    options = parser.parse_args()
    options.pyrunc = os.path.abspath(options.pyrunc)
    found = {name: getattr(options, name) for name in RUNTIMES}
    programs = {name: program for name, program in found.items() if program}
    os.environ["PYRUNC"] = options.pyrunc
    print("| command | " + " | ".join(programs) + " | pyrunc / runc | pyrunc / crun |")
    print("|---|" + "---|" * (len(programs) + 2))
    cases = (("podman run --rm", podman), ("ctr run --rm", ctr), ("ExecSync", exec_sync))
    for title, case in cases:
        times = case(programs, options.rounds)
        medians = {name: statistics.median(values) for name, values in times.items()}
        cells = [f"{medians[name]:.0f} ± {statistics.pstdev(times[name]):.0f}" for name in programs]
        for other in ("runc", "crun"):
            ratio = medians["pyrunc"] / medians[other] if other in medians else None
            cells.append("" if ratio is None else f"{ratio:.2f}")
        print(f"| {title} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
