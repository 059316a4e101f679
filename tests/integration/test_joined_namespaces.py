"""Namespaces that are there already and joined, by path."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest
from namespace_fixtures import FILES, running, shared_with

from pyrunc.linux import mounts
from pyrunc.process.foreign_proc import ForeignProc
from pyrunc.process.seal import sealed_init


@pytest.fixture
def holder():
    """Start a process in new namespaces, as told to unshare(1); it is gone with the test."""
    started: list[subprocess.Popen[bytes]] = []

    def start(*flags: str) -> int:
        process = subprocess.Popen(["unshare", *flags, "sleep", "1000"])
        started.append(process)
        end = time.monotonic() + 10
        while Path(f"/proc/{process.pid}/comm").read_text() != "sleep\n":
            assert time.monotonic() < end
            time.sleep(0.005)
        return process.pid

    yield start
    for process in started:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    "kinds", [("network",), ("ipc",), ("uts",), ("cgroup",), ("network", "ipc", "uts")]
)
def test_join_by_path(make_bundle, pyrunc, holder, kinds):
    other = holder("-n", "-i", "-u", "-C")

    def change(bundle):
        for kind in kinds:
            bundle.namespace(kind, f"/proc/{other}/ns/{FILES[kind]}")
        del bundle.config["hostname"]

    _, pid = running(make_bundle, pyrunc, change)
    assert shared_with(pid, other) - shared_with(pid) == set(kinds)


def test_join_by_a_bound_file(make_bundle, pyrunc, tmp_path):
    place = tmp_path / "net"
    place.write_text("")
    subprocess.run(["unshare", f"--net={place}", "true"], check=True)
    try:
        bundle = make_bundle(args=["readlink", "/proc/self/ns/net"])
        bundle.namespace("network", str(place))
        assert pyrunc.run(bundle).stdout == f"net:[{place.stat().st_ino}]\n"
    finally:
        subprocess.run(["umount", place], check=True)


def test_a_joined_network_is_left_as_it_is(make_bundle, pyrunc, holder):
    other = holder("-n")
    bundle = make_bundle(args=["cat", "/sys/class/net/lo/operstate"])
    bundle.namespace("network", f"/proc/{other}/ns/net")
    assert pyrunc.run(bundle).stdout == "down\n"


def test_a_procfs_of_another_pid_namespace(make_bundle, pyrunc):
    """The way before Linux 6.18: a process with nothing goes there, and is gone afterwards."""
    _, first = running(make_bundle, pyrunc)
    init = sealed_init()
    with open(f"/proc/{first}/ns/pid") as namespace:
        before = set(os.listdir("/proc"))
        context = ForeignProc(in_user_namespace=False).by_process(init, namespace.fileno())
        assert not {n for n in set(os.listdir("/proc")) - before if is_named(n, "pyrunc-init")}
    mount = mounts.new_filesystem("proc", "proc", (), 0, context)
    try:
        numbers = [name for name in os.listdir(f"/proc/self/fd/{mount}") if name.isdigit()]
        assert numbers == ["1"]
        assert os.readlink("1/ns/pid", dir_fd=mount) == os.readlink(f"/proc/{first}/ns/pid")
    finally:
        os.close(mount)
        os.close(init)


def is_named(pid: str, name: str) -> bool:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip() == name
    except OSError:
        return False


def test_join_a_pid_namespace(make_bundle, pyrunc):
    _, first = running(make_bundle, pyrunc)
    bundle = make_bundle(args=["sh", "-c", "cat /proc/1/comm; test $$ != 1"])
    bundle.namespace("pid", f"/proc/{first}/ns/pid")
    result = pyrunc.run(bundle)
    assert (result.code, result.stdout) == (0, "sleep\n"), result


def test_join_everything_of_a_container(make_bundle, pyrunc):
    """As a pod's containers do, and the mount namespace besides."""
    _, first = running(make_bundle, pyrunc)

    def change(bundle):
        for kind in ("pid", "network", "ipc", "uts", "cgroup"):
            bundle.namespace(kind, f"/proc/{first}/ns/{FILES[kind]}")

    _, pid = running(make_bundle, pyrunc, change)
    assert shared_with(pid, first) == set(FILES) - {"mount"}


def test_join_a_user_namespace_with_the_others_new(make_bundle, pyrunc, holder):
    other = holder("-U", "--map-root-user")

    def change(bundle):
        bundle.namespace("user", f"/proc/{other}/ns/user")
        # Only one group is mapped: not the one that terminals belong to.
        bundle.config["mounts"][2]["options"].remove("gid=5")

    _, pid = running(make_bundle, pyrunc, change)
    assert shared_with(pid, other) - shared_with(pid) == {"user"}
    assert shared_with(pid) == {"cgroup", "time"}


def test_join_a_user_namespace_and_what_it_owns(make_bundle, pyrunc, public_path):
    kinds = {"user", "pid", "network", "ipc", "uts"}
    bundle = make_bundle(args=["sleep", "100"], at=public_path / "bundle")
    bundle.give_to(100000)
    bundle.user_namespace(host=100000)
    first = pyrunc.state(pyrunc.start(bundle))["pid"]
    for kind in kinds:
        bundle.namespace(kind, f"/proc/{first}/ns/{FILES[kind]}")
    del bundle.linux["uidMappings"], bundle.linux["gidMappings"]
    second = pyrunc.state(pyrunc.start(bundle))["pid"]
    assert shared_with(second, first) - shared_with(second) == kinds


def test_join_the_user_namespace_in_which_we_are(make_bundle, pyrunc):
    _, pid = running(make_bundle, pyrunc, lambda b: b.namespace("user", "/proc/self/ns/user"))
    assert "user" in shared_with(pid)


def test_a_new_user_namespace_with_a_network_of_the_host(make_bundle, pyrunc, holder):
    other = holder("-n")

    def change(bundle):
        bundle.user_namespace()
        bundle.namespace("network", f"/proc/{other}/ns/net")

    container, pid = running(make_bundle, pyrunc, change)
    assert "network" in shared_with(pid, other)
    assert "user" not in shared_with(pid)
    # A new sysfs is not allowed there: the host's stands in, read-only as asked for, and
    # without the host's cgroups.
    assert pyrunc.exec(container, "ls", "/sys/class").code == 0
    assert pyrunc.exec(container, "ls", "/sys/fs/cgroup").stdout == ""


@pytest.mark.parametrize("kinds", [("pid",), ("time",), ("network", "pid", "time")])
def test_join_what_takes_a_process_in_between(make_bundle, pyrunc, kinds):
    def with_time(bundle):
        bundle.namespace("time")

    _, first = running(make_bundle, pyrunc, with_time)

    def change(bundle):
        for kind in kinds:
            bundle.namespace(kind, f"/proc/{first}/ns/{FILES[kind]}")

    _, pid = running(make_bundle, pyrunc, change)
    assert set(kinds) == shared_with(pid, first) - shared_with(pid)


def test_join_a_mount_namespace(make_bundle, pyrunc, holder):
    """What the root file system needs is found in there; the host's is not touched."""
    before = Path("/proc/self/mountinfo").read_text()
    other = holder("-m")
    bundle = make_bundle(args=["ls", "-d", "/bin/sh"])
    bundle.namespace("mount", f"/proc/{other}/ns/mnt")
    result = pyrunc.run(bundle)
    assert result.stdout == "/bin/sh\n", result
    assert Path("/proc/self/mountinfo").read_text() == before


def test_namespace_of_another_type_is_refused(make_bundle, pyrunc):
    bundle = make_bundle()
    bundle.namespace("network", "/proc/self/ns/ipc")
    result = pyrunc.run(bundle)
    assert result.code == 1
    words = "cannot open network namespace /proc/self/ns/ipc: it is a namespace of another type"
    assert words in result.stderr


@pytest.mark.parametrize("what", ["file", "fifo", "directory", "link to a file"])
def test_path_that_is_no_namespace_is_refused(make_bundle, pyrunc, tmp_path, what):
    path = tmp_path / "not-a-namespace"
    if what == "file":
        path.write_text("")
    elif what == "fifo":
        os.mkfifo(path)
    elif what == "directory":
        path.mkdir()
    else:
        path.symlink_to("/etc/passwd")
    bundle = make_bundle()
    bundle.namespace("network", str(path))
    result = pyrunc.run(bundle)
    assert result.code == 1
    assert f"cannot open network namespace {path}: it is not a namespace" in result.stderr


def test_path_that_is_not_there_is_named(make_bundle, pyrunc):
    bundle = make_bundle()
    bundle.namespace("ipc", "/proc/1073741824/ns/ipc")
    result = pyrunc.run(bundle)
    assert result.code == 1
    words = "cannot open ipc namespace /proc/1073741824/ns/ipc: no such file or directory"
    assert words in result.stderr
