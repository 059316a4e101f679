"""Mount options as they are seen from inside: flags, propagation, remounts, data."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from mount_fixtures import MAPPING, host_mount, look

from pyrunc.spec.features import MOUNT_OPTIONS

__all__ = ["host_mount", "look"]


@pytest.mark.parametrize(
    ("options", "there", "missing"),
    [
        ("ro", "ro", "rw"),
        ("rw", "rw", "ro"),
        ("ro,rw", "rw", "ro"),
        ("rw,ro", "ro", "rw"),
        ("nosuid", "nosuid", ""),
        ("nosuid,suid", "", "nosuid"),
        ("nodev", "nodev", ""),
        ("nodev,dev", "", "nodev"),
        ("noexec", "noexec", ""),
        ("noexec,exec", "", "noexec"),
        ("noatime", "noatime", "relatime"),
        ("noatime,atime", "relatime", "noatime"),
        ("relatime", "relatime", ""),
        ("noatime,relatime", "relatime", "noatime"),
        ("norelatime", "relatime", "noatime"),
        ("strictatime", "", "noatime relatime"),
        ("strictatime,nostrictatime", "relatime", ""),
        ("nodiratime", "nodiratime", ""),
        ("nodiratime,diratime", "", "nodiratime"),
        ("nosymfollow", "nosymfollow", ""),
        ("nosymfollow,symfollow", "", "nosymfollow"),
        ("defaults", "rw relatime", "nosuid nodev noexec"),
    ],
)
@pytest.mark.parametrize("kind", ["tmpfs", "bind"])
def test_options_of_the_mount(make_bundle, look, tmp_path, kind, options, there, missing):
    bundle = make_bundle()
    if kind == "bind":
        (tmp_path / "volume").mkdir()
        bundle.bind(tmp_path / "volume", "/volume", *options.split(","))
    else:
        bundle.mount("/volume", "tmpfs", "tmpfs", *options.split(","))
    volume = look(bundle)["/volume"]
    assert set(there.split()) <= volume.options
    assert not set(missing.split()) & volume.options


@pytest.mark.parametrize("option", ["sync", "dirsync", "lazytime"])
def test_options_of_the_file_system(make_bundle, look, option):
    bundle = make_bundle()
    bundle.mount("/volume", "tmpfs", "tmpfs", option)
    assert option in look(bundle)["/volume"].superblock


def test_contrary_options_of_the_file_system_undo_each_other(make_bundle, look):
    bundle = make_bundle()
    options = ("sync", "async", "lazytime", "nolazytime", "mand", "nomand", "loud", "silent")
    bundle.mount("/volume", "tmpfs", "tmpfs", *options, "iversion", "acl")
    assert not {"sync", "lazytime"} & look(bundle)["/volume"].superblock


def test_options_of_the_source_stay_unless_named(make_bundle, look, host_mount):
    source = host_mount("source", "-o", "nosuid,nodev,noexec,noatime")
    bundle = make_bundle()
    bundle.bind(source, "/volume", "ro", "exec")
    assert {"ro", "nosuid", "nodev", "noatime"} <= look(bundle)["/volume"].options
    assert "noexec" not in look(bundle)["/volume"].options


@pytest.mark.parametrize(
    ("option", "shown"),
    [
        ("rro", "ro"),
        ("rnosuid", "nosuid"),
        ("rnodev", "nodev"),
        ("rnoexec", "noexec"),
        ("rnoatime", "noatime"),
        ("rnodiratime", "nodiratime"),
        ("rnosymfollow", "nosymfollow"),
    ],
)
def test_recursive_options_reach_the_mounts_below(make_bundle, look, host_mount, option, shown):
    source = host_mount("source")
    host_mount("source/inner")
    bundle = make_bundle()
    bundle.mount("/volume", "none", source, "rbind", option)
    bundle.mount("/plain", "none", source, "rbind")
    seen = look(bundle)
    assert shown in seen["/volume"].options
    assert shown in seen["/volume/inner"].options
    assert shown not in seen["/plain/inner"].options


@pytest.mark.parametrize(
    ("option", "undone"),
    [("rrw", "ro"), ("rsuid", "nosuid"), ("rdev", "nodev"), ("rexec", "noexec"),
     ("rrelatime", "noatime"), ("ratime", "noatime"), ("rdiratime", "nodiratime"),
     ("rnostrictatime", "noatime"), ("rstrictatime", "noatime"), ("rsymfollow", "nosymfollow")],
)  # fmt: skip
def test_recursive_options_are_cleared_below(make_bundle, look, host_mount, option, undone):
    source = host_mount("source")
    host_mount("source/inner", "-o", undone)
    bundle = make_bundle()
    bundle.mount("/volume", "none", source, "rbind", option)
    assert undone not in look(bundle)["/volume/inner"].options


def test_recursive_access_times(make_bundle, look, host_mount):
    """`rstrictatime` leaves no mode to be shown; what is "not relatime" is the kernel's default."""
    source = host_mount("source")
    host_mount("source/inner")
    bundle = make_bundle()
    bundle.mount("/strict", "none", source, "rbind", "rstrictatime")
    bundle.mount("/default", "none", source, "rbind", "rnorelatime")
    bundle.mount("/undone", "none", source, "rbind", "rstrictatime", "rnostrictatime")
    seen = look(bundle)
    for inner in ("", "/inner"):
        assert not {"relatime", "noatime"} & seen[f"/strict{inner}"].options
        assert "relatime" in seen[f"/default{inner}"].options
        assert "relatime" in seen[f"/undone{inner}"].options


@pytest.mark.parametrize("option", [o for o in MOUNT_OPTIONS if o not in ("remount", "idmap")])
def test_every_option_of_features_is_taken(make_bundle, pyrunc, tmp_path, option):
    """None of them may reach the file system, which would refuse it."""
    bundle = make_bundle()
    (tmp_path / "volume").mkdir()
    if option == "ridmap":
        bundle.mount("/volume", "none", tmp_path / "volume", "rbind", option)
        bundle.config["mounts"][-1] |= {"uidMappings": MAPPING, "gidMappings": MAPPING}
    elif option in ("bind", "rbind"):
        bundle.mount("/volume", "none", tmp_path / "volume", option)
    else:
        bundle.mount("/volume", "tmpfs", "tmpfs", option)
        if option != "tmpcopyup":
            bundle.mount("/bound", "none", tmp_path / "volume", "rbind", option)
    assert pyrunc.run(bundle).code == 0


@pytest.mark.skipif(not shutil.which("strace"), reason="needs strace")
def test_iversion_reaches_the_kernel(make_bundle, pyrunc, tmp_path):
    """Only mount(2) knows it, and nothing shows it afterwards."""
    bundle = make_bundle(args=["cat", "/volume/file"])
    (bundle.rootfs / "volume").mkdir()
    (bundle.rootfs / "volume/file").write_text("copied\n")
    options = ("noiversion", "iversion", "tmpcopyup", "ro", "nosuid", "size=1m")
    bundle.mount("/volume", "tmpfs", "tmpfs", *options)
    bundle.mount("/volume/inner", "tmpfs", "tmpfs")
    log = tmp_path / "log"
    pyrunc.command[:0] = ["strace", "-f", "-qq", "-o", str(log), "-e", "trace=mount"]
    done = pyrunc.run(bundle)
    del pyrunc.command[:7]
    assert done.stdout == "copied\n", done
    calls = [line for line in log.read_text().splitlines() if "I_VERSION" in line]
    assert len(calls) == 1
    assert "MS_NOSUID" in calls[0]
    assert "size=1m" in calls[0]


def test_plain_options_stop_at_the_mount_itself(make_bundle, look, host_mount):
    source = host_mount("source")
    host_mount("source/inner")
    bundle = make_bundle()
    bundle.mount("/volume", "none", source, "rbind", "ro")
    seen = look(bundle)
    assert "ro" in seen["/volume"].options
    assert "rw" in seen["/volume/inner"].options


def test_bind_leaves_the_mounts_below_and_rbind_takes_them(make_bundle, look, host_mount):
    source = host_mount("source")
    host_mount("source/inner")
    bundle = make_bundle()
    bundle.mount("/one", "none", source, "bind")
    bundle.mount("/all", "none", source, "rbind")
    seen = look(bundle)
    assert "/one/inner" not in seen
    assert "/all/inner" in seen


@pytest.mark.parametrize(
    ("option", "tags"),
    [
        ("private", set()),
        ("rprivate", set()),
        ("shared", {"shared", "master"}),
        ("rshared", {"shared", "master"}),
        ("slave", {"master"}),
        ("rslave", {"master"}),
        ("unbindable", {"unbindable"}),
        ("runbindable", {"unbindable"}),
    ],
)
def test_propagation_of_a_bind_mount(make_bundle, look, host_mount, option, tags):
    source = host_mount("source")
    subprocess.run(["mount", "--make-shared", source], check=True)
    host_mount("source/inner")
    bundle = make_bundle()
    bundle.mount("/volume", "none", source, "rbind", option)
    seen = look(bundle)
    assert seen["/volume"].tags == tags
    # Without an option of its own a mount is the slave that the whole namespace is.
    inner = tags if option.startswith("r") else {"master"}
    assert seen["/volume/inner"].tags == inner


@pytest.mark.parametrize("option", ["shared", "slave", "private", "unbindable"])
def test_propagation_of_a_new_file_system(make_bundle, look, option):
    bundle = make_bundle()
    bundle.mount("/volume", "tmpfs", "tmpfs", option)
    tags = {"shared": {"shared"}, "unbindable": {"unbindable"}}.get(option, set())
    assert look(bundle)["/volume"].tags == tags


def test_remount_of_a_bind_mount(make_bundle, look, tmp_path):
    (tmp_path / "volume").mkdir()
    bundle = make_bundle()
    bundle.bind(tmp_path / "volume", "/volume")
    bundle.mount("/volume", "none", "", "remount", "bind", "ro", "nosuid")
    assert {"ro", "nosuid"} <= look(bundle)["/volume"].options


def test_remount_of_a_file_system(make_bundle, look):
    bundle = make_bundle()
    bundle.mount("/volume", "tmpfs", "tmpfs", "size=64k")
    bundle.mount("/volume", "tmpfs", "tmpfs", "remount", "size=128k", "noexec", "ro")
    volume = look(bundle)["/volume"]
    assert "size=128k" in volume.superblock
    assert {"noexec", "ro"} <= volume.options


def test_contrary_options_of_a_remount_undo_each_other(make_bundle, look):
    bundle = make_bundle()
    bundle.mount("/volume", "tmpfs", "tmpfs", "sync")
    bundle.mount("/volume", "tmpfs", "tmpfs", "remount", "sync", "async", "lazytime")
    volume = look(bundle)["/volume"]
    assert "sync" not in volume.superblock
    assert "lazytime" in volume.superblock


def test_options_that_are_unknown_go_to_the_file_system(make_bundle, look):
    bundle = make_bundle()
    bundle.mount("/volume", "tmpfs", "tmpfs", "size=64k,nr_inodes=10", "uid=7")
    assert {"size=64k", "nr_inodes=10", "uid=7"} <= look(bundle)["/volume"].superblock


def test_what_the_kernel_says_about_an_option_is_in_the_message(make_bundle, pyrunc):
    bundle = make_bundle()
    bundle.mount("/volume", "tmpfs", "tmpfs", "no-such-option")
    result = pyrunc.run(bundle)
    assert result.code == 1
    assert "cannot mount tmpfs on /volume: invalid argument" in result.stderr
    assert "no-such-option" in result.stderr


def test_long_options_keep_the_flags(make_bundle, look, host_mount):
    place = host_mount("layers")
    lower = []
    for number in range(20):
        (place / f"layer-{number:02}").mkdir()
        lower.append(str(place / f"layer-{number:02}"))
    bundle = make_bundle()
    flags = ("ro", "nosuid", "nodev", "noexec", "noatime", "nosymfollow")
    bundle.mount("/merged", "overlay", "overlay", f"lowerdir={':'.join(lower)}", *flags)
    assert set(flags) <= look(bundle)["/merged"].options
