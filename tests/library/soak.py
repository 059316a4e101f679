"""Many runs of every kind, with engines and programs killed in between: `make soak`.

    python tests/library/soak.py 10000

Every result must be right, and at the end nothing left: no process, cgroup, directory, descriptor,
and no more memory in the engine than it had when it was warm.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

# As pytest has them (pyproject.toml).
sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

from conftest import (  # noqa: E402
    PREAMBLE,
    children_of,
    engine_processes,
    keeper_and_engine,
    wait_until_gone,
)

import pyrunc  # noqa: E402
from pyrunc.engine import client  # noqa: E402

#: How often each kind of run is made, of a hundred.
WEIGHTS = {"plain": 50, "pooled": 20, "timeout": 8, "oom": 3, "flood": 4, "missing": 5}
WEIGHTS |= {"cancelled": 5, "exception": 3, "signal": 2}
#: After how many runs an engine, and after how many a whole program, is killed.
ENGINE_LIFE, PROGRAM_LIFE = 400, 1000


class Wrong(Exception):
    """A result that is not what it must be."""


def plain(number: int, **more: object) -> None:
    words = ["sh", "-c", f"cat; exit {number % 7}"]
    # A machine that does much else besides is no mistake of ours.
    result = pyrunc.run(words, input=b"%d" % number, timeout=300, **more)
    if result.status == "lost":
        return
    if (result.status, result.returncode, result.stdout) != ("exited", number % 7, b"%d" % number):
        raise Wrong(result)


def pooled(number: int) -> None:
    plain(number, pool=2)


def timeout(_: int) -> None:
    result = pyrunc.run(["sh", "-c", "echo x; sleep 1000 & sleep 1000"], timeout=0.3)
    if result.status not in ("timeout", "lost") or result.stdout not in (b"x\n", b""):
        raise Wrong(result)


def oom(_: int) -> None:
    result = pyrunc.run(["python3", "-c", "x = bytearray(90 << 20)"], memory="32M", timeout=300)
    if result.status not in ("oom", "lost"):
        raise Wrong(result)


def flood(_: int) -> None:
    result = pyrunc.run(["yes"], output="100K", stop_on_output=True, timeout=300)
    if result.status not in ("output", "lost"):
        raise Wrong(result)


def missing(_: int) -> None:
    try:
        result = pyrunc.run(["no-such-program"])
    except (pyrunc.ProgramNotFound, pyrunc.EngineLost):
        return
    if result.status != "lost":
        raise Wrong(result)


def cancelled(_: int) -> None:
    async def main() -> None:
        task = asyncio.create_task(pyrunc.aio.run(["sleep", "1000"], timeout=None))
        await asyncio.sleep(random.random() / 10)
        task.cancel()
        try:
            result = await task
        except asyncio.CancelledError:
            return
        if result.status != "lost":
            raise Wrong(result)

    asyncio.run(main())


def exception(number: int) -> None:
    try:
        with pyrunc.Sandbox() as box:
            box.start(["sleep", "1000"])
            box.write_file("/tmp/x", b"%d" % number)
            if box.read_file("/tmp/x") != b"%d" % number:
                raise Wrong("the file")
            raise KeyError
    except (KeyError, pyrunc.EngineLost, pyrunc.SandboxClosed):
        return


def signalled(_: int) -> None:
    result = pyrunc.run(["sh", "-c", "kill -SEGV $$"], timeout=300)
    if (result.status, result.returncode) not in (("signaled", -11), ("lost", -9)):
        raise Wrong(result)


KINDS = {
    "plain": plain, "pooled": pooled, "timeout": timeout, "oom": oom, "flood": flood,
    "missing": missing, "cancelled": cancelled, "exception": exception, "signal": signalled,
}  # fmt: skip


def keepers_and_engines() -> list[int]:
    """Return their pids; what an engine has just forked looks the same, and is left out."""
    pids = set(engine_processes())
    below = {pid: set(children_of(pid)) & pids for pid in pids}
    forked = {third for seconds in below.values() for pid in seconds for third in below[pid]}
    return sorted(pids - forked)


def kill_a_program() -> None:
    """Start a program that uses the library, and kill it in the middle of that."""
    script = PREAMBLE + "while True: pyrunc.run(['sleep', '0.05'], pool=2)"
    program = subprocess.Popen([sys.executable, "-c", script])
    time.sleep(0.5 + random.random())
    program.kill()
    program.wait()
    wait_until_gone(program.pid, 60)


def memory_of(pid: int) -> int:
    """Return the bytes that are a process's alone."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Private_Dirty:"):
            return int(line.split()[1]) << 10
    return 0


def main(count: int, workers: int = 4) -> None:
    """Make ``count`` runs, ``workers`` at a time."""
    numbers = iter(range(count))
    lock = threading.Lock()
    errors: list[BaseException] = []
    names = random.choices(list(WEIGHTS), list(WEIGHTS.values()), k=count)

    def work() -> None:
        while not errors:
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            try:
                KINDS[names[number]](number)
                if number % ENGINE_LIFE == ENGINE_LIFE - 1 and (pids := keepers_and_engines()):
                    os.kill(random.choice(pids), signal.SIGKILL)
                if number % PROGRAM_LIFE == PROGRAM_LIFE - 1:
                    kill_a_program()
            except ProcessLookupError:
                continue
            except BaseException as error:
                errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    client.engines().close()
    wait_until_gone(seconds=60)


def check_leaks(count: int) -> None:
    """See that neither this program nor one engine grows with ``count`` runs."""
    for number in range(20):
        plain(number)
        timeout(number)
    keeper, engine = keeper_and_engine()
    before = memory_of(engine), len(os.listdir("/proc/self/fd"))
    for number in range(count):
        plain(number)
        if number % 20 == 0:
            missing(number)
            timeout(number)
    after = memory_of(engine), len(os.listdir("/proc/self/fd"))
    if after[1] != before[1] or after[0] > before[0] + (2 << 20):
        raise Wrong(f"engine {engine} of keeper {keeper}: memory, descriptors: {before}, {after}")
    grown = (after[0] - before[0]) >> 10
    print(f"engine: {before[0] >> 10} KiB, {grown} more {count} runs later", flush=True)
    client.engines().close()
    wait_until_gone(seconds=60)


if __name__ == "__main__":
    began = time.monotonic()
    check_leaks(int(sys.argv[1]) // 10)
    main(int(sys.argv[1]))
    print(f"{sys.argv[1]} runs in {time.monotonic() - began:.0f} s, and nothing left")
