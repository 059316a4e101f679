"""New, joined and kept namespaces (config-linux.md, "Namespaces"), sysctls and clocks."""

from __future__ import annotations

import os
import re
import subprocess
import time
from pathlib import Path

import pytest

from pyrunc.linux import mounts
from pyrunc.process.foreign_proc import ForeignProc
from pyrunc.process.seal import sealed_init

FILES = {
    "pid": "pid",
    "network": "net",
    "ipc": "ipc",
    "uts": "uts",
    "mount": "mnt",
    "cgroup": "cgroup",
    "time": "time",
    "user": "user",
}


def namespaces_of(pid: int | str) -> dict[str, str]:
    """Return what /proc/PID/ns holds, by config.json's names."""
    return {kind: os.readlink(f"/proc/{pid}/ns/{file}") for kind, file in FILES.items()}


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


def running(make_bundle, pyrunc, change=lambda bundle: None):
    """Start a container that only sleeps; return it and its process's number."""
    bundle = make_bundle(args=["sleep", "100"])
    change(bundle)
    container = pyrunc.start(bundle)
    return container, pyrunc.state(container)["pid"]


def shared_with(pid: int, other: int | str = "self") -> set[str]:
    """Return the types of namespace in which both processes are."""
    mine, theirs = namespaces_of(other), namespaces_of(pid)
    return {kind for kind in FILES if mine[kind] == theirs[kind]}


# New ones


def test_each_type_is_new_or_the_host_s(make_bundle, pyrunc):
    for kinds in ({"pid", "mount"}, {"mount", "network"}, {"mount", "ipc", "uts", "cgroup"}):

        def only(bundle, kinds=kinds):
            bundle.without_namespace(*FILES)
            for kind in kinds:
                bundle.namespace(kind)
            del bundle.config["hostname"]

        _, pid = running(make_bundle, pyrunc, only)
        assert shared_with(pid) == set(FILES) - kinds


def test_the_program_is_the_first_in_its_pid_namespace(make_bundle, pyrunc):
    assert pyrunc.run(make_bundle(args=["sh", "-c", "echo $$"])).stdout == "1\n"


def test_a_new_network_has_loopback_and_it_is_up(make_bundle, pyrunc):
    bundle = make_bundle(args=["sh", "-c", "ls /sys/class/net; ping -c 1 127.0.0.1 > /dev/null"])
    for names in bundle.process["capabilities"].values():
        names.append("CAP_NET_RAW")
    result = pyrunc.run(bundle)
    assert (result.code, result.stdout) == (0, "lo\n"), result


def test_ipc_objects_of_the_host_are_not_seen(make_bundle, pyrunc):
    made = subprocess.run(["ipcmk", "-Q"], capture_output=True, text=True, check=True)
    number = made.stdout.split()[-1]
    try:
        bundle = make_bundle(args=["sh", "-c", "tail -n +2 /proc/sysvipc/msg | wc -l"])
        assert pyrunc.run(bundle).stdout == "0\n"
        bundle.without_namespace("ipc")
        assert pyrunc.run(bundle).stdout != "0\n"
    finally:
        subprocess.run(["ipcrm", "-q", number], check=True)


def test_names(make_bundle, pyrunc):
    before = os.uname()
    bundle = make_bundle(
        args=["cat", "/proc/sys/kernel/hostname", "/proc/sys/kernel/domainname"],
        hostname="b" * 64, domainname="example.org",
    )  # fmt: skip
    assert pyrunc.run(bundle).stdout == f"{'b' * 64}\nexample.org\n"
    assert os.uname() == before


def test_an_own_cgroup_namespace_starts_at_the_container_s_cgroup(make_bundle, pyrunc):
    bundle = make_bundle(args=["cat", "/proc/self/cgroup"])
    bundle.namespace("cgroup")
    paths = {line.rpartition(":")[2] for line in pyrunc.run(bundle).stdout.splitlines()}
    # A hierarchy that the runtime makes no cgroup in is as the caller has it.
    assert "/" in paths
    assert not any(pyrunc.ids[-1] in path for path in paths)


def test_no_namespace_at_all_but_the_mount_one(make_bundle, pyrunc):
    """The host's network and processes: /sys cannot be new there and is still mounted."""

    def change(bundle):
        bundle.without_namespace("pid", "network", "ipc", "uts")
        del bundle.config["hostname"]

    container, pid = running(make_bundle, pyrunc, change)
    assert shared_with(pid) == set(FILES) - {"mount"}
    interfaces = pyrunc.exec(container, "ls", "/sys/class/net").stdout.split()
    assert sorted(interfaces) == sorted(os.listdir("/sys/class/net"))


# Joined ones


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


@pytest.mark.parametrize("user", ["host", "new", "joined"])
@pytest.mark.parametrize("others", ["new", "joined", "host"])
@pytest.mark.parametrize("odd", ["pid", "network", "time"])
def test_any_combination(make_bundle, pyrunc, public_path, user, others, odd):
    """One type is unlike all the others, and the user namespace the host's, new or joined."""
    kinds = ("pid", "network", "ipc", "uts", "cgroup", "time")
    how = dict.fromkeys(kinds, others) | {odd: "new" if others != "new" else "joined"}

    def bundle_at(name):
        bundle = make_bundle(args=["sleep", "100"], at=public_path / name)
        bundle.without_namespace(*kinds)
        if user != "host":
            bundle.give_to(100000)
            bundle.user_namespace(host=100000)
        return bundle

    owner = bundle_at("owner")
    for kind in kinds:
        owner.namespace(kind)
    first = pyrunc.state(pyrunc.start(owner))["pid"]
    bundle = bundle_at("bundle")
    if user == "joined":
        bundle.namespace("user", f"/proc/{first}/ns/user")
        del bundle.linux["uidMappings"], bundle.linux["gidMappings"]
    for kind in kinds:
        if how[kind] == "new":
            bundle.namespace(kind)
        elif how[kind] == "joined":
            bundle.namespace(kind, f"/proc/{first}/ns/{FILES[kind]}")
    if how["uts"] == "host" or (how["uts"] == "joined" and user == "new"):
        # The name of a namespace that another user namespace owns is not for it to change.
        del bundle.config["hostname"]
    if how["pid"] == "joined" and user == "new":
        # Nor may it mount a procfs of those processes; one of all the host's is not given instead.
        result = pyrunc.create(bundle)
        assert result.code == 1
        # The kernel's word, or ours before Linux 6.18, which has no word for it.
        why = "operation not permitted|its pid namespace is not the user namespace's own"
        assert re.search(f"cannot mount proc on /proc: ({why})", result.stderr)
        return
    second = pyrunc.state(pyrunc.start(bundle))["pid"]
    here, there = shared_with(second), shared_with(second, first)
    for kind, state in {**how, "user": user}.items():
        assert (kind in here) == (state == "host"), kind
        assert (kind in there) == (state == "joined" or (kind == "user" and user == "host")), kind


# Paths that are no such thing


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


# Clocks


def test_clocks_of_a_time_namespace(make_bundle, pyrunc):
    bundle = make_bundle(args=["cat", "/proc/uptime", "/proc/self/timens_offsets"])
    bundle.namespace("time")
    bundle.linux["timeOffsets"] = {
        "monotonic": {"secs": 1000, "nanosecs": 5},
        "boottime": {"secs": 1000000000},
    }
    uptime, monotonic, boottime = pyrunc.run(bundle).stdout.splitlines()
    assert float(uptime.split()[0]) > 1000000000
    assert monotonic.split() == ["monotonic", "1000", "5"]
    assert boottime.split() == ["boottime", "1000000000", "0"]


def test_clocks_in_a_new_user_namespace(make_bundle, pyrunc):
    bundle = make_bundle(args=["cat", "/proc/uptime"])
    bundle.user_namespace()
    bundle.namespace("time")
    bundle.linux["timeOffsets"] = {"boottime": {"secs": 1000000000}}
    assert float(pyrunc.run(bundle).stdout.split()[0]) > 1000000000


def test_clocks_of_a_joined_time_namespace_are_not_for_setting(make_bundle, pyrunc):
    bundle = make_bundle()
    bundle.namespace("time", "/proc/self/ns/time")
    bundle.linux["timeOffsets"] = {"boottime": {"secs": 7}}
    result = pyrunc.run(bundle)
    assert result.code == 1
    words = (
        "linux.timeOffsets: expected a new time namespace, found offsets, but one that is joined"
    )
    assert words in result.stderr


def test_clocks_that_the_kernel_refuses(make_bundle, pyrunc):
    bundle = make_bundle()
    bundle.namespace("time")
    bundle.linux["timeOffsets"] = {"boottime": {"secs": -(2**62)}}
    result = pyrunc.run(bundle)
    assert result.code == 1
    assert "cannot set the clocks of the time namespace" in result.stderr


# Kernel parameters


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("net.ipv4.ip_forward", "1"),
        ("net/ipv4/conf/lo/forwarding", "1"),
        ("net.core.somaxconn", "77"),
        ("kernel.shmmax", "4096000"),
        ("kernel.msgmax", "4096"),
        ("fs.mqueue.msg_max", "7"),
        ("kernel.domainname", "example.org"),
    ],
)
def test_sysctl(make_bundle, pyrunc, name, value):
    path = "/proc/sys/" + name.replace(".", "/")
    before = Path(path).read_text()
    bundle = make_bundle(args=["cat", path])
    bundle.linux["sysctl"] = {name: value}
    result = pyrunc.run(bundle)
    assert result.stdout == f"{value}\n", result
    assert Path(path).read_text() == before


def test_sysctl_in_a_user_namespace(make_bundle, pyrunc):
    bundle = make_bundle(args=["cat", "/proc/sys/net/ipv4/ip_forward"])
    bundle.user_namespace()
    bundle.linux["sysctl"] = {"net.ipv4.ip_forward": "1"}
    assert pyrunc.run(bundle).stdout == "1\n"


@pytest.mark.parametrize("name", ["kernel.panic", "vm.swappiness", "fs.file-max"])
def test_sysctl_of_the_host_is_refused(make_bundle, pyrunc, name):
    bundle = make_bundle()
    bundle.linux["sysctl"] = {name: "1"}
    result = pyrunc.run(bundle)
    assert result.code == 1
    assert name in result.stderr
    assert "is not in a separate kernel namespace" in result.stderr


def test_sysctl_of_a_network_that_is_the_host_s_is_refused(make_bundle, pyrunc):
    bundle = make_bundle()
    bundle.without_namespace("network")
    bundle.linux["sysctl"] = {"net.ipv4.ip_forward": "1"}
    result = pyrunc.run(bundle)
    assert result.code == 1
    assert "not allowed in host network namespace" in result.stderr


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("net.no.such.name", "1", "no such file or directory"),
        ("net.ipv4.ip_forward", "much", "invalid argument"),
    ],
)
def test_sysctl_that_the_kernel_refuses_is_named(make_bundle, pyrunc, name, value, why):
    bundle = make_bundle()
    bundle.linux["sysctl"] = {name: value}
    result = pyrunc.run(bundle)
    assert result.code == 1
    assert f"cannot set sysctl {name} to '{value}': {why}" in result.stderr
