"""The root file system: read-only, propagation, pivot (config.md "Root", config-linux.md)."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from views import mounts_by_point, parse_mountinfo


@pytest.fixture
def shared_place(tmp_path):
    """Mount a shared tmpfs on the host, unmounted with whatever is below it in the end."""
    place = tmp_path / "shared"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", place], check=True)
    subprocess.run(["mount", "--make-shared", place], check=True)
    yield place
    subprocess.run(["umount", "-R", "-l", place], check=True)


def host_mounts() -> str:
    return Path("/proc/self/mountinfo").read_text()


def mount_tmpfs(place) -> None:
    place.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", place], check=True)


def test_root_is_writable(make_bundle, pyrunc):
    bundle = make_bundle(args=["touch", "/new"])
    assert pyrunc.run(bundle).code == 0
    assert (bundle.rootfs / "new").exists()


def test_read_only_root_has_everything_in_it(make_bundle, pyrunc, tmp_path):
    """Mount points, devices and links are still made in it."""
    bundle = make_bundle(root={"readonly": True})
    bundle.mount("/new/volume", "tmpfs", "tmpfs")
    bundle.bind(tmp_path, "/new/bound")
    bundle.shell(
        "! touch /new/file && touch /new/volume/file && touch /new/bound/file && "
        "test -c /dev/null && test -L /dev/fd && touch /dev/new"
    )
    result = pyrunc.run(bundle)
    assert result.code == 0, result
    assert "Read-only file system" in result.stderr


def test_read_only_does_not_reach_what_is_mounted_in_the_root(make_bundle, pyrunc):
    bundle = make_bundle(args=["cat", "/proc/self/mountinfo"], root={"readonly": True})
    bundle.mount("/volume", "tmpfs", "tmpfs")
    seen = mounts_by_point(pyrunc.run(bundle).stdout)
    assert "ro" in seen["/"].options
    assert "rw" in seen["/volume"].options


def test_mounts_that_the_root_brings_along_are_seen(make_bundle, pyrunc, tmp_path):
    bundle = make_bundle(args=["cat", "/inner/file"])
    inner = bundle.rootfs / "inner"
    mount_tmpfs(inner)
    try:
        (inner / "file").write_text("here\n")
        assert pyrunc.run(bundle).stdout == "here\n"
    finally:
        subprocess.run(["umount", inner], check=True)


def test_root_that_is_a_mount_itself(make_bundle, pyrunc, tmp_path):
    bundle = make_bundle(args=["ls", "-d", "/bin"])
    root = tmp_path / "mounted"
    root.mkdir()
    subprocess.run(["mount", "--bind", bundle.rootfs, root], check=True)
    try:
        bundle.config["root"]["path"] = str(root)
        assert pyrunc.run(bundle).stdout == "/bin\n"
    finally:
        subprocess.run(["umount", root], check=True)


def test_root_behind_a_link(make_bundle, pyrunc):
    bundle = make_bundle(args=["ls", "-d", "/bin"])
    (bundle.path / "link").symlink_to("rootfs")
    bundle.config["root"]["path"] = "link"
    assert pyrunc.run(bundle).stdout == "/bin\n"


@pytest.mark.parametrize("wrong", ["/no/such/root", "config.json"])
def test_root_that_is_no_directory_is_an_error(make_bundle, pyrunc, wrong):
    bundle = make_bundle()
    bundle.config["root"]["path"] = wrong
    result = pyrunc.run(bundle)
    assert result.code == 1
    assert wrong in result.stderr


def test_nothing_of_the_host_is_seen(make_bundle, pyrunc, tmp_path):
    bundle = make_bundle(args=["cat", "/proc/self/mountinfo"])
    points = [line.point for line in parse_mountinfo(pyrunc.run(bundle).stdout)]
    assert points[0] == "/"
    assert not any("old" in point or str(tmp_path) in point for point in points)
    assert len(points) == len(set(points))


# rootfsPropagation


@pytest.mark.parametrize(
    ("value", "tags"),
    [
        ("private", set()),
        ("rprivate", set()),
        ("slave", {"master"}),
        ("rslave", {"master"}),
        ("shared", {"shared"}),
        ("rshared", {"shared"}),
        ("unbindable", {"unbindable"}),
        ("runbindable", {"unbindable"}),
        (None, {"master"}),
    ],
)
@pytest.mark.parametrize("pivot", [True, False], ids=["pivot", "no-pivot"])
def test_propagation_of_the_root(make_bundle, pyrunc, shared_place, value, tags, pivot):
    bundle = make_bundle(at=shared_place / "bundle", args=["cat", "/proc/self/mountinfo"])
    if value:
        bundle.linux["rootfsPropagation"] = value
    result = pyrunc.run(bundle, *([] if pivot else ["--no-pivot"]))
    assert result.code == 0, result
    root = mounts_by_point(result.stdout)["/"]
    assert root.tags == tags
    # A shared root is a group of its own, not the host's.
    host = mounts_by_point(host_mounts())[str(shared_place)]
    assert not root.propagation & host.propagation


@pytest.mark.parametrize("value", ["private", "slave", "shared", "unbindable", None])
@pytest.mark.parametrize("pivot", [True, False], ids=["pivot", "no-pivot"])
def test_no_mount_of_the_container_shows_on_the_host(
    make_bundle, pyrunc, shared_place, value, pivot
):
    bundle = make_bundle(at=shared_place / "bundle", args=["sleep", "100"])
    if value:
        bundle.linux["rootfsPropagation"] = value
    before = host_mounts()
    container = pyrunc.start(bundle, *([] if pivot else ["--no-pivot"]))
    assert host_mounts() == before
    pyrunc("delete", "--force", container.id)
    assert host_mounts() == before


@pytest.mark.parametrize(
    ("propagation", "option", "arrives"),
    [
        ("private", None, False),
        ("rslave", None, True),
        ("rslave", "rprivate", False),
        ("private", "rslave", False),
        ("rshared", "rshared", True),
        (None, "rslave", True),
        (None, None, True),
    ],
)
def test_a_later_mount_of_the_host(make_bundle, pyrunc, shared_place, propagation, option, arrives):
    (shared_place / "later").mkdir()
    bundle = make_bundle(args=["sleep", "100"])
    if propagation:
        bundle.linux["rootfsPropagation"] = propagation
    bundle.mount("/volume", "none", shared_place, "rbind", *([option] if option else []))
    container = pyrunc.start(bundle)
    mount_tmpfs(shared_place / "later")
    (shared_place / "later/file").write_text("")
    assert (pyrunc.exec(container, "test", "-e", "/volume/later/file").code == 0) == arrives


@pytest.mark.parametrize(
    ("propagation", "option", "arrives"),
    [("rshared", "rshared", True), ("rshared", "rslave", False), (None, "rshared", False),
     (None, None, False), ("private", "shared", False)],
)  # fmt: skip
def test_a_mount_of_the_container_in_a_volume(
    make_bundle, pyrunc, shared_place, propagation, option, arrives
):
    (shared_place / "later").mkdir()
    bundle = make_bundle(args=["mount", "-t", "tmpfs", "container", "/volume/later"])
    for names in bundle.process["capabilities"].values():
        names.append("CAP_SYS_ADMIN")
    if propagation:
        bundle.linux["rootfsPropagation"] = propagation
    bundle.mount("/volume", "none", shared_place, "rbind", *([option] if option else []))
    result = pyrunc.run(bundle)
    assert result.code == 0, result
    assert (shared_place / "later").is_mount() == arrives


@pytest.mark.parametrize("option", [None, "rprivate", "rslave"])
def test_a_mount_in_a_volume_of_a_user_namespace_stays_inside(
    make_bundle, pyrunc, shared_place, option
):
    """There the runtime opens the source, in the host's mount namespace."""
    (shared_place / "later").mkdir()
    bundle = make_bundle(args=["mount", "-t", "tmpfs", "container", "/volume/later"])
    for names in bundle.process["capabilities"].values():
        names.append("CAP_SYS_ADMIN")
    bundle.user_namespace()
    bundle.mount("/volume", "none", shared_place, "rbind", *([option] if option else []))
    result = pyrunc.run(bundle)
    assert result.code == 0, result
    assert not (shared_place / "later").is_mount()


def test_an_idmapped_volume_is_no_way_to_the_host_either(make_bundle, pyrunc, shared_place):
    mapping = [{"containerID": 0, "hostID": 4000, "size": 10}]
    bundle = make_bundle(args=["cat", "/proc/self/mountinfo"])
    bundle.bind(shared_place, "/volume", "idmap")
    bundle.config["mounts"][-1] |= {"uidMappings": mapping, "gidMappings": mapping}
    seen = mounts_by_point(pyrunc.run(bundle).stdout)
    assert seen["/volume"].tags == {"master"}


# Without pivot_root


def test_no_pivot(make_bundle, pyrunc):
    bundle = make_bundle(args=["sh", "-c", "ls -d /bin; pwd; ls /proc/1/root/bin/busybox"])
    result = pyrunc.run(bundle, "--no-pivot")
    assert result.stdout.split() == ["/bin", "/", "/proc/1/root/bin/busybox"], result


@pytest.mark.parametrize("how", [(), ("--no-pivot",)], ids=["pivot", "no-pivot"])
def test_no_whole_proc_is_to_be_had_inside(make_bundle, pyrunc, how):
    """Were the host's still in the mount namespace, a user namespace made inside could mount
    one without the masks."""
    bundle = make_bundle(process={"user": {"uid": 1000, "gid": 1000}})
    bundle.shell("cd /tmp && mkdir p && unshare -Umrpf sh -c 'mount -t proc proc p; ls p'")
    bundle.linux["maskedPaths"] = ["/proc/sys"]
    result = pyrunc.run(bundle, *how)
    assert (result.code, result.stdout) == (0, ""), result
    assert "mount: permission denied" in result.stderr


# Without a mount namespace


def test_container_without_a_mount_namespace(make_bundle, pyrunc):
    bundle = make_bundle(mounts=[], linux={"maskedPaths": [], "readonlyPaths": []})
    bundle.without_namespace("mount")
    bundle.shell("ls -d /bin/sh; stat -c %t:%T /dev/null")
    result = pyrunc.run(bundle)
    assert result.stdout.split() == ["/bin/sh", "1:3"], result
    assert os.stat(bundle.rootfs / "dev/null").st_rdev == os.makedev(1, 3)


def test_mounts_without_a_mount_namespace_are_refused(make_bundle, pyrunc):
    bundle = make_bundle(linux={"maskedPaths": [], "readonlyPaths": []})
    bundle.without_namespace("mount")
    result = pyrunc.run(bundle)
    assert result.code == 1
    assert "mounts need a mount namespace" in result.stderr


def test_without_a_mount_namespace_no_device_is_bound(make_bundle, pyrunc):
    bundle = make_bundle(mounts=[], linux={"maskedPaths": [], "readonlyPaths": []})
    bundle.without_namespace("mount")
    (bundle.rootfs / "dev/null").write_text("")
    result = pyrunc.run(bundle)
    assert result.code == 1
    assert "a file that is not device c 1:3 is there already" in result.stderr
