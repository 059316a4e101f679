"""What is mounted on: the root, other kinds of files, places inside read-only mounts."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
from views import mounts_by_point

ROOT_NAMES = ("/", "//", "/.", "/bin/..", "/to-root", "to-root/.")


@pytest.fixture
def rooted(make_bundle):
    bundle = make_bundle(args=["touch", "/written"])
    (bundle.rootfs / "to-root").symlink_to("/")
    return bundle


# The root


@pytest.mark.parametrize("place", ["first", "last"])
@pytest.mark.parametrize("kind", ["tmpfs", "bind", "rbind ro", "overlay", "proc", "cgroup"])
def test_a_mount_on_the_root_is_refused(rooted, pyrunc, tmp_path, kind, place):
    """It would lie under the container's root, where nobody finds it."""
    (tmp_path / "other").mkdir()
    mounts = rooted.config["mounts"]
    for name in ROOT_NAMES:
        if "bind" in kind:
            rooted.mount(name, "none", tmp_path / "other", *kind.split())
        elif kind == "overlay":
            rooted.mount(name, kind, kind, f"lowerdir={rooted.rootfs}:{tmp_path}/other")
        else:
            rooted.mount(name, kind, kind)
        if place == "first":
            mounts.insert(0, mounts.pop())
        done = pyrunc.run(rooted)
        mounts.pop(0 if place == "first" else -1)
        assert done.code == 1, (name, done)
        by_link = kind == "proc" and "to-root" in name
        words = "ordinary directory" if by_link else "is the root of the container"
        assert words in done.stderr, (name, done)
        assert not (rooted.rootfs / "written").exists()


def test_the_root_file_system_bound_inside_itself_is_not_the_root(rooted, pyrunc):
    rooted.bind(rooted.rootfs, "/again")
    rooted.mount("/again", "tmpfs", "tmpfs")
    rooted.shell("test -d /again && ! test -e /again/bin")
    assert pyrunc.run(rooted).code == 0


@pytest.mark.parametrize("member", ["maskedPaths", "readonlyPaths"])
@pytest.mark.parametrize("name", ["/", "//", "/to-root"])
def test_the_root_is_neither_masked_nor_made_read_only_by_path(rooted, pyrunc, member, name):
    rooted.linux[member] = [name]
    done = pyrunc.run(rooted)
    assert done.code == 1
    assert "is the root of the container; see root.readonly" in done.stderr
    assert not (rooted.rootfs / "written").exists()


@pytest.mark.parametrize("options", ["remount ro", "remount bind ro"])
def test_a_remount_of_the_root_changes_the_container_s_alone(rooted, pyrunc, options):
    """The file system is the host's: without care, the host would find it read-only."""
    rooted.mount("/", "none", "none", *options.split())
    for name in ("dev/pts", "dev/shm"):
        (rooted.rootfs / name).mkdir(parents=True, exist_ok=True)
    done = pyrunc.run(rooted)
    assert "Read-only file system" in done.stderr
    (rooted.rootfs / "of-the-host").touch()


def test_a_cgroup_mount_does_not_cover_a_part_of_proc(rooted, pyrunc):
    rooted.mount("/proc/sys", "cgroup", "cgroup")
    assert "inside /proc" in pyrunc.run(rooted).stderr


# Other kinds of files


@pytest.fixture
def sources(tmp_path):
    (tmp_path / "dir").mkdir()
    (tmp_path / "file").touch()
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
    return tmp_path


@pytest.mark.parametrize(
    ("source", "target", "kinds"),
    [
        ("file", "/tmp", ("a file", "a directory")),
        ("socket", "/tmp", ("a socket", "a directory")),
        ("fifo", "/dev", ("a fifo", "a directory")),
        ("dir", "/etc/passwd", ("a directory", "a file")),
        ("dir", "/dev/null", ("a directory", "a device")),
    ],
)
def test_a_bind_over_another_kind_names_both(make_bundle, pyrunc, sources, source, target, kinds):
    bundle = make_bundle()
    if target == "/dev/null":
        bundle.bind("/dev/null", "/dev/null")
    bundle.bind(sources / source, target)
    done = pyrunc.run(bundle)
    assert done.code == 1
    there = f"{sources / source} is {kinds[0]}, {target} is {kinds[1]}"
    assert f"not a directory: {there}" in done.stderr


def test_a_bind_below_a_file(make_bundle, pyrunc, sources):
    bundle = make_bundle()
    bundle.bind(sources / "dir", "/etc/passwd/below")
    assert "/etc/passwd/below: not a directory" in pyrunc.run(bundle).stderr


@pytest.mark.parametrize("option", ["nosuidd", "mode=0700", "size=1m"])
def test_a_bind_has_no_options_of_file_systems(make_bundle, pyrunc, sources, option):
    """The kernel would pass over them."""
    bundle = make_bundle()
    bundle.bind(sources / "dir", "/volume", "ro", option)
    done = pyrunc.run(bundle)
    assert f"mounts[5] (/volume): a bind mount has no option '{option}'" in done.stderr


@pytest.mark.parametrize("words", [("bind",), ("remount",), ()])
def test_tmpcopyup_is_for_a_new_tmpfs(make_bundle, pyrunc, sources, words):
    bundle = make_bundle()
    bundle.mount("/dev/shm", "tmpfs" if words else "mqueue", sources / "dir", "tmpcopyup", *words)
    assert "tmpcopyup is for a new tmpfs" in pyrunc.run(bundle).stderr


# Places inside read-only mounts


@pytest.fixture
def volume(tmp_path):
    (tmp_path / "volume").mkdir()
    (tmp_path / "secret").write_text("secret\n")
    return tmp_path / "volume"


@pytest.mark.parametrize("option", ["ro", "rro"])
@pytest.mark.parametrize("root", ["volume", "tmpfs", "overlay"])
def test_mount_points_inside_a_read_only_mount_are_made(make_bundle, pyrunc, volume, option, root):
    """An engine's secrets lie in a directory that is bound read-only before they are."""
    bundle = make_bundle(args=["cat", "/run/secrets/deep/one", "/proc/self/mountinfo"])
    bundle.config["root"]["readonly"] = True
    if root == "volume":
        bundle.bind(volume, "/run/secrets", option, "nosuid")
    elif root == "tmpfs":
        bundle.mount("/run/secrets", "tmpfs", "tmpfs", option, "nosuid")
    else:
        for name in ("lower", "upper", "work"):
            (volume / name).mkdir()
        layers = [f"{key}dir={volume / key}" for key in ("lower", "upper", "work")]
        bundle.mount("/run/secrets", "overlay", "overlay", *layers, option, "nosuid")
    bundle.bind(volume.parent / "secret", "/run/secrets/deep/one")
    bundle.mount("/run/secrets/dir", "tmpfs", "tmpfs")
    bundle.linux["devices"] = [
        {"path": "/run/secrets/null", "type": "c", "major": 1, "minor": 3, "fileMode": 0o666}
    ]
    done = pyrunc.run(bundle)
    assert done.stdout.startswith("secret\n"), done
    seen = mounts_by_point(done.stdout.removeprefix("secret\n"))
    assert {"ro", "nosuid"} <= seen["/run/secrets"].options
    assert "rw" in seen["/run/secrets/dir"].options
    assert "rw" in seen["/run/secrets/deep/one"].options


@pytest.mark.parametrize("cwd", ["/new/deep", "/scratch/deep"])
def test_a_missing_cwd_of_a_read_only_root_is_made(make_bundle, pyrunc, cwd):
    bundle = make_bundle(args=["pwd"])
    bundle.config["root"]["readonly"] = True
    bundle.mount("/scratch", "tmpfs", "tmpfs", "ro")
    bundle.process["cwd"] = cwd
    assert pyrunc.run(bundle).stdout == f"{cwd}\n"


# What a new file system gets


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        (["tmpcopyup"], "1777 7:8"),
        (["tmpcopyup", "mode=0700"], "700 7:8"),
        (["mode=0700", "tmpcopyup"], "700 7:8"),
        (["tmpcopyup", "uid=3,gid=4"], "1777 3:4"),
        (["tmpcopyup", "mode=750", "uid=3"], "750 3:8"),
    ],
)
def test_tmpcopyup_leaves_what_the_options_say(make_bundle, pyrunc, options, shown):
    bundle = make_bundle()
    (bundle.rootfs / "data/in").mkdir(parents=True)
    os.chown(bundle.rootfs / "data", 7, 8)
    (bundle.rootfs / "data").chmod(0o1777)
    bundle.shell("stat -c '%a %u:%g' /data && ls /data")
    for names in bundle.process["capabilities"].values():
        names.append("CAP_DAC_OVERRIDE")
    bundle.mount("/data", "tmpfs", "tmpfs", *options)
    assert pyrunc.run(bundle).stdout == f"{shown}\nin\n"


@pytest.mark.parametrize("options", [[], ["newinstance"], ["nosuid", "noexec"]])
def test_devpts_without_options_is_for_every_user(make_bundle, pyrunc, options):
    """Distrobox and toolbox mount one so: their users need terminals."""
    bundle = make_bundle(args=["cat", "/proc/self/mountinfo"])
    bundle.config["mounts"][2]["options"] = options
    seen = mounts_by_point(pyrunc.run(bundle).stdout)["/dev/pts"]
    assert {"gid=5", "mode=620", "ptmxmode=666"} <= seen.superblock


def test_devpts_in_a_user_namespace_without_the_group(make_bundle, pyrunc, public_path):
    bundle = make_bundle(args=["cat", "/proc/self/mountinfo"], at=public_path / "bundle")
    bundle.user_namespace(100000, 3)
    bundle.give_to(100000)
    bundle.config["mounts"][2]["options"] = []
    done = pyrunc.run(bundle)
    assert done.code == 0, done
    seen = mounts_by_point(done.stdout)["/dev/pts"]
    assert {"mode=620", "ptmxmode=666"} <= seen.superblock


def test_devpts_with_options_has_these_alone(make_bundle, pyrunc):
    bundle = make_bundle(args=["cat", "/proc/self/mountinfo"])
    bundle.config["mounts"][2]["options"] = ["mode=0600"]
    seen = mounts_by_point(pyrunc.run(bundle).stdout)["/dev/pts"]
    assert "mode=600" in seen.superblock
    assert not {option for option in seen.superblock if option.startswith("gid=")}


@pytest.fixture
def layers(tmp_path):
    """Ninety layers, whose paths together are longer than a page."""
    made = []
    for number in range(90):
        layer = tmp_path / f"layer-{number:03}:{'x' * 40}"
        layer.mkdir()
        (layer / str(number)).touch()
        made.append(layer)
    return made


def lowerdir(layers: list[Path]) -> str:
    return "lowerdir=" + ":".join(str(layer).replace(":", "\\:") for layer in layers)


@pytest.mark.parametrize("writable", [False, True])
def test_an_overlay_of_ninety_layers(make_bundle, pyrunc, tmp_path, layers, writable):
    """mount(2) would cut the list, and not say so."""
    option = lowerdir(layers)
    assert len(option) > 4096
    more = []
    if writable:
        (tmp_path / "upper").mkdir(), (tmp_path / "work").mkdir()
        more = [f"upperdir={tmp_path}/upper", f"workdir={tmp_path}/work"]
    bundle = make_bundle(args=["sh", "-c", "ls /merged | wc -l"])
    bundle.mount("/merged", "overlay", "overlay", option, *more)
    assert pyrunc.run(bundle).stdout.strip() == "90"


def test_an_overlay_with_a_layer_that_no_call_takes(make_bundle, pyrunc, tmp_path, layers):
    deep = tmp_path / ("x" * 200) / ("y" * 100)
    deep.mkdir(parents=True)
    bundle = make_bundle()
    bundle.mount("/merged", "overlay", "overlay", lowerdir([*layers, deep]))
    assert "bytes of options are more than mount(2) takes" in pyrunc.run(bundle).stderr


def test_options_that_would_be_cut_are_refused(make_bundle, pyrunc):
    bundle = make_bundle()
    bundle.mount("/data", "tmpfs", "tmpfs", *["size=1m"] * 600, "x" * 300)
    assert "mount(2) takes 4095" in pyrunc.run(bundle).stderr
