"""A judge for programming contests: each submission against each test, with a verdict."""

from dataclasses import dataclass

import pyrunc


@dataclass
class Test:
    """What goes in, and what must come out."""

    given: str
    expected: str


TESTS = [Test("1 2\n", "3\n"), Test("20 22\n", "42\n"), Test("-5 5\n", "0\n")]
SUBMISSIONS = {
    "right": "print(sum(map(int, input().split())))",
    "wrong": "print(3)",
    "slow": "while True: pass",
    "greedy": "x = [0] * 10**9",
    "crashing": "import os; os.abort()",
}
VERDICTS = {
    "timeout": "time limit exceeded",
    "cpu": "time limit exceeded",
    "oom": "memory limit exceeded",
    "output": "output limit exceeded",
    "signaled": "runtime error",
}


def judge(source: str) -> str:
    """Return the verdict on a submission: "accepted", or what was wrong first."""
    with pyrunc.Sandbox(memory="128M", pids=8, best_effort=True) as box:
        box.write_file("/tmp/main.py", source)
        for number, test in enumerate(TESTS, 1):
            result = box.run(
                ["python3", "/tmp/main.py"], input=test.given, text=True, timeout=2, output="1M"
            )
            if result.status != "exited":
                return f"{VERDICTS.get(result.status, result.status)} in test {number}"
            if result.returncode != 0:
                return f"runtime error in test {number}"
            if result.stdout != test.expected:
                return f"wrong answer in test {number}"
    return "accepted"


if __name__ == "__main__":
    for name, source in SUBMISSIONS.items():
        print(f"{name}: {judge(source)}")
