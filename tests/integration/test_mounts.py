"""``mounts`` of config.json, seen from inside (config.md, "Mounts")."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest
from mount_fixtures import MAPPING, host_mount, look
from views import mounts_by_point

__all__ = ["host_mount", "look"]


def test_bind_of_a_file_makes_its_place(make_bundle, pyrunc, tmp_path):
    (tmp_path / "file").write_text("from the host\n")
    bundle = make_bundle(args=["cat", "/some/new/place"])
    bundle.bind(tmp_path / "file", "/some/new/place")
    assert pyrunc.run(bundle).stdout == "from the host\n"


def test_bind_of_a_device(make_bundle, pyrunc):
    bundle = make_bundle(args=["stat", "-c", "%F %t:%T", "/volume/null"])
    bundle.bind("/dev/null", "/volume/null")
    assert pyrunc.run(bundle).stdout == "character special file 1:3\n"


def test_bind_of_a_socket(make_bundle, pyrunc, tmp_path):
    # The path of a socket may have 107 bytes: bind it from where it lies.
    server = socket.socket(socket.AF_UNIX)
    here = Path.cwd()
    os.chdir(tmp_path)
    server.bind("s")
    os.chdir(here)
    bundle = make_bundle(args=["stat", "-c", "%F", "/run/s"])
    bundle.bind(tmp_path / "s", "/run/s")
    assert pyrunc.run(bundle).stdout == "socket\n"
    server.close()


def test_bind_of_a_fifo(make_bundle, pyrunc, tmp_path):
    os.mkfifo(tmp_path / "fifo")
    bundle = make_bundle(args=["stat", "-c", "%F", "/fifo"])
    bundle.bind(tmp_path / "fifo", "/fifo")
    assert pyrunc.run(bundle).stdout == "fifo\n"


def test_relative_source_lies_in_the_bundle(make_bundle, pyrunc):
    bundle = make_bundle(args=["cat", "/file"])
    (bundle.path / "file").write_text("of the bundle\n")
    bundle.bind("file", "/file")
    assert pyrunc.run(bundle, cwd="/").stdout == "of the bundle\n"


def test_relative_destination_counts_from_the_root(make_bundle, look, tmp_path):
    bundle = make_bundle()
    bundle.bind(tmp_path, "some/where")
    assert "/some/where" in look(bundle)


def test_source_that_is_missing_is_named(make_bundle, pyrunc):
    bundle = make_bundle()
    bundle.bind("/no/such/source", "/volume")
    result = pyrunc.run(bundle)
    assert result.code == 1
    assert "cannot bind /no/such/source to /volume: no such file or directory" in result.stderr


def test_target_through_links_inside_the_root(make_bundle, look, tmp_path):
    bundle = make_bundle()
    (bundle.rootfs / "real").mkdir()
    (bundle.rootfs / "absolute").symlink_to("/real")
    (bundle.rootfs / "relative").symlink_to("../../real")
    bundle.bind(tmp_path, "/absolute/one")
    bundle.bind(tmp_path, "/relative/two")
    seen = look(bundle)
    assert {"/real/one", "/real/two"} <= seen.keys()


def test_dangling_link_leads_to_a_new_place_inside_the_root(make_bundle, look, tmp_path):
    outside = tmp_path / "outside"
    (tmp_path / "file").write_text("")
    bundle = make_bundle()
    (bundle.rootfs / "directory").symlink_to(outside / "directory")
    (bundle.rootfs / "file").symlink_to(outside / "file")
    bundle.mount("/directory", "tmpfs", "tmpfs")
    bundle.bind(tmp_path / "file", "/file")
    seen = look(bundle)
    assert f"{outside}/directory" in seen
    assert f"{outside}/file" in seen
    assert not outside.exists()


def test_links_that_lead_in_a_circle_are_an_error(make_bundle, pyrunc):
    bundle = make_bundle()
    (bundle.rootfs / "a").symlink_to("b")
    (bundle.rootfs / "b").symlink_to("a")
    bundle.mount("/a/target", "tmpfs", "tmpfs")
    result = pyrunc.run(bundle)
    assert result.code == 1
    assert "cannot mount tmpfs on /a/target: too many levels of symbolic links" in result.stderr


def test_directory_on_a_file_is_an_error(make_bundle, pyrunc, tmp_path):
    bundle = make_bundle()
    (bundle.rootfs / "file").write_text("")
    bundle.bind(tmp_path, "/file")
    result = pyrunc.run(bundle)
    assert result.code == 1
    assert f"cannot bind {tmp_path} to /file: not a directory" in result.stderr


@pytest.mark.parametrize("rootless", [False, True])
def test_spec_asks_for_the_file_systems_of_every_container(make_bundle, pyrunc, rootless):
    bundle = make_bundle()
    assert pyrunc("spec", *(["--rootless"] if rootless else []), "-b", bundle.path).code == 0
    bundle.config = json.loads((bundle.path / "config.json").read_text())
    bundle.process.update(terminal=False, args=["cat", "/proc/self/mountinfo"])
    mounts = mounts_by_point(pyrunc.run(bundle).stdout)
    kinds = {point: mounts[point].kind for point in ("/proc", "/sys", "/dev/pts", "/dev/shm")}
    assert kinds == {"/proc": "proc", "/sys": "sysfs", "/dev/pts": "devpts", "/dev/shm": "tmpfs"}


def test_later_mounts_lie_over_earlier_ones(make_bundle, look):
    bundle = make_bundle()
    bundle.mount("/volume", "tmpfs", "first")
    bundle.mount("/volume", "tmpfs", "second")
    bundle.mount("/volume/inner", "tmpfs", "third", "ro")
    seen = look(bundle)
    assert seen["/volume"].source == "second"
    assert seen["/volume/inner"].parent == seen["/volume"].id


def test_unknown_file_system_is_an_error(make_bundle, pyrunc):
    bundle = make_bundle()
    bundle.mount("/volume", "nosuchfs", "x")
    result = pyrunc.run(bundle)
    assert result.code == 1
    assert "cannot mount nosuchfs on /volume: the kernel knows no file system" in result.stderr


def test_read_only_tmpfs_takes_the_mounts_that_lie_in_it(make_bundle, look):
    bundle = make_bundle()
    bundle.mount("/volume", "tmpfs", "tmpfs", "ro")
    bundle.mount("/volume/inner", "tmpfs", "tmpfs")
    seen = look(bundle)
    assert "ro" in seen["/volume"].options
    assert "rw" in seen["/volume/inner"].options


def test_read_only_dev_still_gets_its_devices(make_bundle, pyrunc):
    bundle = make_bundle(args=["sh", "-c", "echo x > /dev/null && ! touch /dev/new"])
    next(m for m in bundle.config["mounts"] if m["destination"] == "/dev")["options"].append("ro")
    assert pyrunc.run(bundle).code == 0


def test_tmpfs_has_the_mode_of_what_it_covers(make_bundle, pyrunc):
    bundle = make_bundle(args=["stat", "-c", "%a", "/tmp", "/own", "/new"])
    (bundle.rootfs / "own").mkdir(mode=0o755)
    bundle.mount("/tmp", "tmpfs", "tmpfs")
    bundle.mount("/own", "tmpfs", "tmpfs", "mode=0700")
    bundle.mount("/new", "tmpfs", "tmpfs")
    assert pyrunc.run(bundle).stdout.split() == ["1777", "700", "1777"]


def test_tmpcopyup_brings_what_it_covers(make_bundle, pyrunc):
    bundle = make_bundle(
        args=["sh", "-c", "cd /data && stat -c '%n %a %u %F' . * deep/* && cat deep/file link"]
    )
    data = bundle.rootfs / "data"
    (data / "deep").mkdir(parents=True)
    data.chmod(0o751)
    (data / "deep/file").write_text("content\n")
    os.chown(data / "deep/file", 1000, 1000)
    (data / "deep/file").chmod(0o4755)
    (data / "link").symlink_to("deep/file")
    os.mkfifo(data / "fifo", 0o600)
    bundle.mount("/data", "tmpfs", "tmpfs", "tmpcopyup")
    result = pyrunc.run(bundle)
    assert result.stdout.splitlines() == [
        ". 751 0 directory",
        "deep 755 0 directory",
        "fifo 600 0 fifo",
        "link 777 0 symbolic link",
        "deep/file 4755 1000 regular file",
        "content",
        "content",
    ]
    assert (data / "deep/file").read_text() == "content\n"


def test_tmpcopyup_follows_no_link_out_of_the_root(make_bundle, pyrunc, tmp_path):
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret/file").write_text("secret\n")
    bundle = make_bundle(args=["sh", "-c", "test -L /data/out && ! cat /data/out/file"])
    (bundle.rootfs / "data").mkdir()
    (bundle.rootfs / "data/out").symlink_to(tmp_path / "secret")
    bundle.mount("/data", "tmpfs", "tmpfs", "tmpcopyup")
    assert pyrunc.run(bundle).code == 0


@pytest.mark.parametrize("layers", [2, 40])
def test_overlay(make_bundle, pyrunc, tmp_path, host_mount, layers):
    """40 layers make a ``lowerdir`` of far more than the 255 bytes that fsconfig(2) takes."""
    place = host_mount("layers")
    lower = []
    for number in range(layers):
        (place / f"layer-{number:02}").mkdir()
        (place / f"layer-{number:02}/{number}").write_text("")
        lower.append(str(place / f"layer-{number:02}"))
    (place / "upper").mkdir()
    (place / "work").mkdir()
    bundle = make_bundle(args=["sh", "-c", "ls /merged | wc -l; echo > /merged/new; ls -d /merged"])
    bundle.mount(
        "/merged", "overlay", "overlay",
        f"lowerdir={':'.join(lower)}", f"upperdir={place}/upper", f"workdir={place}/work",
    )  # fmt: skip
    result = pyrunc.run(bundle)
    assert result.stdout.split() == [str(layers), "/merged"], result
    assert (place / "upper/new").exists()


def test_message_queues(make_bundle, look):
    bundle = make_bundle()
    bundle.mount("/dev/mqueue", "mqueue", "mqueue", "nosuid", "noexec", "nodev")
    queue = look(bundle)["/dev/mqueue"]
    assert queue.kind == "mqueue"
    assert {"nosuid", "noexec", "nodev"} <= queue.options


def test_proc_with_options(make_bundle, look):
    bundle = make_bundle()
    bundle.config["mounts"][0]["options"] = ["hidepid=2", "nosuid", "noexec", "nodev"]
    proc = look(bundle)["/proc"]
    assert {"nosuid", "noexec", "nodev"} <= proc.options
    assert any(option.startswith("hidepid=") for option in proc.superblock)


def test_type_cgroup_without_a_cgroup_namespace_shows_its_own_cgroup(make_bundle, look, pyrunc):
    bundle = make_bundle()
    bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", "ro", "nosuid", "nodev", "noexec")
    seen = look(bundle)
    memory = seen["/sys/fs/cgroup/memory"]
    assert {"ro", "nosuid", "nodev", "noexec"} <= memory.options
    assert memory.root.endswith(pyrunc.ids[-1])
    assert "ro" in seen["/sys/fs/cgroup"].options


def test_type_cgroup_in_a_cgroup_namespace(make_bundle, pyrunc):
    bundle = make_bundle(args=["cat", "/proc/self/mountinfo", "/proc/self/cgroup"])
    bundle.namespace("cgroup")
    bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", "ro")
    lines = pyrunc.run(bundle).stdout
    assert "/sys/fs/cgroup/memory" in lines
    assert "9:name=systemd:/\n" in lines or "memory:/\n" in lines
    for mount in mounts_by_point("\n".join(x for x in lines.splitlines() if " - " in x)).values():
        if mount.kind == "cgroup":
            assert mount.root == "/"
            assert "ro" in mount.options


def test_idmapped_mount_with_its_own_mapping(make_bundle, pyrunc, host_mount):
    source = host_mount("source")
    (source / "file").write_text("")
    bundle = make_bundle(args=["stat", "-c", "%u:%g", "/plain/file", "/mapped/file"])
    bundle.bind(source, "/plain")
    bundle.bind(source, "/mapped", "idmap")
    bundle.config["mounts"][-1] |= {"uidMappings": MAPPING, "gidMappings": MAPPING}
    result = pyrunc.run(bundle)
    assert result.stdout.split() == ["0:0", "4000:4000"], result


@pytest.mark.parametrize(("option", "inner"), [("idmap", "0"), ("ridmap", "4000")])
def test_ridmap_maps_the_mounts_below_too(make_bundle, pyrunc, host_mount, option, inner):
    source = host_mount("source")
    host_mount("source/inner")
    bundle = make_bundle(args=["stat", "-c", "%u", "/mapped", "/mapped/inner"])
    bundle.mount("/mapped", "none", source, "rbind", option)
    bundle.config["mounts"][-1] |= {"uidMappings": MAPPING, "gidMappings": MAPPING}
    result = pyrunc.run(bundle)
    assert result.stdout.split() == ["4000", inner], result


def test_mappings_alone_ask_for_an_idmapped_mount(make_bundle, pyrunc, host_mount):
    source = host_mount("source")
    bundle = make_bundle(args=["stat", "-c", "%u", "/mapped"])
    bundle.bind(source, "/mapped")
    bundle.config["mounts"][-1] |= {"uidMappings": MAPPING, "gidMappings": MAPPING}
    assert pyrunc.run(bundle).stdout == "4000\n"


def test_file_system_that_cannot_be_idmapped_is_named(make_bundle, pyrunc):
    bundle = make_bundle()
    bundle.bind("/proc", "/mapped", "idmap")
    bundle.config["mounts"][-1] |= {"uidMappings": MAPPING, "gidMappings": MAPPING}
    result = pyrunc.run(bundle)
    assert result.code == 1
    assert "cannot bind /proc with an id mapping: invalid argument" in result.stderr
    assert "this kernel has no id mappings for proc file systems" in result.stderr


def test_a_file_system_that_the_kernel_does_not_know_is_named(make_bundle, pyrunc):
    bundle = make_bundle()
    bundle.mount("/mnt", "tmpf", "tmpf")
    result = pyrunc.run(bundle)
    assert result.code == 1
    assert "cannot mount tmpf on /mnt: the kernel knows no file system" in result.stderr
    assert '\\"tmpf\\"' in result.stderr


@pytest.mark.parametrize(
    ("target", "kind", "option"),
    [("/proc", "proc", ""), ("/data", "none", "rbind"), ("/data/deep", "tmpfs", "")],
)
def test_a_mount_point_that_cannot_be_made_is_said_to_be_missing(
    make_bundle, pyrunc, host_mount, target, kind, option
):
    """The root file system lies on one that is read-only, and lacks the mount point."""
    place = host_mount("place")
    bundle = make_bundle()
    shutil.copytree(bundle.rootfs, place / "rootfs", symlinks=True)
    (place / "rootfs/proc").rmdir()
    bundle.config["root"]["path"] = str(place / "rootfs")
    subprocess.run(["mount", "-o", "remount,bind,ro", place], check=True)
    bundle.config["mounts"] = [m for m in bundle.config["mounts"] if m["destination"] != "/proc"]
    bundle.mount(
        target, kind, "proc" if kind == "proc" else bundle.path, *([option] * bool(option))
    )
    result = pyrunc.run(bundle)
    assert result.code == 1
    missing = "/" + target.split("/")[1]
    words = f"{missing} does not exist and cannot be made: read-only file system"
    assert words in result.stderr
    assert "ordinary directory" not in result.stderr


def test_only_bind_mounts_are_idmapped(make_bundle, pyrunc):
    bundle = make_bundle()
    bundle.mount("/mapped", "tmpfs", "tmpfs", "idmap")
    bundle.config["mounts"][-1] |= {"uidMappings": MAPPING, "gidMappings": MAPPING}
    result = pyrunc.run(bundle)
    assert result.code == 1
    assert "only bind mounts can be id-mapped" in result.stderr


@pytest.mark.parametrize("option", ["idmap", "ridmap"])
def test_no_mapping_to_be_had(make_bundle, pyrunc, tmp_path, option):
    bundle = make_bundle()
    bundle.mount("/mapped", "none", tmp_path, "rbind", option)
    result = pyrunc.create(bundle)
    assert result.code == 1
    assert "mounts[5]: expected uidMappings and gidMappings, or a user namespace" in result.stderr


@pytest.mark.parametrize("given", ["uidMappings", "gidMappings"])
def test_one_mapping_needs_the_other(make_bundle, pyrunc, tmp_path, given):
    bundle = make_bundle()
    bundle.mount("/mapped", "none", tmp_path, "rbind", "idmap")
    bundle.config["mounts"][-1][given] = MAPPING
    result = pyrunc.create(bundle)
    assert result.code == 1
    other = {"uidMappings": "gidMappings", "gidMappings": "uidMappings"}[given]
    assert f"mounts[5].{other}: expected mappings, as there are {given}" in result.stderr
