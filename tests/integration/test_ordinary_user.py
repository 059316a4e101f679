"""pyrunc run by an ordinary user."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest
from user_namespace_fixtures import ids, subordinate, user
from views import mounts_by_point

from bundles import own
from public_command import for_everybody

__all__ = ["user"]


@pytest.fixture
def rootless(user, make_bundle, pyrunc, public_path):
    """Run a bundle as the ordinary user: ``rootless(bundle, "run")``."""
    state = public_path / "state"
    state.mkdir()
    os.chown(state, user.pw_uid, user.pw_gid)
    options = pyrunc.command.index("--root")
    pyrunc.command[options + 1] = str(state)
    pyrunc.command[:options] = for_everybody(pyrunc.command[:options])

    def bundle(*args: str, whole_range: bool = True):
        made = make_bundle(args, at=public_path / "bundle")
        for path in (made.path, *made.path.rglob("*")):
            own(path)
            os.chown(path, user.pw_uid, user.pw_gid, follow_symlinks=False)
        uids, gids = [ids(0, user.pw_uid, 1)], [ids(0, user.pw_gid, 1)]
        if whole_range:
            uids.append(ids(1, *subordinate("/etc/subuid")))
            gids.append(ids(1, *subordinate("/etc/subgid")))
        else:
            made.config["mounts"][2]["options"].remove("gid=5")
        made.linux.update(uidMappings=uids, gidMappings=gids)
        made.namespace("user")
        del made.linux["resources"]
        return made

    def run(bundle, command="run", **how):
        who = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        how.setdefault("cwd", "/")
        method = getattr(pyrunc, command)
        return method(bundle, **who, **how)

    run.bundle = bundle
    return run


def test_rootless_with_subordinate_ids(rootless):
    bundle = rootless.bundle("sh", "-c", "id -u; touch /f && chown 5:5 /f && stat -c %u:%g /f")
    for names in bundle.process["capabilities"].values():
        names += ["CAP_CHOWN", "CAP_FOWNER"]
    result = rootless(bundle)
    assert result.stdout.split() == ["0", "5:5"], result
    assert os.stat(bundle.rootfs / "f").st_uid == subordinate("/etc/subuid")[0] + 4


def test_rootless_with_its_own_id_alone(rootless):
    bundle = rootless.bundle("cat", "/proc/self/uid_map", "/proc/self/setgroups", whole_range=False)
    result = rootless(bundle)
    assert result.code == 0, result
    assert result.stdout.split()[0] == "0"
    assert result.stdout.split()[2:] == ["1", "deny"]


def test_rootless_has_the_devices_and_mounts(rootless):
    bundle = rootless.bundle(
        "sh", "-c", "echo x > /dev/null; ls -d /proc/1 /sys/class /dev/pts/ptmx; hostname"
    )
    result = rootless(bundle)
    assert result.stdout.split() == ["/dev/pts/ptmx", "/proc/1", "/sys/class", "box"], result


def test_rootless_with_the_host_s_network(rootless):
    """sysfs cannot be mounted anew there: the host's is bound."""
    bundle = rootless.bundle("sh", "-c", "ls /sys/class/net; touch /sys/new")
    bundle.without_namespace("network")
    result = rootless(bundle)
    assert sorted(result.stdout.split()) == sorted(os.listdir("/sys/class/net")), result
    assert "Read-only file system" in result.stderr


def test_rootless_ids_that_are_not_its_own_are_refused(rootless):
    bundle = rootless.bundle("true")
    bundle.linux["uidMappings"] = [ids(0, 0, 2)]
    result = rootless(bundle)
    assert result.code == 1
    assert "newuidmap refused the mapping" in result.stderr
    assert "/etc/subuid" in result.stderr


def test_rootless_volume_must_be_the_user_s_to_read(rootless, public_path):
    (public_path / "closed").mkdir(mode=0o700)
    (public_path / "closed/secret").write_text("")
    bundle = rootless.bundle("true")
    bundle.bind(public_path / "closed/secret", "/volume")
    result = rootless(bundle)
    assert result.code == 1
    assert "permission denied" in result.stderr


@pytest.fixture
def locked(public_path):
    """A mount of the host's with options that a user namespace cannot undo; see its place."""
    place = public_path / "locked"
    place.mkdir()
    options = "nosuid,nodev,noexec,noatime"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", place], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro," + options, place], check=True)
    yield place
    subprocess.run(["umount", place], check=True)


@pytest.mark.parametrize("options", ["bind", "rbind ro nosuid", "bind defaults", "rro"])
def test_rootless_volume_keeps_the_options_of_the_host(rootless, locked, options):
    bundle = rootless.bundle("cat", "/proc/self/mountinfo")
    bundle.bind(locked, "/volume", *options.split())
    bundle.mount("/volume", "none", "", "remount", "bind", "ro", "nosuid")
    result = rootless(bundle)
    assert result.code == 0, result
    volume = mounts_by_point(result.stdout)["/volume"]
    assert {"ro", "nosuid", "nodev", "noexec", "noatime"} <= volume.options


@pytest.mark.parametrize("how", ["bind", "remount"])
@pytest.mark.parametrize("option", ["rw", "exec", "suid", "dev", "relatime", "nodiratime", "rrw"])
def test_rootless_options_of_the_host_cannot_be_undone(rootless, locked, option, how):
    bundle = rootless.bundle("true")
    if how == "bind":
        bundle.bind(locked, "/volume", option)
    else:
        bundle.bind(locked, "/volume")
        bundle.mount("/volume", "none", "", "remount", "bind", option)
    result = rootless(bundle)
    assert result.code == 1
    words = "operation not permitted: in a user namespace no option of the host's mount"
    assert words in result.stderr.lower()


@pytest.mark.skipif(not Path("/sys/fs/cgroup/memory").exists(), reason="needs cgroup v1")
@pytest.mark.parametrize("namespace", [True, False])
def test_rootless_cgroups_are_not_the_host_s(rootless, namespace):
    """A v1 hierarchy that root has made no cgroup in for the user shows nothing of the host."""
    bundle = rootless.bundle("cat", "/proc/mounts")
    if namespace:
        bundle.namespace("cgroup")
    bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", "ro", "nosuid", "nodev", "noexec")
    result = rootless(bundle)
    assert result.code == 0, result
    mounts = [line.split() for line in result.stdout.splitlines()]
    cgroups = [options for _, _, kind, options, *_ in mounts if kind == "cgroup"]
    if namespace:
        # What it sees is the caller's own cgroup and those below, to be looked at.
        assert cgroups
        assert all(options.startswith("ro,") for options in cgroups)
    else:
        assert not cgroups


@pytest.mark.parametrize("whole_range", [True, False])
def test_rootless_exec(rootless, pyrunc, user, whole_range):
    who = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": [], "cwd": "/"}
    bundle = rootless.bundle("sleep", "1000", whole_range=whole_range)
    container = rootless(bundle, "create")
    assert container.code == 0, container
    # Before its start, too: init is not to be looked into, but to be joined.
    script = "id -u; id -g; cat /proc/self/setgroups; hostname; exit 7"
    for status in ("created", "running"):
        done = pyrunc("exec", container.id, "sh", "-c", script, **who)
        assert done.code == 7, (status, done)
        setgroups = "allow" if whole_range else "deny"
        assert done.stdout.split() == ["0", "0", setgroups, "box"], (status, done)
        if status == "created":
            assert pyrunc("start", container.id, **who).code == 0
    done = pyrunc("exec", "-t", container.id, "sh", "-c", "tty; stat -c %u $(tty)", **who)
    assert done.stdout.split() == ["/dev/pts/0", "0"], done
    done = pyrunc("exec", "-u", "3:4", "-g", "5", container.id, "id", **who)
    if whole_range:
        assert done.stdout == "uid=3 gid=4 groups=5\n", done
    else:
        assert done.code == 255
        assert "operation not permitted" in done.stderr or "invalid argument" in done.stderr
    assert pyrunc("delete", "--force", container.id, **who).code == 0


def test_rootless_as_spec_writes_it(rootless, pyrunc, user):
    who = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": [], "cwd": "/"}
    bundle = rootless.bundle("true", whole_range=False)
    assert pyrunc("spec", "--rootless", "--bundle", bundle.path, **who).code == 0
    bundle.config = json.loads((bundle.path / "config.json").read_text())
    bundle.process.update(terminal=False, args=["cat", "/proc/self/uid_map"], env=["PATH=/bin"])
    result = rootless(bundle)
    assert result.stdout.split() == ["0", str(user.pw_uid), "1"], result


@pytest.mark.parametrize("option", [(), ("--rootless", "auto"), ("--rootless", "true")])
def test_rootless_without_limits_needs_no_cgroup(rootless, pyrunc, option):
    pyrunc.command += option
    assert rootless(rootless.bundle("true")).code == 0


def test_rootless_limits_that_cannot_be_set_are_refused(rootless):
    """Never is a limit passed over: only its absence makes the cgroup dispensable."""
    bundle = rootless.bundle("true")
    bundle.linux["resources"] = {"pids": {"limit": 10}}
    result = rootless(bundle)
    assert result.code == 1
    assert "pids" in result.stderr
    # The controller is there; what is missing is the right to use it.
    assert "not mounted" not in result.stderr
    assert "delegated" in result.stderr


def test_rootless_update_without_a_cgroup_says_why(rootless, pyrunc, user):
    """What `create` could do without, `update` cannot."""
    container = rootless(rootless.bundle("sleep", "1000"), "create")
    assert container.code == 0, container
    who = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    done = pyrunc("update", "--memory", "50M", container.id, cwd="/", **who)
    assert pyrunc("delete", "--force", container.id, cwd="/", **who).code == 0
    assert done.code == 1
    assert "not mounted" not in done.stderr
    assert "delegated" in done.stderr


def test_rootless_as_root_sets_all_that_root_can(make_bundle, pyrunc):
    pyrunc.command += ["--rootless", "true"]
    bundle = make_bundle(args=["sleep", "100"])
    bundle.linux["resources"]["pids"] = {"limit": 10}
    pid = pyrunc.state(pyrunc.start(bundle))["pid"]
    lines = Path(f"/proc/{pid}/cgroup").read_text().splitlines()
    assert any(line.endswith(pyrunc.ids[-1]) for line in lines), lines
