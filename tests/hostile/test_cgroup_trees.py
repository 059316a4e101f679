"""Containers with a writable cgroup, and what they can make of it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from cgroup_tree import cgroups_named

NAME = "n" * 100
DEPTH = 1500


def own_cgroups(name):
    """The container's cgroups, in all hierarchies."""
    return [Path(path) for path in cgroups_named(name)]


def cgroup_of(name, *controllers):
    """The container's cgroup in the first of these hierarchies that is there, or the only one."""
    found = own_cgroups(name)
    for controller in controllers:
        for path in found:
            if path.parts[4] == controller:
                return path
    assert found
    return found[0]


@pytest.fixture
def deep():
    """Make a cgroup with more levels than Python recurses, and a path longer than the kernel's."""
    made = []

    def make(top):
        directory = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
        for _ in range(DEPTH):
            os.mkdir(NAME, dir_fd=directory)
            below = os.open(NAME, os.O_RDONLY | os.O_DIRECTORY, dir_fd=directory)
            os.close(directory)
            directory = below
        made.append(top)
        return directory

    yield make
    for top in made:
        if top.exists():
            remove_deep(top)


def remove_deep(top):
    directory = os.open(top, os.O_RDONLY | os.O_DIRECTORY)
    depth = 0
    while NAME in os.listdir(directory):
        below = os.open(NAME, os.O_RDONLY | os.O_DIRECTORY, dir_fd=directory)
        os.close(directory)
        directory, depth = below, depth + 1
    for _ in range(depth):
        above = os.open("..", os.O_RDONLY | os.O_DIRECTORY, dir_fd=directory)
        os.close(directory)
        directory = above
        os.rmdir(NAME, dir_fd=directory)
    os.close(directory)


def write(directory, name, text):
    file = os.open(name, os.O_WRONLY, dir_fd=directory)
    os.write(file, text.encode())
    os.close(file)


def test_deeper_than_a_path(make_bundle, pyrunc, deep):
    """`ps` and every `delete` failed with RecursionError, and then with "file name too long"."""
    bundle = make_bundle(args=["sh", "-c", "sleep 1000 & wait"])
    container = pyrunc.start(bundle)
    top = cgroup_of(container.id, "devices", "pids")
    bottom = deep(top)
    processes = json.loads(pyrunc("ps", "-f", "json", container.id).stdout)
    assert len(processes) == 2
    write(bottom, "cgroup.procs", str(max(processes)))
    os.close(bottom)
    listed = pyrunc("ps", "-f", "json", container.id)
    assert (listed.code, json.loads(listed.stdout)) == (0, processes)
    deleted = pyrunc("delete", "--force", container.id)
    assert (deleted.code, deleted.stderr) == (0, "")
    assert own_cgroups(container.id) == []
    assert not any(Path(f"/proc/{pid}/root").exists() for pid in processes)


def test_an_undone_create_removes_what_hooks_have_made(make_bundle, pyrunc, tmp_path):
    """Wide instead of deep: names are read once, not once for each removed."""
    bundle = make_bundle()
    script = (
        'for top in /sys/fs/cgroup/*/$ID /sys/fs/cgroup/$ID; do test -d $top || continue; '
        "for i in 1 2 3 4 5 6 7 8 9; do mkdir -p $top/a$i/b/c $top/a$i/d; done; done; exit 1"
    )  # fmt: skip
    name = pyrunc.new_id()
    hook = {"path": "/bin/sh", "args": ["sh", "-c", script], "env": [f"ID={name}", "PATH=/bin"]}
    bundle.config["hooks"] = {"createRuntime": [hook]}
    bundle.linux["cgroupsPath"] = f"/{name}"
    bundle.save()
    assert pyrunc("create", "-b", bundle.path, name).code == 1
    assert own_cgroups(name) == []


@pytest.mark.parametrize("how", [("delete", "--force"), ("kill",), ("kill", "--all")])
def test_frozen_below(make_bundle, pyrunc, how):
    """A container that has paused one of its own: "init does not die", at every try, for only
    its own cgroup was thawed."""
    container = pyrunc.start(make_bundle(args=["sh", "-c", "sleep 1000 & wait"]))
    child = max(json.loads(pyrunc("ps", "-f", "json", container.id).stdout))
    top = cgroup_of(container.id, "freezer")
    inner = top / "inner/most"
    inner.mkdir(parents=True)
    (inner / "cgroup.procs").write_text(str(child))
    version_2 = (top / "cgroup.freeze").exists()
    for directory in (inner, inner.parent):
        if version_2:
            (directory / "cgroup.freeze").write_text("1")
        else:
            (directory / "freezer.state").write_text("FROZEN")
    try:
        words = [*how, container.id, *(["KILL"] if how[0] == "kill" else [])]
        done = pyrunc(*words)
        assert (done.code, done.stderr) == (0, "")
        if how[0] == "kill":
            pyrunc.wait(container)
            assert pyrunc("delete", container.id).code == 0
        assert own_cgroups(container.id) == []
    finally:
        for directory in (inner.parent, inner):
            if directory.exists():
                name = "cgroup.freeze" if version_2 else "freezer.state"
                (directory / name).write_text("0" if version_2 else "THAWED")


def test_resume_leaves_frozen_what_the_container_has_frozen(make_bundle, pyrunc):
    container = pyrunc.start(make_bundle(args=["sh", "-c", "sleep 1000 & wait"]))
    top = cgroup_of(container.id, "freezer")
    if not (top / "freezer.state").exists():
        pytest.skip("cgroup v1's freezer is not mounted")
    inner = top / "inner"
    inner.mkdir()
    (inner / "freezer.state").write_text("FROZEN")
    assert pyrunc("pause", container.id).code == 0
    assert pyrunc("resume", container.id).code == 0
    assert (inner / "freezer.state").read_text().strip() == "FROZEN"
    assert (inner / "freezer.self_freezing").read_text().strip() == "1"


def test_nothing_but_cgroups_is_removed(make_bundle, pyrunc, tmp_path):
    """A record whose cgroup lies elsewhere: its directories are not those of a cgroup."""
    container = pyrunc.create(make_bundle(args=["true"]))
    state = Path(pyrunc.directory, "pyrunc-state", container.id, "state.json")
    record = json.loads(state.read_text())
    pid = record["pid"]
    precious = tmp_path / "precious"
    (precious / "below").mkdir(parents=True)
    paths = record["cgroup"]["paths"]
    kept = dict(paths)
    paths.update(dict.fromkeys(paths, str(precious)))
    state.write_text(json.dumps(record))
    deleted = pyrunc("delete", "--force", container.id)
    assert deleted.code == 1
    assert "is not in a cgroup hierarchy" in deleted.stderr
    assert (precious / "below").exists()
    record["cgroup"]["paths"] = kept
    state.write_text(json.dumps(record))
    assert pyrunc("delete", "--force", container.id).code == 0
    assert not Path(f"/proc/{pid}/root").exists()


@pytest.mark.skipif(not shutil.which("strace"), reason="needs strace")
def test_processes_are_signalled_by_descriptor(make_bundle, pyrunc, tmp_path):
    """`kill --all` used the numbers that it had read, which may be another's by then."""
    container = pyrunc.start(make_bundle(args=["sh", "-c", "trap '' TERM; sleep 1000 & wait"]))
    log = tmp_path / "log"
    subprocess.run(
        ["strace", "-qq", "-o", log, "-e", "trace=kill,tkill,tgkill,pidfd_send_signal",
         *pyrunc.command, "kill", "--all", container.id, str(int(signal.SIGWINCH))],
        check=True, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    told = log.read_text()
    assert told.count("pidfd_send_signal") == 2
    assert " kill(" not in told
    assert not told.startswith("kill(")
