"""The cases: every row of the table."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from measure import PAUSE, Bench, Runtime, busybox, default_config, engine_configs


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

    bench.case("create", _create(bench, sleeper))
    bench.case("start", timed(lambda r, c: r.must("start", c), start=False))
    first = "exec true, as the first in its container"
    bench.case(first, timed(lambda r, c: r.must("exec", c, "true"), start=True))
    _exec_again(bench, sleeper)
    _bare_interpreter(bench)
    bench.case("state", timed(lambda r, c: r.must("state", c), start=True))
    bench.case("kill", timed(lambda r, c: r.must("kill", c, "KILL"), start=True))
    bench.case(
        "delete --force (running)", timed(lambda r, c: r.must("delete", "--force", c), start=True)
    )

    def delete_stopped(runtime: Runtime, container: str) -> float:
        runtime.must("kill", container, "KILL")
        # A busy kernel takes its time to tear namespaces down.
        time.sleep(0.2)
        return runtime.must("delete", container)

    bench.case("delete (stopped)", timed(delete_stopped, start=True))


def _exec_again(bench: Bench, sleeper: str) -> None:
    """What a probe does: each time in a container that has been there for a while."""
    title = "exec true"
    if not bench.wants(title):
        return
    made: dict[str, str] = {}
    try:
        for runtime in bench.runtimes:
            made[runtime.name] = container = bench.name()
            runtime.must("create", "-b", sleeper, container)
            runtime.must("start", container)
        bench.case(title, lambda r: r.must("exec", made[r.name], "true"))
    finally:
        for runtime in bench.runtimes:
            if runtime.name in made:
                runtime.spawn("delete", "--force", made[runtime.name])


def _bare_interpreter(bench: Bench) -> None:
    """What no command in Python can be below: pyrunc's own interpreter, doing nothing."""
    title = "(python3 -I -S -c pass)"
    if not bench.wants(title):
        return
    series = []
    for _ in range(bench.rounds):
        time.sleep(PAUSE)
        start = time.perf_counter()
        argv = [bench.interpreter, "-I", "-S", "-c", "pass"]
        pid = os.posix_spawn(bench.interpreter, argv, os.environ)
        os.waitpid(pid, 0)
        series.append((time.perf_counter() - start) * 1000)
    bench.results[title] = {"pyrunc": series}


def _create(bench: Bench, bundle: str) -> Callable[[Runtime], float]:
    """Return what times a `create`."""

    def create(runtime: Runtime) -> float:
        container = bench.name()
        elapsed = runtime.must("create", "-b", bundle, container)
        runtime.spawn("delete", "--force", container)
        return elapsed

    return create


def _lists(bench: Bench, sleeper: str) -> None:
    """`list` and `create` on a machine with many containers, most of which are not started."""
    crowded = "create, with 1000 containers on the machine"
    mounts = "create, with 3000 containers and 5000 mounts on the machine"
    made: dict[str, list[str]] = {r.name: [] for r in bench.runtimes}

    def make(count: int) -> None:
        for runtime in bench.runtimes:
            while len(made[runtime.name]) < count:
                container = bench.name()
                runtime.must("create", "-b", sleeper, container, pause=0)
                made[runtime.name].append(container)

    def measure_list(count: int, *, started: bool = False) -> None:
        title = f"list, {count} containers{', running' if started else ''}"
        if bench.wants(title):
            make(count)
            if started:
                for runtime in bench.runtimes:
                    for container in made[runtime.name]:
                        runtime.must("start", container, pause=0)
            rounds = max(7, bench.rounds // (1 + count // 100))
            bench.case(title, lambda r: r.must("list"), rounds=rounds)

    try:
        measure_list(10)
        measure_list(100)
        measure_list(100, started=True)
        if bench.wants(crowded):
            make(1000 // len(bench.runtimes))
            bench.case(crowded, _create(bench, sleeper))
        measure_list(1000)
        if bench.wants(mounts):
            make(3000 // len(bench.runtimes))
            with mounted(bench.base / "mounts", 5000):
                bench.case(mounts, _create(bench, sleeper))
    finally:
        for runtime in bench.runtimes:
            for container in made[runtime.name]:
                runtime.spawn("delete", "--force", container, pause=0)


@contextlib.contextmanager
def mounted(directory: Path, count: int) -> Iterator[None]:
    """Have ``count`` mounts more on the machine."""
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", directory], check=True)
    source = directory / "source"
    source.mkdir()
    libc = ctypes.CDLL(None, use_errno=True)
    bind = 0x1000
    for number in range(count):
        target = directory / str(number)
        target.mkdir()
        if libc.mount(bytes(source), bytes(target), None, bind, None):
            raise SystemExit(f"cannot mount {target}: {os.strerror(ctypes.get_errno())}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", directory], check=True)
        directory.rmdir()


def _crowd(bench: Bench, true: str, sleeper: str) -> None:
    """Many in a row and at once, and how little memory is enough."""

    def in_a_row(runtime: Runtime) -> float:
        start = time.perf_counter()
        for _ in range(100):
            argv = [runtime.program, "--root", runtime.root, "run", "-b", true, bench.name()]
            subprocess.run(
                argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True,
                env=runtime.environment,
            )  # fmt: skip
        return (time.perf_counter() - start) * 1000

    bench.case("100 times run true, in a row", in_a_row, rounds=3)

    def eight_at_a_time(runtime: Runtime) -> float:
        start = time.perf_counter()
        running: list[int] = []
        actions = [(os.POSIX_SPAWN_OPEN, n, "/dev/null", os.O_RDWR, 0) for n in (0, 1)]
        for _ in range(100):
            if len(running) == 8:
                os.waitpid(running.pop(0), 0)
            argv = [runtime.program, "--root", runtime.root, "run", "-b", true, bench.name()]
            running.append(os.posix_spawn(argv[0], argv, runtime.environment, file_actions=actions))
        for pid in running:
            os.waitpid(pid, 0)
        return (time.perf_counter() - start) * 1000

    bench.case("100 times run true, 8 at a time", eight_at_a_time, rounds=3)

    def smallest_limit(runtime: Runtime) -> float:
        low, high = 4, 65536
        while high - low > max(4, low // 8):
            middle = (low + high) // 2
            config = default_config(["true"])
            config["linux"]["resources"]["memory"] = {"limit": middle * 1024}  # type: ignore[index]
            bundle = bench.bundle(bench.name(), config)
            good = all(runtime.spawn("run", "-b", bundle, bench.name())[1] == 0 for _ in range(2))
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
    _peak_memory(bench, true, sleeper)


def _peak_memory(bench: Bench, true: str, sleeper: str) -> None:
    """How much memory each command holds at its peak (its own, not that of its children)."""

    def peak(runtime: Runtime, *arguments: str) -> float:
        # Not rusage of our own child: until it executes the program, it is as big as we are.
        argv = [runtime.program, "--root", runtime.root, *arguments]
        time_ = [busybox(), "time", "-f", "%M", "-o", str(report), *argv]
        subprocess.run(
            time_, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, check=True,
            env=runtime.environment,
        )  # fmt: skip
        return float(report.read_text()) / scale

    # Some versions of busybox take the kernel's KiB for pages and multiply by four.
    report = bench.base / "peak"
    own = "import resource; print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    command = [busybox(), "time", "-f", "%M", "-o", str(report), bench.interpreter, "-c", own]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    scale = round(float(report.read_text()) / float(said))

    def case(name: str, *, start: bool, arguments: list[str]) -> None:
        def measure(runtime: Runtime) -> float:
            container = bench.name()
            runtime.must("create", "-b", sleeper, container)
            if start:
                runtime.must("start", container)
            words = [container if word == "ID" else word for word in arguments]
            value = peak(runtime, *words)
            runtime.spawn("delete", "--force", container)
            return value

        bench.case(f"peak RSS of {name} (KiB)", measure, rounds=3)

    bench.case(
        "peak RSS of run (KiB)", lambda r: peak(r, "run", "-b", true, bench.name()), rounds=3
    )

    def create(runtime: Runtime) -> float:
        container = bench.name()
        value = peak(runtime, "create", "-b", sleeper, container)
        runtime.spawn("delete", "--force", container)
        return value

    bench.case("peak RSS of create (KiB)", create, rounds=3)
    case("start", start=False, arguments=["start", "ID"])
    case("exec", start=True, arguments=["exec", "ID", "true"])
    case("state", start=True, arguments=["state", "ID"])
    case("kill", start=True, arguments=["kill", "ID", "KILL"])
    case("delete --force", start=True, arguments=["delete", "--force", "ID"])
    case("list", start=True, arguments=["list"])
