"""Links and special files where things are to be mounted, and names that are swapped meanwhile.

Whatever the root file system has in those places, nothing of the host's changes or is seen, no
command hangs, and no error is an internal one. Seen failing with targets opened by plain open(2)
instead of below the root: links to the victim make directories and files in it.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import shutil
import socket
import stat
import subprocess
from pathlib import Path

import pytest

PLACES = (
    "proc", "sys", "dev", "dev/pts", "dev/shm", "dev/null", "dev/console", "dev/ptmx", "dev/fd",
    "sys/fs/cgroup", "run/secrets/key", "etc/resolv.conf", "volume", "volume/inner", "work",
    "masked", "readonly", "dev/made",
)  # fmt: skip
UP = "../" * 20


def absolute(path, victim):
    path.symlink_to(victim)


def relative(path, victim):
    path.symlink_to(UP + str(victim).lstrip("/"))


def to_a_file(path, victim):
    path.symlink_to(victim / "file")


def dangling(path, victim):
    path.symlink_to(victim / "new")


def through_proc(path, victim):
    path.symlink_to(f"/proc/1/root{victim}")


def through_descriptors(path, victim):
    path.symlink_to("/proc/self/fd/4")


def loop(path, victim):
    path.symlink_to(path.name)


def chain(path, victim):
    last = victim
    for number in range(45):
        link = path.with_name(f"{path.name}-{number}")
        link.symlink_to(last)
        last = link.name
    path.symlink_to(last)


def file(path, victim):
    path.write_text("a file")


def fifo(path, victim):
    os.mkfifo(path)


def unix_socket(path, victim):
    with socket.socket(socket.AF_UNIX) as listening:
        where = os.open(path.parent, os.O_PATH)
        listening.bind(f"/proc/self/fd/{where}/{path.name}")
        os.close(where)


def terminal(path, victim):
    os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(5, 1))


def block_device(path, victim):
    os.mknod(path, stat.S_IFBLK | 0o666, os.makedev(7, 0))


def closed(path, victim):
    path.mkdir(mode=0)


def hard_link(path, victim):
    os.link(victim / "file", path)


KINDS = (
    absolute, relative, to_a_file, dangling, through_proc, through_descriptors, loop, chain, file,
    fifo, unix_socket, terminal, block_device, closed,
)  # fmt: skip


class Victim:
    """A directory of the host; hostile names lead to it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir()
        (path / "file").write_text("the host's secret")
        (path / "inner").mkdir()
        self.before = self._look()

    def _look(self):
        found = {}
        for path in (self.path, *sorted(self.path.rglob("*"))):
            status = path.lstat()
            content = path.read_bytes() if path.is_file() else b""
            found[str(path)] = (status.st_mode, status.st_uid, status.st_mtime_ns, content)
        return found

    def harm(self, result) -> list[str]:
        wrong = []
        if self._look() != self.before:
            wrong.append(f"the host has changed: {self._look()}")
            self.before = self._look()
        if str(self.path) in Path("/proc/self/mountinfo").read_text():
            wrong.append("something is mounted there")
        if "the host's secret" in result.stdout + result.stderr:
            wrong.append("the container has read the host's file")
        if "internal error" in result.stderr or "Traceback" in result.stderr:
            wrong.append(result.stderr)
        if result.code not in (0, 1):
            wrong.append(f"status {result.code}: {result.stderr}")
        return wrong


@pytest.fixture
def victim(tmp_path):
    return Victim(tmp_path / "victim")


@pytest.fixture
def full_bundle(make_bundle, tmp_path):
    """A bundle that mounts, masks, makes or enters something at each of the places."""
    payload, key = tmp_path / "payload", tmp_path / "key"
    (payload / "inner").mkdir(parents=True)
    key.write_text("key")

    def make():
        bundle = make_bundle()
        bundle.config["mounts"].append(
            {
                "destination": "/sys/fs/cgroup",
                "type": "cgroup",
                "source": "cgroup",
                "options": ["ro"],
            }
        )
        bundle.bind(key, "/run/secrets/key", "ro")
        bundle.bind(key, "/etc/resolv.conf")
        bundle.bind(payload, "/volume")
        bundle.mount("/volume/inner", "tmpfs", "tmpfs")
        bundle.process["cwd"] = "/work"
        bundle.linux["maskedPaths"] += ["/masked"]
        bundle.linux["readonlyPaths"] += ["/readonly"]
        device = {"path": "/dev/made", "type": "c", "major": 1, "minor": 3}
        bundle.linux["devices"] = [device]
        for name in ("masked", "readonly", "work"):
            (bundle.rootfs / name).mkdir()
        bundle.shell("cat /*/file /volume/* /masked/* /readonly/* 2>/dev/null; exit 0")
        return bundle

    return make


@contextlib.contextmanager
def spoiled(path, kind, victim):
    """Have something else in a place; afterwards it is as it was."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = path.with_name(f"{path.name}.kept")
    if os.path.lexists(path):
        path.rename(kept)
    kind(path, victim.path)
    try:
        yield
    finally:
        if stat.S_ISDIR(path.lstat().st_mode):
            shutil.rmtree(path)
        else:
            path.unlink()
        for link in path.parent.glob(f"{path.name}-[0-9]*"):
            link.unlink()
        if os.path.lexists(kept):
            kept.rename(path)


def without(bundle, *destinations):
    """Take out mounts: what the image has in these places is seen."""
    mounts = bundle.config["mounts"]
    bundle.config["mounts"] = [m for m in mounts if m["destination"] not in destinations]


def attempt(pyrunc, bundle, victim, path, kind):
    with spoiled(path, kind, victim):
        result = pyrunc.run(bundle, timeout=30)
        wrong = victim.harm(result)
        pyrunc("delete", "--force", result.id)
    pyrunc.ids.remove(result.id)
    return wrong


def test_something_else_in_the_place(full_bundle, pyrunc, victim, tmp_path, tally, factor):
    cases = list(itertools.product(PLACES, KINDS))
    if factor == 1:
        cases = random.Random(1).sample(cases, 40)
    mounted, bare = full_bundle(), full_bundle()
    without(bare, "/dev")
    for place, kind in cases:
        bundle = bare if place.startswith("dev/") else mounted
        path = tmp_path / "payload/inner" if place == "volume/inner" else bundle.rootfs / place
        tally(f"{kind.__name__} at {place}", attempt(pyrunc, bundle, victim, path, kind))


def test_a_parent_is_something_else(full_bundle, pyrunc, victim, tally, factor):
    cases = list(itertools.product(("run", "run/secrets", "etc", "sys/fs"), KINDS[:8]))
    if factor == 1:
        cases = random.Random(2).sample(cases, 12)
    mounted, bare = full_bundle(), full_bundle()
    without(bare, "/sys")
    for place, kind in cases:
        bundle = bare if place == "sys/fs" else mounted
        wrong = attempt(pyrunc, bundle, victim, bundle.rootfs / place, kind)
        tally(f"{kind.__name__} at {place}, a parent", wrong)


@pytest.mark.parametrize(
    "use", ["bind", "bind below", "file", "tmpfs", "masked", "readonly", "cwd"]
)
def test_swapped_while_it_is_mounted(
    make_bundle, pyrunc, victim, tmp_path, compiled, tally, factor, use
):
    """CVE-2021-30465: a directory of a shared volume is a link to the host now and then."""
    swapper = compiled("swapper", (Path(__file__).parent / "swapper.c").read_text())
    volume, payload = tmp_path / "volume", tmp_path / "payload"
    (volume / "here").mkdir(parents=True)
    (volume / "there").symlink_to(UP + str(victim.path).lstrip("/"))
    payload.mkdir()
    (payload / "file").write_text("payload")
    bundle = make_bundle()
    bundle.bind(volume, "/volume")
    if use.startswith("bind"):
        bundle.bind(payload, "/volume/here" + "/new" * (use == "bind below"))
    elif use == "file":
        bundle.bind(payload / "file", "/volume/here/file")
    elif use == "tmpfs":
        bundle.mount("/volume/here", "tmpfs", "tmpfs", "tmpcopyup")
    elif use == "cwd":
        bundle.process["cwd"] = "/volume/here"
    else:
        bundle.linux[f"{use}Paths"] += ["/volume/here"]
    bundle.shell("pwd; cat /volume/*/* ./* 2>/dev/null; exit 0")
    process = subprocess.Popen([swapper, volume / "here", volume / "there"])
    try:
        for number in range(5 * factor):
            result = pyrunc.run(bundle, timeout=30)
            tally(f"{use}, {number}", victim.harm(result))
    finally:
        process.kill()
        process.wait()
