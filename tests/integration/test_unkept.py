"""What a config asks for and nobody can keep is an error; of the defaults, a warning."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from test_ordinary_user import rootless
from user_namespace_fixtures import user

__all__ = ["rootless", "user"]

from pyrunc.cgroups.host import detect

DENY_ALL = {"allow": False, "access": "rwm"}
ALLOW_ALL = {"allow": True, "access": "rwm"}
DENY_FUSE = {"allow": False, "type": "c", "major": 10, "minor": 229, "access": "rwm"}
ALLOW_FUSE = {**DENY_FUSE, "allow": True}
on_v1 = pytest.mark.skipif(
    "devices" not in detect().mounts, reason="needs the devices hierarchy of cgroup v1"
)


@pytest.fixture
def without_devices_hierarchy(pyrunc):
    """Run the command where the hierarchy is not mounted."""
    where = detect().mounts["devices"]
    pyrunc.command[:0] = ["unshare", "--mount", "sh", "-c", f'umount {where} && exec "$@"', "sh"]


# Device rules


@on_v1
@pytest.mark.usefixtures("without_devices_hierarchy")
@pytest.mark.parametrize("rules", [None, []])
def test_default_rules_that_cannot_be_kept_are_warned_about(make_bundle, pyrunc, rules):
    bundle = make_bundle(args=["echo", "ran"])
    bundle.linux["resources"] = {"devices": rules}
    done = pyrunc.run(bundle)
    assert done.stdout == "ran\n"
    assert "level=warning" in done.stderr
    assert "may use every device" in done.stderr
    assert "devices controller of cgroup v1 is not mounted" in done.stderr


@on_v1
@pytest.mark.usefixtures("without_devices_hierarchy")
@pytest.mark.parametrize(
    "rules", [[DENY_ALL], [DENY_ALL, ALLOW_FUSE], [ALLOW_FUSE], [ALLOW_ALL, DENY_FUSE]]
)
def test_rules_that_cannot_be_kept_are_refused(make_bundle, pyrunc, rules):
    bundle = make_bundle(args=["touch", "/ran"])
    bundle.linux["resources"] = {"devices": rules}
    done = pyrunc.run(bundle)
    assert done.code == 1
    assert "linux.resources.devices cannot be enforced: the devices controller" in done.stderr
    assert not (bundle.rootfs / "ran").exists()


@on_v1
@pytest.mark.usefixtures("without_devices_hierarchy")
def test_where_all_is_allowed_nothing_must_be_kept(make_bundle, pyrunc):
    bundle = make_bundle()
    bundle.linux["resources"] = {"devices": [DENY_ALL, ALLOW_ALL]}
    done = pyrunc.run(bundle)
    assert (done.code, done.stderr) == (0, "")


@on_v1
@pytest.mark.usefixtures("without_devices_hierarchy")
def test_rules_of_an_update_that_cannot_be_kept_are_refused(make_bundle, pyrunc):
    bundle = make_bundle(args=["sleep", "100"])
    del bundle.linux["resources"]
    container = pyrunc.start(bundle)
    text = json.dumps({"devices": [DENY_FUSE]}).encode()
    done = pyrunc("update", "--resources", "-", container.id, input=text, stdin=None)
    assert done.code == 1
    assert "linux.resources.devices cannot be enforced" in done.stderr


@pytest.mark.parametrize(
    ("rules", "kept"),
    [([DENY_ALL], True), ([DENY_ALL, ALLOW_FUSE], True), ([ALLOW_ALL, DENY_FUSE], False)],
)
def test_without_root_no_device_can_be_made_but_none_is_denied(rootless, rules, kept):
    bundle = rootless.bundle("true")
    bundle.linux["resources"] = {"devices": rules}
    done = rootless(bundle)
    assert (done.code == 0) == kept, done
    assert ("linux.resources.devices cannot be enforced" in done.stderr) != kept


# Limits


@on_v1
def test_a_limit_that_the_kernel_takes_without_effect_is_refused(make_bundle, pyrunc):
    """Since Linux 5.16 it takes any limit of kernel memory, and keeps none."""
    bundle = make_bundle()
    bundle.linux["resources"]["memory"] = {"kernel": 32 << 20}
    done = pyrunc.run(bundle)
    if done.code == 0:
        pytest.skip("this kernel limits kernel memory")
    assert "memory.kmem.limit_in_bytes" in done.stderr
    bundle.linux["resources"]["memory"] = {"kernel": -1}
    assert pyrunc.run(bundle).code == 0


@pytest.mark.parametrize(
    ("resources", "kept"),
    [
        ({"pids": {"limit": -1}, "memory": {"limit": -1, "swap": -1}, "cpu": {}}, True),
        ({"pids": {"limit": 100}}, False),
        ({"cpu": {"shares": 512}}, False),
    ],
)
def test_without_root_no_limit_needs_no_cgroup(rootless, resources, kept):
    bundle = rootless.bundle("true")
    bundle.linux["resources"] = resources
    done = rootless(bundle)
    assert (done.code == 0) == kept, done


@pytest.mark.parametrize("member", ["readonly", "rootfsPropagation"])
def test_what_only_a_mount_can_have_needs_a_mount_namespace(make_bundle, pyrunc, member):
    bundle = make_bundle(args=["touch", "/ran"], mounts=[])
    bundle.without_namespace("mount")
    del bundle.linux["maskedPaths"], bundle.linux["readonlyPaths"]
    if member == "readonly":
        bundle.config["root"]["readonly"] = True
    else:
        bundle.linux["rootfsPropagation"] = "private"
    done = pyrunc.run(bundle)
    assert f"{member} needs a mount namespace" in done.stderr
    assert not (bundle.rootfs / "ran").exists()


SCORE_REFUSED = "cannot set oom_score_adj to -500: permission denied; who lacks"


def test_a_score_that_a_user_may_not_set_is_refused(rootless):
    bundle = rootless.bundle("true")
    bundle.process["oomScoreAdj"] = -500
    done = rootless(bundle)
    assert done.code == 1
    assert SCORE_REFUSED in done.stderr


def test_a_score_of_exec_that_a_user_may_not_set_is_refused(rootless, pyrunc, user):
    who = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": [], "cwd": "/"}
    bundle = rootless.bundle("sleep", "100")
    container = rootless(bundle, "create")
    process = {"args": ["true"], "cwd": "/", "env": ["PATH=/bin"], "oomScoreAdj": -500}
    (bundle.path / "process.json").write_text(json.dumps(process))
    done = pyrunc("exec", "--process", bundle.path / "process.json", container.id, **who)
    assert pyrunc("delete", "--force", container.id, **who).code == 0
    assert done.code == 255
    assert SCORE_REFUSED in done.stderr


# No cgroups


@pytest.fixture
def disabled(make_bundle, pyrunc):
    pyrunc.command += ["--cgroup-manager", "disabled"]
    bundle = make_bundle(args=["sleep", "100"])
    del bundle.linux["resources"]
    return bundle


def cgroups(pid: int | str) -> str:
    return Path(f"/proc/{pid}/cgroup").read_text()


def test_disabled_a_container_stays_in_the_caller_s_cgroups(disabled, pyrunc):
    container = pyrunc.start(disabled)
    assert "may use every device" in container.stderr
    pid = pyrunc.state(container)["pid"]
    assert cgroups(pid) == cgroups("self")
    assert not [path for path, _, _ in os.walk("/sys/fs/cgroup") if container.id in path]
    # Later commands know it without being told.
    del pyrunc.command[-2:]
    assert cgroups("self").strip() in pyrunc.exec(container, "cat", "/proc/self/cgroup").stdout
    assert json.loads(pyrunc("ps", "--format", "json", container.id).stdout) == [pid]
    assert pyrunc("kill", "--all", container.id, "KILL").code == 0
    pyrunc.wait(container)
    assert pyrunc("delete", container.id).code == 0


@pytest.mark.parametrize(
    ("resources", "named"),
    [
        ({"memory": {"limit": 1 << 30}}, "memory"),
        ({"cpu": {"cpus": "0"}}, "cpu"),
        ({"pids": {"limit": 5}}, "pids"),
        ({"unified": {"memory.high": "1G"}}, "unified"),
        ({"memory": {"limit": -1, "swap": 0}, "pids": {"limit": 0}, "cpu": {}}, ""),
        ({"devices": [DENY_ALL]}, ""),
    ],
)
def test_disabled_limits_are_refused(disabled, pyrunc, resources, named):
    disabled.process["args"] = ["true"]
    disabled.linux["resources"] = resources
    done = pyrunc.run(disabled)
    assert (done.code == 0) == (not named), done
    if named:
        assert f"linux.resources.{named} cannot be enforced" in done.stderr
        assert "--cgroup-manager disabled" in done.stderr


@pytest.mark.parametrize(
    "words", [("pause",), ("update", "--memory", "1G"), ("events", "--stats")], ids=lambda w: w[0]
)
def test_disabled_what_needs_cgroups_says_so(disabled, pyrunc, words):
    container = pyrunc.start(disabled)
    done = pyrunc(*words, container.id)
    assert done.code == 1
    assert "has no cgroups (--cgroup-manager disabled)" in done.stderr


def test_disabled_a_cgroup_mount_shows_nothing_of_the_host(disabled, pyrunc):
    disabled.mount("/sys/fs/cgroup", "cgroup", "cgroup", "ro")
    if detect().version == 2:
        disabled.namespace("cgroup")
    disabled.process["args"] = ["find", "/sys/fs/cgroup", "-name", "cgroup.procs", "-maxdepth", "3"]
    done = pyrunc.run(disabled)
    assert done.code == 0, done
    if detect().version == 1:
        assert done.stdout == ""
