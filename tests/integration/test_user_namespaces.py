"""User namespaces: made by root, and by an ordinary user who has nothing else."""

from __future__ import annotations

import os

import pytest
from user_namespace_fixtures import ids, user

__all__ = ["user"]


@pytest.fixture
def mapped(make_bundle, public_path):
    """Make a bundle whose container's root is user 100000 of the host."""

    def make(*args: str, **changes):
        bundle = make_bundle(args or ["true"], at=public_path / "bundle", **changes)
        bundle.give_to(100000)
        bundle.user_namespace(host=100000)
        return bundle

    return make


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
