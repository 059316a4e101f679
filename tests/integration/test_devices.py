"""/dev as a container finds it (config-linux.md, "Default Devices" and "Devices")."""

from __future__ import annotations

import os

import pytest

DEFAULTS = {
    "/dev/null": "1:3",
    "/dev/zero": "1:5",
    "/dev/full": "1:7",
    "/dev/random": "1:8",
    "/dev/urandom": "1:9",
    "/dev/tty": "5:0",
}


def device(path: str, kind: str, major: int, minor: int, **more: int) -> dict[str, object]:
    return {"path": path, "type": kind, "major": major, "minor": minor, **more}


def without_dev(bundle) -> None:
    """Let /dev be a directory of the root file system."""
    kept = [m for m in bundle.config["mounts"] if not m["destination"].startswith("/dev")]
    bundle.config["mounts"] = kept


def test_default_devices(make_bundle, pyrunc):
    bundle = make_bundle(args=["stat", "-c", "%n %t:%T %a %u:%g %F", *DEFAULTS])
    result = pyrunc.run(bundle)
    expected = [f"{path} {n} 666 0:0 character special file" for path, n in DEFAULTS.items()]
    assert result.stdout.splitlines() == expected


def test_default_devices_work(make_bundle, pyrunc):
    bundle = make_bundle()
    bundle.shell(
        "echo x > /dev/null && head -c 4 /dev/zero | od -An -tx1 && "
        "head -c 4 /dev/urandom > /dev/null && head -c 4 /dev/random > /dev/null && "
        "! echo x 2> /dev/null > /dev/full"
    )
    result = pyrunc.run(bundle)
    assert (result.code, result.stdout) == (0, " 00 00 00 00\n"), result


def test_links(make_bundle, pyrunc):
    bundle = make_bundle()
    names = "fd stdin stdout stderr core ptmx"
    bundle.shell(f"cd /dev && for n in {names}; do echo $n $(readlink $n); done")
    lines = pyrunc.run(bundle).stdout.splitlines()
    assert lines[4] == ("core /proc/kcore" if os.path.exists("/proc/kcore") else "core")
    assert lines[:4] + lines[5:] == [
        "fd /proc/self/fd",
        "stdin /proc/self/fd/0",
        "stdout /proc/self/fd/1",
        "stderr /proc/self/fd/2",
        "ptmx pts/ptmx",
    ]


def test_nothing_else_is_in_dev(make_bundle, pyrunc):
    result = pyrunc.run(make_bundle(args=["ls", "/dev"]))
    names = {path.removeprefix("/dev/") for path in DEFAULTS}
    names |= {"fd", "stdin", "stdout", "stderr", "ptmx", "pts", "shm"}
    assert set(result.stdout.split()) - {"core"} == names


def test_dev_of_the_root_file_system(make_bundle, pyrunc):
    bundle = make_bundle(args=["stat", "-c", "%t:%T %a", *DEFAULTS])
    without_dev(bundle)
    bundle.config["root"]["readonly"] = True
    expected = [f"{number} 666" for number in DEFAULTS.values()]
    assert pyrunc.run(bundle).stdout.splitlines() == expected
    # What is there stays and fits a second time.
    assert pyrunc.run(bundle).stdout.splitlines() == expected


def test_a_default_device_hides_whatever_the_image_has_in_its_place(make_bundle, pyrunc, tmp_path):
    outside = tmp_path / "outside"
    outside.write_text("mine\n")
    bundle = make_bundle()
    without_dev(bundle)
    (bundle.rootfs / "dev/null").write_text("")
    (bundle.rootfs / "dev/zero").symlink_to(outside)
    os.mknod(bundle.rootfs / "dev/full", 0o666 | 0o020000, os.makedev(1, 5))
    bundle.shell(
        "echo x > /dev/null; chmod 0 /dev/zero; stat -L -c %t:%T /dev/null /dev/zero /dev/full"
    )
    for names in bundle.process["capabilities"].values():
        names.append("CAP_FOWNER")
    before = os.stat("/dev/zero")
    assert pyrunc.run(bundle).stdout.split() == ["1:3", "1:5", "1:7"]
    assert outside.read_text() == "mine\n"
    assert os.stat("/dev/zero") == before


def test_ptmx_of_the_image_is_replaced(make_bundle, pyrunc):
    bundle = make_bundle(args=["readlink", "/dev/ptmx"])
    without_dev(bundle)
    os.mknod(bundle.rootfs / "dev/ptmx", 0o666 | 0o020000, os.makedev(5, 2))
    assert pyrunc.run(bundle).stdout == "pts/ptmx\n"


@pytest.mark.parametrize(
    ("kind", "shown"),
    [("c", "character special file"), ("u", "character special file"), ("b", "block special file")],
)
def test_devices_of_the_config(make_bundle, pyrunc, kind, shown):
    bundle = make_bundle(args=["stat", "-c", "%F %t:%T %a %u:%g", "/dev/new/node"])
    node = device("/dev/new/node", kind, 10, 229, fileMode=0o640, uid=7, gid=8)
    bundle.linux["devices"] = [node]
    assert pyrunc.run(bundle).stdout == f"{shown} a:e5 640 7:8\n"


def test_fifo_of_the_config(make_bundle, pyrunc):
    bundle = make_bundle(args=["stat", "-c", "%F %a %u:%g", "/run/fifo"])
    fifo = {"path": "/run/fifo", "type": "p", "fileMode": 0o622, "uid": 7, "gid": 8}
    bundle.linux["devices"] = [fifo]
    assert pyrunc.run(bundle).stdout == "fifo 622 7:8\n"


def test_device_without_mode_and_owner(make_bundle, pyrunc):
    bundle = make_bundle(args=["stat", "-c", "%a %u:%g", "/dev/fuse"])
    bundle.linux["devices"] = [device("/dev/fuse", "c", 10, 229)]
    assert pyrunc.run(bundle).stdout == "666 0:0\n"


def test_mode_may_carry_the_type(make_bundle, pyrunc):
    bundle = make_bundle(args=["stat", "-c", "%a", "/dev/fuse"])
    bundle.linux["devices"] = [device("/dev/fuse", "c", 10, 229, fileMode=0o020600)]
    assert pyrunc.run(bundle).stdout == "600\n"


def test_config_has_the_say_over_a_default_device(make_bundle, pyrunc):
    bundle = make_bundle(args=["stat", "-c", "%t:%T %a", "/dev/null"])
    bundle.linux["devices"] = [device("/dev/null", "c", 1, 3, fileMode=0o600)]
    assert pyrunc.run(bundle).stdout == "1:3 600\n"


@pytest.mark.parametrize("path", ["/dev/fuse", "/dev/null", "/dev/../dev/fuse"])
def test_of_a_device_that_is_listed_twice_the_last_entry_holds(make_bundle, pyrunc, path):
    bundle = make_bundle(args=["stat", "-c", "%a %t:%T", path])
    bundle.linux["devices"] = [
        device(path.replace("/..", "").replace("/dev/dev", "/dev"), "c", 1, 3, fileMode=0o600),
        device(path, "c", 1, 5, fileMode=0o640),
    ]
    assert pyrunc.run(bundle).stdout == "640 1:5\n"


def test_making_a_device_does_not_let_it_be_used(make_bundle, pyrunc):
    """The node is there, but linux.resources denies it (the default rule denies all)."""
    bundle = make_bundle(args=["sh", "-c", "test -c /dev/mem && ! dd if=/dev/mem count=1"])
    bundle.linux["devices"] = [device("/dev/mem", "c", 1, 1)]
    result = pyrunc.run(bundle)
    assert result.code == 0, result
    assert "Operation not permitted" in result.stderr


@pytest.mark.parametrize("what", ["file", "link", "other device"])
def test_unfitting_file_in_the_place_of_a_device_is_an_error(make_bundle, pyrunc, what):
    bundle = make_bundle()
    without_dev(bundle)
    place = bundle.rootfs / "dev/node"
    if what == "file":
        place.write_text("kept")
    elif what == "link":
        place.symlink_to("/dev/null")
    else:
        os.mknod(place, 0o666 | 0o020000, os.makedev(1, 3))
    bundle.linux["devices"] = [device("/dev/node", "c", 10, 229)]
    result = pyrunc.run(bundle)
    assert result.code == 1
    assert "cannot make device /dev/node (c 10:229)" in result.stderr
    assert "a file that is not device c 10:229 is there already" in result.stderr


def test_fitting_device_in_its_place_is_left_as_it_is(make_bundle, pyrunc):
    bundle = make_bundle(args=["stat", "-c", "%t:%T", "/dev/node"])
    without_dev(bundle)
    os.mknod(bundle.rootfs / "dev/node", 0o600 | 0o020000, os.makedev(10, 229))
    bundle.linux["devices"] = [device("/dev/node", "c", 10, 229)]
    assert pyrunc.run(bundle).stdout == "a:e5\n"


def test_device_outside_of_dev(make_bundle, pyrunc):
    bundle = make_bundle(args=["stat", "-c", "%t:%T", "/some/where/node"])
    bundle.linux["devices"] = [device("/some/where/node", "c", 1, 3)]
    assert pyrunc.run(bundle).stdout == "1:3\n"


def test_device_is_made_inside_the_root_whatever_links_there_are(make_bundle, pyrunc, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    bundle = make_bundle(args=["stat", "-c", "%t:%T", f"{outside}/node"])
    (bundle.rootfs / "link").symlink_to(outside)
    bundle.linux["devices"] = [device("/link/node", "c", 1, 3)]
    assert pyrunc.run(bundle).stdout == "1:3\n"
    assert list(outside.iterdir()) == []


@pytest.mark.parametrize("how", [("bind", ["rbind"]), ("none", ["bind"])])
def test_dev_of_the_host_stays_as_it_is(make_bundle, pyrunc, tmp_path, how):
    devices = tmp_path / "devices"
    devices.mkdir()
    os.mknod(devices / "mine", 0o600 | 0o020000, os.makedev(1, 3))
    bundle = make_bundle(args=["ls", "/dev"])
    without_dev(bundle)
    kind, options = how
    bundle.mount("/dev", kind, devices, *options)
    bundle.linux["devices"] = [device("/dev/mine", "c", 1, 3)]
    assert pyrunc.run(bundle).stdout == "mine\n"
    assert [path.name for path in devices.iterdir()] == ["mine"]


@pytest.mark.parametrize(
    ("wanted", "why"),
    [
        (device("/dev/fuse", "c", 10, 229), "no such file or directory"),
        (device("/dev/mine", "c", 10, 229), "a file that is not that device is there"),
        (device("/dev/mine", "b", 1, 3), "a file that is not that device is there"),
    ],
)
def test_device_that_a_dev_of_the_host_lacks_is_an_error(
    make_bundle, pyrunc, tmp_path, wanted, why
):
    """It must be available (config-linux.md), and nothing is made in a directory of the host."""
    devices = tmp_path / "devices"
    devices.mkdir()
    os.mknod(devices / "mine", 0o600 | 0o020000, os.makedev(1, 3))
    bundle = make_bundle()
    without_dev(bundle)
    bundle.mount("/dev", "bind", devices, "rbind")
    bundle.linux["devices"] = [wanted]
    result = pyrunc.run(bundle)
    assert result.code == 1
    assert f"cannot find device {wanted['path']}" in result.stderr
    assert why in result.stderr
    assert [path.name for path in devices.iterdir()] == ["mine"]


def test_device_outside_of_a_dev_of_the_host_is_made(make_bundle, pyrunc, tmp_path):
    bundle = make_bundle(args=["stat", "-c", "%t:%T %a", "/other/node"])
    without_dev(bundle)
    bundle.mount("/dev", "bind", "/dev", "rbind", "rslave")
    bundle.linux["devices"] = [device("/other/node", "c", 1, 3, fileMode=0o640)]
    assert pyrunc.run(bundle).stdout == "1:3 640\n"


def test_one_device_at_two_places(make_bundle, pyrunc):
    """Configs should not ask for it (config-linux.md), but may."""
    bundle = make_bundle(args=["stat", "-c", "%t:%T", "/dev/a", "/dev/b"])
    bundle.linux["devices"] = [device("/dev/a", "c", 1, 3), device("/dev/b", "c", 1, 3)]
    assert pyrunc.run(bundle).stdout == "1:3\n1:3\n"


def test_devices_are_bound_in_a_user_namespace(make_bundle, pyrunc, tmp_path):
    bundle = make_bundle()
    bundle.shell("stat -c '%t:%T' /dev/null /dev/fuse; grep -c ' /dev/null ' /proc/self/mountinfo")
    bundle.user_namespace()
    bundle.linux["devices"] = [device("/dev/fuse", "c", 10, 229)]
    if not os.path.exists("/dev/fuse"):
        pytest.skip("the host has no /dev/fuse")
    assert pyrunc.run(bundle).stdout.split() == ["1:3", "a:e5", "1"]


@pytest.mark.parametrize("mounts", [20, 40, 60, 90])
def test_nodes_are_made_however_long_the_device_rules_take(make_bundle, pyrunc, mounts):
    """While v1's rules are written, nothing may be made: no builder may be in the cgroup yet."""
    bundle = make_bundle(args=["cat", "/proc/self/mountinfo"])
    # The mounts keep the builder busy until the rules are being written.
    bundle.config["mounts"] += [
        {"destination": f"/tmp/{n}", "type": "tmpfs", "source": "tmpfs"} for n in range(mounts)
    ]
    denied = [{"allow": False, "type": "c", "major": 4, "minor": n} for n in range(10000)]
    bundle.config["linux"]["resources"] = {"devices": denied}
    assert " /dev/null " not in pyrunc.run(bundle).stdout
