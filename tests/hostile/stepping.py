"""A command is run from system call to system call (stepper.c); what must be gone afterwards."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

from cgroup_tree import cgroups_named

HERE = Path(__file__).resolve().parent
#: The first of these on x86_64 marks the end of what every interpreter does to start: flock(2),
#: mkdir(2), mkdirat(2), pipe2(2), memfd_create(2), clone3(2).
REAL_WORK = {73, 83, 258, 293, 319, 435}


class Outcome:
    """What the stepper reports."""

    def __init__(self, text: str, stderr: str) -> None:
        lines = [line.split() for line in text.splitlines()]
        #: Numbers of the system calls, in order, when only counted.
        self.calls = [int(words[2]) for words in lines if words[0] == "call"]
        self.hit = any(words[0] == "hit" for words in lines)
        self.number = next((int(words[2]) for words in lines if words[0] == "hit"), -1)
        self.alive = [int(words[1]) for words in lines if words[0] == "alive"]
        self.hung = ["hung"] in lines
        self.status = next((int(words[1]) for words in lines if words[0] == "status"), -1)
        self.called = next((int(words[1]) for words in lines if words[0] == "called"), -1)
        self.stderr = stderr


class Stepper:
    def __init__(self, program: Path, directory: Path) -> None:
        self.program = program
        self.report = directory / "steps"
        self.stderr = directory / "stderr"

    def run(self, mode: str, number: int, *command: str) -> Outcome:
        self.report.unlink(missing_ok=True)
        with self.stderr.open("wb") as stderr:
            done = subprocess.run(
                [self.program, self.report, mode, str(number), *command],
                stdin=subprocess.DEVNULL, stdout=stderr, stderr=stderr, check=False, timeout=120,
                start_new_session=True,
            )  # fmt: skip
        assert done.returncode == 0
        return Outcome(self.report.read_text(), self.stderr.read_text(errors="replace"))


def spread(first: int, last: int, many: int) -> list[int]:
    """Return up to ``many`` numbers from first to last, evenly apart."""
    count = last - first + 1
    if many >= count:
        return list(range(first, last + 1))
    return sorted({first + index * count // many for index in range(many)})


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


def still_alive(pids: list[int], seconds: float = 10) -> list[str]:
    """Return those processes that do not go within the time."""
    end = time.monotonic() + seconds
    while left := [pid for pid in pids if is_alive(pid)]:
        if time.monotonic() > end:
            return [f"process {pid} ({_command(pid)}) lives on" for pid in left]
        time.sleep(0.005)
    return []


def _command(pid: int) -> str:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_text(errors="replace").split("\0")
    except OSError:
        return "?"
    return " ".join(words)[-120:]


def left_of(pyrunc, container_id: str) -> list[str]:
    """Name the cgroups, records and mounts of a container that there should be no more."""
    found = [f"cgroup {path}" for path in cgroups_named(container_id)]
    root = Path(pyrunc.directory, "pyrunc-state")
    if root.exists():
        found += [f"file {path}" for path in root.iterdir() if container_id == path.name]
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        if container_id in line.split()[4].split("/"):
            found.append(f"mount {line}")
    return found


def remove(pyrunc, container_id: str, alive: list[int]) -> list[str]:
    """Delete by force, and return what was wrong with that and what is left all the same."""
    deleted = pyrunc("delete", "--force", container_id)
    wrong = []
    if deleted.code or deleted.stderr:
        wrong.append(f"delete --force: {deleted}")
    return wrong + still_alive(alive) + left_of(pyrunc, container_id)


def plain(bundle):
    pass


def with_everything(bundle):
    """All that makes further processes: users and clocks of its own, an id-mapped mount, hooks."""
    bundle.user_namespace(host=100000)
    bundle.give_to(100000)
    bundle.namespace("time")
    bundle.linux["timeOffsets"] = {"monotonic": {"secs": 100}}
    source = bundle.path / "volume"
    source.mkdir()
    mapping = {"containerID": 0, "hostID": 100000, "size": 65536}
    bundle.bind(source, "/mnt")
    bundle.config["mounts"][-1].update(uidMappings=[mapping], gidMappings=[mapping])
    true = [{"path": "/bin/true", "args": ["true"]}]
    kinds = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart")
    bundle.config["hooks"] = dict.fromkeys((*kinds, "poststop"), true)


class Case:
    """A command, what must be there before it, and its container."""

    def __init__(self, name, pyrunc, bundle):
        self.name = name
        self.pyrunc = pyrunc
        self.bundle = bundle
        bundle.process["args"] = ["true"] if name == "run" else ["sleep", "1000"]
        bundle.save()

    def prepare(self):
        """Bring the container to where the command starts from; return the command's words."""
        pyrunc = self.pyrunc
        self.id = pyrunc.new_id()
        if self.name in ("create", "run"):
            words = [self.name, "--bundle", str(self.bundle.path), self.id]
            return [*pyrunc.command, *words]
        made = pyrunc("create", "--bundle", self.bundle.path, self.id)
        assert made.code == 0, made
        if self.name != "start":
            assert pyrunc("start", self.id).code == 0
        if self.name == "resume":
            assert pyrunc("pause", self.id).code == 0
        options = {
            "delete": ["delete", "--force"],
            "update": ["update", "--pids-limit", "100", "--memory", "100000000"],
        }.get(self.name, [self.name])
        after = {"exec": ["true"], "kill": ["KILL"]}.get(self.name, [])
        return [*pyrunc.command, *options, self.id, *after]

    def judge(self, outcome):
        """Return all that is wrong after the command has ended like this."""
        wrong = ["it hung"] if outcome.hung else []
        told = self.pyrunc("state", self.id)
        alive = outcome.alive
        if told.code == 0:
            state = json.loads(told.stdout)
            own = (
                {state.get("pid")} if state["status"] in ("created", "running", "paused") else set()
            )
            # `exec`'s program outlives its caller, and ends by itself.
            wrong += still_alive([pid for pid in alive if pid not in own])
        else:
            wrong += still_alive(alive)
        wrong += remove(self.pyrunc, self.id, alive)
        self.pyrunc.ids.remove(self.id)
        return wrong


def chosen(calls, many):
    first = next((n for n, call in enumerate(calls, 1) if call in REAL_WORK), 1)
    picked = spread(first, len(calls), many)
    if many > len(calls) - first:
        picked = spread(1, first - 1, 20) + picked
    return picked
