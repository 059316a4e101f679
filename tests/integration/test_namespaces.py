"""New, joined and kept namespaces (config-linux.md, "Namespaces"), sysctls and clocks."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from namespace_fixtures import FILES, running, shared_with


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
