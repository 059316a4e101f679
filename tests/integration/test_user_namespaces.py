"""User namespaces: made by root, and by an ordinary user who has nothing else."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
from pathlib import Path

import pytest
from public_command import for_everybody
from views import mounts_by_point

#: Tests that run at the same time have each their own.
USER = f"pyrunc-test-{os.getpid()}"


def ids(container_id: int, host_id: int, size: int) -> dict[str, int]:
    return {"containerID": container_id, "hostID": host_id, "size": size}


@pytest.fixture
def mapped(make_bundle, public_path):
    """Make a bundle whose container's root is user 100000 of the host."""

    def make(*args: str, **changes):
        bundle = make_bundle(args or ["true"], at=public_path / "bundle", **changes)
        bundle.give_to(100000)
        bundle.user_namespace(host=100000)
        return bundle

    return make


# Made by root


def test_ids_are_mapped(mapped, pyrunc):
    bundle = mapped("sh", "-c", "id -u; id -g; cat /proc/self/uid_map /proc/self/gid_map")
    lines = pyrunc.run(bundle).stdout.splitlines()
    assert lines[:2] == ["0", "0"]
    assert [line.split() for line in lines[2:]] == [["0", "100000", "65536"]] * 2


def test_the_host_sees_the_mapped_ids(mapped, pyrunc):
    bundle = mapped("sleep", "100", process={"user": {"uid": 7, "gid": 8}})
    pid = pyrunc.state(pyrunc.start(bundle))["pid"]
    status = os.stat(f"/proc/{pid}")
    assert (status.st_uid, status.st_gid) == (100007, 100008)


def test_files_belong_to_whom_they_should(mapped, pyrunc):
    bundle = mapped("sh", "-c", "touch /new && stat -c %u:%g /new /bin /dev /dev/pts /tmp")
    assert pyrunc.run(bundle).stdout.split() == ["0:0"] * 5
    assert os.stat(bundle.rootfs / "new").st_uid == 100000


def test_files_of_others_are_nobody_s(mapped, pyrunc):
    bundle = mapped("stat", "-c", "%u:%g", "/theirs")
    (bundle.rootfs / "theirs").write_text("")
    assert pyrunc.run(bundle).stdout == "65534:65534\n"


def test_the_container_has_no_power_over_the_host(mapped, pyrunc):
    bundle = mapped("sh", "-c", "chown 0:0 /theirs; mknod /node c 1 1; echo $?")
    (bundle.rootfs / "theirs").write_text("")
    for names in bundle.process["capabilities"].values():
        names += ["CAP_CHOWN", "CAP_MKNOD"]
    result = pyrunc.run(bundle)
    assert result.stdout == "1\n"
    assert result.stderr.count("Operation not permitted") == 2


def test_capabilities_are_those_of_the_user_namespace(mapped, pyrunc):
    bundle = mapped("grep", "CapEff", "/proc/self/status")
    for names in bundle.process["capabilities"].values():
        names.append("CAP_SYS_ADMIN")
    assert int(pyrunc.run(bundle).stdout.split()[1], 16) & 1 << 21


def test_a_source_that_only_the_host_s_root_can_reach_is_bound(mapped, pyrunc, tmp_path):
    """The runtime opens it, before it gives up what it is."""
    secret = tmp_path / "closed"
    secret.mkdir(mode=0o700)
    (secret / "file").write_text("for the container\n")
    bundle = mapped("cat", "/volume")
    bundle.bind(secret / "file", "/volume", "ro")
    assert pyrunc.run(bundle).stdout == "for the container\n"


def test_a_root_that_cannot_be_reached_is_explained(make_bundle, pyrunc, tmp_path):
    bundle = make_bundle()
    bundle.give_to(100000)
    bundle.user_namespace(host=100000)
    tmp_path.chmod(0o700)
    result = pyrunc.run(bundle)
    assert result.code == 1
    assert "permission denied; root of the container's user namespace" in result.stderr


def test_several_ranges(mapped, pyrunc):
    bundle = mapped("cat", "/proc/self/uid_map")
    bundle.linux["uidMappings"] = [ids(0, 100000, 1), ids(1, 200000, 5), ids(1000, 1000, 1)]
    lines = [line.split() for line in pyrunc.run(bundle).stdout.splitlines()]
    assert lines == [["0", "100000", "1"], ["1", "200000", "5"], ["1000", "1000", "1"]]


def test_340_ranges_of_few_digits(mapped, pyrunc):
    bundle = mapped("sh", "-c", "wc -l < /proc/self/uid_map")
    ranges = [ids(0, 100000, 1), *(ids(n, 10000 + 2 * n, 1) for n in range(1, 340))]
    bundle.linux["uidMappings"] = ranges
    result = pyrunc.run(bundle)
    assert result.stdout == "340\n", result


def test_ranges_that_fit_once_joined(mapped, pyrunc):
    """340 long lines are more than the kernel takes in its one write; joined they are one."""
    bundle = mapped("cat", "/proc/self/uid_map")
    bundle.linux["uidMappings"] = [ids(1000 * n, 100000 + 1000 * n, 1000) for n in range(340)]
    assert pyrunc.run(bundle).stdout.split() == ["0", "100000", "340000"]


def test_more_ranges_than_the_kernel_has_lines_for_fit_once_joined(mapped, pyrunc):
    """As engines write them that map single ids: the kernel takes 340 lines."""
    bundle = mapped("cat", "/proc/self/uid_map")
    uids = [ids(n, 100000 + n, 1) for n in range(1000)]
    bundle.linux["uidMappings"] = [*uids[500:], *uids[:500], ids(5000, 300000, 7)]
    lines = [line.split() for line in pyrunc.run(bundle).stdout.splitlines()]
    assert lines == [["0", "100000", "1000"], ["5000", "300000", "7"]]


def test_more_ranges_than_the_kernel_has_lines_for_are_refused(mapped, pyrunc):
    bundle = mapped()
    bundle.linux["gidMappings"] = [ids(2 * n, 100000 + 2 * n, 1) for n in range(341)]
    result = pyrunc.run(bundle)
    assert result.code == 1
    words = "linux.gidMappings: expected at most 340 ranges that do not continue each other"
    assert words in result.stderr


def test_ranges_that_do_not_fit_are_explained(mapped, pyrunc):
    bundle = mapped()
    ranges = [ids(2000 * n, 4000000000 + 3000 * n, 1000) for n in range(340)]
    bundle.linux["uidMappings"] = ranges
    result = pyrunc.run(bundle)
    assert result.code == 1
    assert "uid_map of the container has" in result.stderr
    assert "the kernel takes 4095" in result.stderr


def test_ranges_that_overlap_are_refused(mapped, pyrunc):
    bundle = mapped()
    bundle.linux["gidMappings"] = [ids(0, 100000, 10), ids(5, 200000, 10)]
    result = pyrunc.run(bundle)
    assert result.code == 1
    words = "linux.gidMappings[1].containerID: expected ids that no other range has, found 5"
    assert words in result.stderr


@pytest.mark.parametrize(
    ("user", "words"),
    [
        ({"uid": 70000}, "process.user.uid: linux.uidMappings does not map id 70000"),
        ({"gid": 70000}, "process.user.gid: linux.gidMappings does not map id 70000"),
        (
            {"additionalGids": [5, 70000]},
            "additionalGids[1]: linux.gidMappings does not map id 70000",
        ),
    ],
)
def test_ids_that_are_not_mapped_are_named(mapped, pyrunc, user, words):
    bundle = mapped("true")
    for name in ("uidMappings", "gidMappings"):
        bundle.linux[name] = [ids(0, 100000, 65536)]
    bundle.process["user"] = {"uid": 0, "gid": 0, **user}
    result = pyrunc.run(bundle)
    assert result.code == 1
    assert words in result.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--user", "70000"], "set uid 70000: invalid argument; the user namespace does not map"),
        (["--user", "0:70000"], "set gid 70000: invalid argument; the user namespace does not map"),
        (
            ["--additional-gids", "70000"],
            "set supplementary groups 70000: invalid argument; the user namespace does not map all",
        ),
    ],
)
def test_exec_with_ids_that_are_not_mapped(mapped, pyrunc, options, words):
    bundle = mapped("sleep", "1000")
    for name in ("uidMappings", "gidMappings"):
        bundle.linux[name] = [ids(0, 100000, 65536)]
    container = pyrunc.start(bundle)
    done = pyrunc("exec", *options, container.id, "true")
    assert done.code == 255
    assert words in done.stderr


@pytest.mark.parametrize("mappings", [[], [ids(5, 100000, 1)]], ids=["nobody", "not root"])
@pytest.mark.parametrize("name", ["uidMappings", "gidMappings"])
def test_root_must_be_mapped(mapped, pyrunc, name, mappings):
    bundle = mapped("true")
    bundle.linux[name] = mappings
    result = pyrunc.run(bundle)
    assert result.code == 1
    words = f"a new user namespace needs an id of the host for id 0 in linux.{name}"
    assert words in result.stderr


def test_idmapped_volume_with_the_container_s_mapping(mapped, pyrunc, public_path):
    """Files of the host's root are the container's root's, without a chown."""
    volume = public_path / "volume"
    volume.mkdir()
    (volume / "file").write_text("")
    bundle = mapped("sh", "-c", "stat -c %u /plain/file /mapped/file; touch /mapped/new")
    bundle.bind(volume, "/plain")
    bundle.bind(volume, "/mapped", "idmap")
    result = pyrunc.run(bundle)
    assert result.stdout.split() == ["65534", "0"], result
    assert os.stat(volume / "new").st_uid == 0


def test_idmapped_volume_with_the_mapping_of_a_joined_namespace(mapped, pyrunc, public_path):
    volume = public_path / "volume"
    volume.mkdir()
    bundle = mapped("sleep", "100")
    first = pyrunc.state(pyrunc.start(bundle))["pid"]
    bundle.namespace("user", f"/proc/{first}/ns/user")
    del bundle.linux["uidMappings"], bundle.linux["gidMappings"]
    bundle.bind(volume, "/mapped", "idmap")
    bundle.process["args"] = ["stat", "-c", "%u", "/mapped"]
    result = pyrunc.run(bundle)
    assert result.stdout == "0\n", result


def test_tmpcopyup(mapped, pyrunc):
    bundle = mapped("sh", "-c", "cat /data/file && stat -c %u /data/file && touch /data/new")
    (bundle.rootfs / "data").mkdir()
    (bundle.rootfs / "data/file").write_text("here\n")
    bundle.give_to(100000)
    bundle.mount("/data", "tmpfs", "tmpfs", "tmpcopyup")
    result = pyrunc.run(bundle)
    assert (result.code, result.stdout) == (0, "here\n0\n"), result


def test_exec_enters_the_user_namespace(mapped, pyrunc):
    container = pyrunc.start(mapped("sleep", "100"))
    result = pyrunc.exec(container, "sh", "-c", "id -u; cat /proc/self/uid_map")
    assert result.stdout.split() == ["0", "0", "100000", "65536"]


# Made by an ordinary user


@pytest.fixture(scope="module")
def user():
    """An ordinary user with subordinate ids, as useradd(8) gives them; gone in the end."""
    if not shutil.which("useradd") or not shutil.which("newuidmap"):
        pytest.skip("an ordinary user needs useradd (passwd) and newuidmap (uidmap)")
    subprocess.run(["useradd", "--add-subids-for-system", "-r", "-m", USER], check=True)
    yield pwd.getpwnam(USER)
    subprocess.run(["userdel", "-r", USER], check=True, capture_output=True)


def subordinate(file: str) -> tuple[int, int]:
    for line in Path(file).read_text().splitlines():
        name, first, count = line.split(":")
        if name == USER:
            return int(first), int(count)
    raise AssertionError(f"{file} has no line for {USER}")


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
