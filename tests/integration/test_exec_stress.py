"""Many `exec`s at once into one container that is paused and resumed: nothing goes wrong or stays.

200 of them; 1,000 with PYRUNC_STRESS=1 in the environment.
"""

from __future__ import annotations

import json
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cgroup_tree import cgroups_named

COUNT = 1000 if os.environ.get("PYRUNC_STRESS") else 200
AT_ONCE = 8


@pytest.mark.timeout(600)
def test_many_at_once(make_bundle, pyrunc):
    # An init that collects the orphans which a container's pid 1 inherits.
    bundle = make_bundle(args=["sh", "-c", "while :; do sleep 0.2; done"])
    container = pyrunc.start(bundle)
    init = pyrunc.state(container)["pid"]
    descriptors = sorted(os.listdir(f"/proc/{init}/fd"))

    over = threading.Event()
    pauses = []

    def pause_and_resume():
        while not over.wait(0.5):
            assert pyrunc("pause", container.id).code == 0
            time.sleep(0.05)
            assert pyrunc("resume", container.id).code == 0
            pauses.append(1)

    def execute(number):
        wanted = number % 256
        script = f"exit {wanted}"
        detached = number % 10 == 9
        options = ["--ignore-paused", *(["-d"] if detached else [])]
        if number % 7 == 0 and not detached:
            options.append("-t")
        done = pyrunc("exec", *options, container.id, "sh", "-c", script)
        return done.code == (0 if detached else wanted), number, done

    pauser = threading.Thread(target=pause_and_resume)
    pauser.start()
    try:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            results = list(pool.map(execute, range(COUNT)))
    finally:
        over.set()
        pauser.join()
    assert [result for result in results if not result[0]] == []
    assert pauses

    assert pyrunc.state(container)["status"] == "running"
    assert sorted(os.listdir(f"/proc/{init}/fd")) == descriptors
    assert zombies_of(container, pyrunc) == []
    pids = json.loads(pyrunc("ps", "--format", "json", container.id).stdout)
    assert len(pids) <= 2, pids  # init and its sleep
    assert pyrunc("kill", container.id, "KILL").code == 0
    pyrunc.wait(container)
    for cgroup in cgroups_named(container.id):
        assert Path(cgroup, "cgroup.procs").read_text() == ""


def zombies_of(container, pyrunc):
    """Return the zombies of the container's cgroup; one may be on its way out, so look twice."""
    for _ in range(50):
        pids = json.loads(pyrunc("ps", "--format", "json", container.id).stdout)
        found = [pid for pid in pids if is_zombie(pid)]
        if not found:
            return []
        time.sleep(0.1)
    return found


def is_zombie(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return False
