"""A /dev that is somewhere else: nothing is made or replaced in a volume."""

from __future__ import annotations

import shutil
import subprocess

import pytest


@pytest.fixture
def volume(tmp_path):
    """A directory of the host's with files that have the names of /dev's."""
    path = tmp_path / "volume"
    (path / "net").mkdir(parents=True)
    for name in ("ptmx", "null", "console", "fd", "kept"):
        (path / name).write_text(f"{name}\n")
    return path


def look(path):
    return sorted((p.name, p.lstat().st_mode, p.lstat().st_ino) for p in path.rglob("*"))


def without_dev(bundle):
    bundle.config["mounts"] = [
        m for m in bundle.config["mounts"] if not m["destination"].startswith("/dev")
    ]


def link_dev(bundle, target):
    shutil.rmtree(bundle.rootfs / "dev")
    (bundle.rootfs / "dev").symlink_to(target)


@pytest.mark.parametrize("order", ["volume after /dev", "volume before /dev", "no /dev"])
def test_dev_as_a_link_to_a_volume(make_bundle, pyrunc, volume, order):
    """Seen: the volume's ptmx was replaced, and device nodes lay in it on the host."""
    bundle = make_bundle(args=["true"])
    link_dev(bundle, "/vol")
    (bundle.rootfs / "vol").mkdir()
    match order:
        case "no /dev":
            without_dev(bundle)
            bundle.bind(volume, "/vol")
        case "volume after /dev":
            without_dev(bundle)
            bundle.mount("/dev", "tmpfs", "tmpfs")
            bundle.bind(volume, "/vol")
        case "volume before /dev":
            bundle.config["mounts"].insert(
                0, {"destination": "/vol", "type": "bind", "source": str(volume),
                    "options": ["bind"]},
            )  # fmt: skip
    before = look(volume)
    result = pyrunc.run(bundle)
    assert look(volume) == before
    assert result.code == 1
    assert "/dev leads through a symbolic link" in result.stderr


def test_a_volume_that_gets_over_dev_by_a_link(make_bundle, pyrunc, volume):
    bundle = make_bundle(args=["true"])
    (bundle.rootfs / "link").symlink_to("dev")
    bundle.bind(volume, "/link")
    before = look(volume)
    result = pyrunc.run(bundle)
    assert look(volume) == before
    assert result.code == 1
    assert "/dev is covered by another mount" in result.stderr


@pytest.mark.parametrize("with_tmpfs", [True, False])
def test_a_directory_of_dev_as_a_link_to_a_volume(make_bundle, pyrunc, volume, with_tmpfs):
    """Devices of the config below /dev, and elsewhere."""
    for path in ("/dev/net/tun", "/opt/net/tun"):
        bundle = make_bundle(args=["true"])
        (bundle.rootfs / "opt").mkdir()
        (bundle.rootfs / "opt/net").symlink_to("/vol/net")
        if not with_tmpfs:
            without_dev(bundle)
            (bundle.rootfs / "dev/net").symlink_to("/vol/net")
        bundle.bind(volume, "/vol")
        bundle.linux["devices"] = [{"path": path, "type": "c", "major": 10, "minor": 200}]
        before = look(volume)
        result = pyrunc.run(bundle)
        assert look(volume) == before
        if path.startswith("/opt"):
            assert result.code == 1
            assert "on a mount that config.json does not put there" in result.stderr
        elif not with_tmpfs:
            assert result.code == 1
            assert "leads through a symbolic link" in result.stderr


def test_a_dev_that_the_host_has_mounted_in_the_rootfs(make_bundle, pyrunc, volume):
    """A directory bound to ROOTFS/dev on the host comes along with the root: it stays as it is."""
    bundle = make_bundle(args=["true"])
    without_dev(bundle)
    subprocess.run(["mount", "--bind", volume, bundle.rootfs / "dev"], check=True)
    try:
        before = look(volume)
        result = pyrunc.run(bundle)
        assert look(volume) == before
    finally:
        subprocess.run(["umount", bundle.rootfs / "dev"], check=True)
    assert result.code == 1
    assert "/dev is on a mount that config.json does not put there" in result.stderr


def test_a_console_in_a_linked_dev(make_bundle, pyrunc, volume):
    """With a terminal, /dev bound over a link: seen: a file "console" appeared in the volume."""
    (volume / "console").unlink()
    bundle = make_bundle(args=["true"])
    without_dev(bundle)
    link_dev(bundle, "/vol")
    (bundle.rootfs / "vol").mkdir()
    empty = bundle.path / "empty"
    (empty / "pts").mkdir(parents=True)
    bundle.bind(empty, "/dev")
    bundle.mount("/dev/pts", "devpts", "devpts", "newinstance", "ptmxmode=0666")
    bundle.bind(volume, "/vol")
    bundle.process["terminal"] = True
    before = look(volume)
    result = pyrunc.run(bundle)
    assert look(volume) == before
    assert result.code == 1


def test_dev_that_is_no_directory(make_bundle, pyrunc):
    bundle = make_bundle(args=["true"])
    without_dev(bundle)
    (bundle.rootfs / "dev").rmdir()
    (bundle.rootfs / "dev").write_text("")
    result = pyrunc.run(bundle)
    assert result.code == 1
    assert "/dev is not a directory" in result.stderr


def test_a_dev_of_the_image_is_used(make_bundle, pyrunc):
    """Without a mount on /dev; also where directories below are missing."""
    bundle = make_bundle()
    without_dev(bundle)
    bundle.linux["devices"] = [{"path": "/dev/a/b/c", "type": "c", "major": 1, "minor": 3}]
    bundle.shell("echo x >/dev/null; ls -l /dev/a/b/c /dev/ptmx | cut -c1")
    result = pyrunc.run(bundle)
    assert (result.code, result.stdout) == (0, "c\nl\n"), result
