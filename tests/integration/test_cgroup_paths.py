"""Where a container's cgroup lies, and which ones are fit for it (config-linux.md, "Cgroups Path").

What the limits in it are is compared, limit by limit, in tests/differential/test_cgroup_values.py.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest
from test_cgroups import MOUNTS, cgroups_of

from cgroup_tree import cgroups_named
from pyrunc.cgroups.host import detect
from pyrunc.cgroups.v1 import DriverV1
from pyrunc.cgroups.v2 import DriverV2
from pyrunc.errors import Error


def cgroup_paths(pid):
    """Return the paths in the hierarchies that hold the container, below their mount points."""
    layout = detect()
    controllers = set(layout.mounts) if layout.version == 1 else {""}
    found = {}
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, names, path = line.split(":", 2)
        if set(names.split(",")) & controllers:
            found[names] = path
    return found


@pytest.fixture
def unused(pyrunc):
    """A part of a path that is no cgroup's name; whatever has it in the end is removed."""
    name = f"pyrunc-test-{os.getpid()}"
    yield name
    pyrunc.remove_all()
    for path, _, _ in os.walk(MOUNTS, topdown=False):
        if name in path:
            os.rmdir(path)


def running(bundle, pyrunc):
    container = pyrunc.start(bundle)
    return container, pyrunc.state(container)["pid"]


def test_an_absolute_path_counts_from_the_mount_point(make_bundle, pyrunc, unused):
    path = f"/{unused}/middle/mine"
    bundle = make_bundle(args=["sleep", "100"], linux={"cgroupsPath": path})
    container, pid = running(bundle, pyrunc)
    assert set(cgroup_paths(pid).values()) == {path}
    # What other tests look with misses none.
    found = [p for p, _, _ in os.walk(MOUNTS) if p.endswith("/mine")]
    assert sorted(cgroups_named("mine")) == sorted(found) != []
    # Its own are gone with it; those on the way, which may be somebody's, stay.
    assert pyrunc("delete", "--force", container.id).code == 0
    left = [p for p, _, _ in os.walk(MOUNTS) if p.endswith("/mine")]
    assert left == []


def test_exec_goes_where_init_went_when_its_cgroup_is_gone(make_bundle, pyrunc, unused):
    bundle = make_bundle(args=["sleep", "100"], linux={"cgroupsPath": f"/{unused}/mine"})
    container, pid = running(bundle, pyrunc)
    layout = detect()
    tops = {*layout.mounts.values(), layout.unified} - {""}
    for top in tops:
        elsewhere = Path(top, unused, "elsewhere")
        elsewhere.mkdir()
        for name in ("cpuset.cpus", "cpuset.mems"):
            if layout.version == 1 and (elsewhere / name).exists():
                (elsewhere / name).write_text(Path(top, name).read_text())
        (elsewhere / "cgroup.procs").write_text(str(pid))
        Path(top, unused, "mine").rmdir()
    done = pyrunc.exec(container, "cat", "/proc/self/cgroup")
    assert done.code == 0, done
    where = {line.split(":", 2)[1]: line.split(":", 2)[2] for line in done.stdout.splitlines()}
    for names in cgroup_paths(pid):
        assert where[names] == f"/{unused}/elsewhere"
    # What was chosen by name is that or nothing.
    done = pyrunc("exec", "--cgroup", "below", container.id, "true")
    assert done.code == 255
    assert "no such file or directory" in done.stderr


def test_v2_goes_where_init_went_when_its_cgroup_is_gone(unused):
    """The driver of v2 on whatever v2 hierarchy there is, also beside v1's."""
    top = detect().unified
    if not top:
        pytest.skip("no cgroup v2 hierarchy is mounted")
    elsewhere = Path(top, unused)
    elsewhere.mkdir()
    gone = DriverV2({"": f"{top}/{unused}-gone"}, mount=top)
    with subprocess.Popen(["sleep", "100"]) as process:
        (elsewhere / "cgroup.procs").write_text(str(process.pid))
        entrance = gone.open_entrance(beside=process.pid)
        assert os.path.samestat(os.fstat(entrance.birthplace), elsewhere.stat())
        entrance.close()
        with subprocess.Popen(["sleep", "100"]) as another:
            gone.attach(another.pid, beside=process.pid)
            assert str(another.pid) in (elsewhere / "cgroup.procs").read_text().split()
            another.kill()
        with pytest.raises(Error, match="no such file or directory"):
            gone.open_entrance()
        process.kill()


def test_the_same_path_is_the_same_place_again(make_bundle, pyrunc, unused):
    seen = []
    for path in (f"/{unused}/mine", f"/{unused}/mine", f"{unused}-relative", f"{unused}-relative"):
        bundle = make_bundle(args=["sleep", "100"], linux={"cgroupsPath": path})
        container, pid = running(bundle, pyrunc)
        seen.append(cgroup_paths(pid))
        assert pyrunc("delete", "--force", container.id).code == 0
    assert seen[0] == seen[1]
    assert seen[2] == seen[3]


@pytest.mark.parametrize("given", [True, False])
def test_a_relative_path_or_none_counts_from_the_caller(make_bundle, pyrunc, unused, given):
    path = f"{unused}/mine" if given else ""
    bundle = make_bundle(args=["sleep", "100"], linux={"cgroupsPath": path})
    container, pid = running(bundle, pyrunc)
    callers = cgroup_paths("self")
    for names, found in cgroup_paths(pid).items():
        # On v2 it lies beside: a cgroup with processes has no children with controllers.
        own = callers[names] if names else callers[names].rpartition("/")[0]
        assert found == f"{own.rstrip('/')}/{path or container.id}", names


@pytest.mark.parametrize("path", ["../mine", "/a/../../mine", 7])
def test_a_path_that_leads_upwards_is_refused(make_bundle, pyrunc, path):
    result = pyrunc.create(make_bundle(linux={"cgroupsPath": path}))
    assert result.code == 1
    assert "linux.cgroupsPath: " in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("below", [True, False])
def test_a_cgroup_with_processes_in_it_is_refused(make_bundle, pyrunc, unused, below):
    bundle = make_bundle(args=["sleep", "100"], linux={"cgroupsPath": f"/{unused}/mine"})
    running(bundle, pyrunc)
    if below:
        bundle.linux["cgroupsPath"] = f"/{unused}"
    result = pyrunc.create(bundle)
    assert result.code == 1
    assert "container's cgroup is not empty" in result.stderr


@pytest.mark.parametrize("path", ["/{}/cgroup.procs", "/{}/cgroup.procs/mine"])
def test_a_path_through_a_cgroups_file_is_refused(make_bundle, pyrunc, unused, path):
    # The first cgroup on the way must be there: in an empty place there are no files yet.
    bundle = make_bundle(args=["sleep", "100"], linux={"cgroupsPath": f"/{unused}/mine"})
    running(bundle, pyrunc)
    bundle.linux["cgroupsPath"] = path.format(unused)
    result = pyrunc.create(bundle)
    assert result.code == 1
    assert "cannot make cgroup " in result.stderr
    assert "a file of this name" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_hooks_see_the_process_in_its_cgroup(make_bundle, pyrunc, unused, rootfs_template):
    # Of v1 the builder gets into its cgroups only after its birth.
    bundle = make_bundle(args=["sleep", "100"], linux={"cgroupsPath": f"/{unused}/mine"})
    bundle.config["hooks"] = {
        "createRuntime": [
            {
                "path": str(rootfs_template / "bin/busybox"),
                "args": [
                    "sh",
                    "-c",
                    f"sed -n 's/.*\"pid\":\\([0-9]*\\).*/\\1/p' > {bundle.path}/pid;"
                    f"cat /proc/$(cat {bundle.path}/pid)/cgroup > {bundle.path}/seen",
                ],
                "env": ["PATH=/bin:/usr/bin"],
            }
        ]
    }
    _, pid = running(bundle, pyrunc)
    seen = (bundle.path / "seen").read_text()
    assert seen == Path(f"/proc/{pid}/cgroup").read_text()


def test_a_frozen_cgroup_is_refused(make_bundle, pyrunc, unused):
    layout = detect()
    mount = layout.mounts.get("freezer") if layout.version == 1 else layout.unified
    name, frozen, thawed = (
        ("freezer.state", "FROZEN", "THAWED")
        if layout.version == 1
        else ("cgroup.freeze", "1", "0")
    )
    directory = Path(mount) / unused
    directory.mkdir()
    (directory / name).write_text(frozen)
    try:
        bundle = make_bundle(args=["sleep", "100"], linux={"cgroupsPath": f"/{unused}"})
        result = pyrunc.create(bundle)
        assert result.code == 1
        assert "container's cgroup is frozen" in result.stderr
    finally:
        if directory.exists():
            (directory / name).write_text(thawed)
            directory.rmdir()


def test_an_empty_cgroup_that_is_there_is_used(make_bundle, pyrunc, unused):
    directories = [Path(mount, unused) for mount in set(detect().mounts.values())]
    for directory in directories:
        directory.mkdir(exist_ok=True)
    bundle = make_bundle(args=["sleep", "100"], linux={"cgroupsPath": f"/{unused}"})
    _, pid = running(bundle, pyrunc)
    assert set(cgroup_paths(pid).values()) == {f"/{unused}"}


def test_the_owner_of_v1_s_cgroups_stays_the_host_s_root(make_bundle, pyrunc, public_path):
    """Delegation is not secure on v1, whatever the mount in the container is."""
    if detect().version != 1:
        pytest.skip("this host has no cgroup v1")
    bundle = make_bundle(args=["sleep", "100"], at=public_path / "bundle")
    bundle.give_to(100000)
    bundle.user_namespace(host=100000)
    bundle.namespace("cgroup")
    bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", "rw")
    _, pid = running(bundle, pyrunc)
    for name, directory in cgroups_of(pid).items():
        if name and directory.is_dir() and pyrunc.ids[-1] in str(directory):
            owners = {os.stat(directory).st_uid}
            owners |= {entry.stat().st_uid for entry in os.scandir(directory)}
            assert owners == {0}, name


def test_unified_needs_v2(make_bundle, pyrunc):
    if detect().version != 1:
        pytest.skip("this host has no cgroup v1")
    bundle = make_bundle()
    bundle.linux["resources"]["unified"] = {"memory.high": "1000000"}
    result = pyrunc.create(bundle)
    assert result.code == 1
    assert "linux.resources.unified needs cgroup v2" in result.stderr


def test_a_controller_that_is_not_there_is_named(make_bundle, pyrunc):
    """A limit that is not set would be no limit."""
    if detect().version != 1:
        pytest.skip("this host has no cgroup v1")
    for controller, resources in (
        ("net_cls", {"network": {"classID": 7}}),
        ("rdma", {"rdma": {"mlx5_0": {"hcaHandles": 3}}}),
        ("hugetlb", {"hugepageLimits": [{"pageSize": "2MB", "limit": 0}]}),
    ):
        if controller in detect().mounts:
            continue
        bundle = make_bundle()
        bundle.linux["resources"].update(resources)
        result = pyrunc.create(bundle)
        assert result.code == 1
        assert f"the cgroup controller {controller} is not mounted on this host" in result.stderr


def test_limits_hold_inside(make_bundle, pyrunc):
    """As many processes as allowed, as much memory, no more than these processors."""
    bundle = make_bundle()
    bundle.linux["resources"].update(
        pids={"limit": 5}, memory={"limit": 32 << 20, "swap": 32 << 20}, cpu={"cpus": "0"}
    )
    bundle.shell(
        "grep Cpus_allowed_list /proc/self/status;"
        "(for n in 1 2 3 4 5 6 7 8; do sleep 1 & done; wait) 2>&1 | grep -c 'fork';"
        # Its own memory, which goes with it: a file's would stay, and leave none for the shell.
        "dd if=/dev/zero of=/dev/null bs=60M count=1 2>/dev/null; echo dd $?"
    )
    result = pyrunc.run(bundle)
    allowed, forks, ended = result.stdout.splitlines()
    assert allowed.split() == ["Cpus_allowed_list:", "0"]
    assert int(forks) >= 1
    assert ended == "dd 137", result


def test_limits_are_not_touched_without_resources(make_bundle, pyrunc):
    bundle = make_bundle(args=["sleep", "100"])
    del bundle.linux["resources"]
    _, pid = running(bundle, pyrunc)
    cgroups = cgroups_of(pid)
    directory = cgroups.get("pids", cgroups[""])
    if not (directory / "pids.max").exists():
        pytest.skip("the pids controller is not there")
    assert (directory / "pids.max").read_text() == "max\n"


def test_rules_for_devices_are_applied_in_order(make_bundle, pyrunc):
    """The later one counts; "a" means all of them."""
    if not os.path.exists("/dev/fuse"):
        pytest.skip("needs a device that anybody may open: /dev/fuse")
    rule = {"type": "c", "major": 10, "minor": 229, "access": "r"}
    everything = {"allow": False, "access": "rwm"}
    bundle = make_bundle(args=["sh", "-c", "head -c 0 /dev/fuse && echo read"])
    bundle.linux["devices"] = [{"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229}]
    for rules, allowed in (
        ([everything], False),
        ([everything, {"allow": True, **rule}], True),
        ([everything, {"allow": True, **rule}, {"allow": False, **rule}], False),
        ([{"allow": True, **rule}, everything], False),
        ([everything, {"allow": True, "type": "a", "access": "rwm"}], True),
        ([everything, {"allow": True, **rule, "access": "w"}], False),
    ):
        bundle.linux["resources"]["devices"] = rules
        result = pyrunc.run(bundle)
        assert (result.stdout == "read\n") == allowed, (rules, result)


@pytest.mark.skipif(not Path(MOUNTS, "cpuset").is_dir(), reason="needs the cpuset hierarchy of v1")
@pytest.mark.parametrize("made", ["{}", "{}/deep", "{}/deep/mine"])
def test_empty_cpusets_on_the_way_are_filled(make_bundle, pyrunc, unused, made):
    """Made by somebody's mkdir, they have no processors, and nothing below them can have any."""
    os.makedirs(f"{MOUNTS}/cpuset/{made.format(unused)}")
    path = f"/{unused}/deep/mine"
    bundle = make_bundle(args=["sleep", "100"], linux={"cgroupsPath": path})
    running(bundle, pyrunc)
    for name in ("cpus", "mems"):
        whole = Path(MOUNTS, f"cpuset/cpuset.{name}").read_text()
        assert Path(f"{MOUNTS}/cpuset{path}/cpuset.{name}").read_text() == whole


@pytest.mark.skipif(not Path(MOUNTS, "cpuset").is_dir(), reason="needs the cpuset hierarchy of v1")
def test_a_cpuset_that_systemd_has_not_made_is_filled(unused):
    """It leaves the cpuset hierarchy of v1 alone: nothing could join a scope's cgroup there."""
    path = f"{MOUNTS}/cpuset/{unused}/system.slice/box.scope"
    DriverV1({"cpuset": path}).make_missing()
    for name in ("cpus", "mems"):
        whole = Path(MOUNTS, f"cpuset/cpuset.{name}").read_text()
        assert Path(f"{path}/cpuset.{name}").read_text() == whole


def test_list_tells_who_is_paused_whatever_their_cgroups_lie_in(make_bundle, pyrunc, unused):
    """It keeps the first few directories above them open, and goes the whole way to others."""
    expected = {}
    for number in range(7):
        path = f"/{unused}/{number % 6}/mine{number}"
        container = pyrunc.create(make_bundle(args=["sleep", "100"], linux={"cgroupsPath": path}))
        if started := number % 2 == 0:
            assert pyrunc("start", container.id).code == 0
        if paused := number in (0, 1, 5, 6):
            assert pyrunc("pause", container.id).code == 0
        expected[container.id] = "paused" if paused else "running" if started else "created"
    listed = pyrunc("list", "--format", "json")
    assert {state["id"]: state["status"] for state in json.loads(listed.stdout)} == expected
    for name in expected:
        pyrunc("resume", name)


@pytest.mark.parametrize("command", ["exec sleep 1000", "while :; do :; done"], ids="SR")
@pytest.mark.parametrize("stopped", [False, True], ids=["", "stopped"])
def test_list_tells_paused_from_stopped_by_a_signal(make_bundle, pyrunc, command, stopped):
    """It looks at the freezer where the state of init does not tell: that is T or D."""
    container = pyrunc.start(make_bundle(args=["sh", "-c", command]))
    if stopped:
        os.kill(pyrunc.state(container)["pid"], signal.SIGSTOP)
    for act, expected in (("pause", "paused"), ("resume", "running")):
        assert pyrunc(act, container.id).code == 0
        (state,) = json.loads(pyrunc("list", "--format", "json").stdout)
        assert state["status"] == expected
