"""``maskedPaths`` and ``readonlyPaths`` (config-linux.md)."""

from __future__ import annotations

import os

from views import mounts_by_point


def test_masked_file_is_the_null_device(make_bundle, pyrunc):
    bundle = make_bundle(args=["sh", "-c", "stat -c %t:%T /secret; cat /secret; echo x > /secret"])
    (bundle.rootfs / "secret").write_text("secret\n")
    bundle.linux["maskedPaths"] = ["/secret"]
    result = pyrunc.run(bundle)
    assert (result.code, result.stdout) == (0, "1:3\n")
    assert (bundle.rootfs / "secret").read_text() == "secret\n"


def test_a_path_that_is_listed_twice_is_masked_once(make_bundle, pyrunc):
    bundle = make_bundle(args=["cat", "/proc/self/mountinfo"])
    (bundle.rootfs / "secret").write_text("secret\n")
    (bundle.rootfs / "plain").mkdir()
    bundle.linux["maskedPaths"] = ["/secret", "/secret"]
    bundle.linux["readonlyPaths"] = ["/plain", "/plain"]
    points = [line.split()[4] for line in pyrunc.run(bundle).stdout.splitlines()]
    assert points.count("/secret") == 1
    assert points.count("/plain") == 1


def test_the_host_s_null_device_is_out_of_reach_behind_a_mask(make_bundle, pyrunc):
    bundle = make_bundle(args=["sh", "-c", "chmod 600 /secret; chown 5 /secret"])
    for names in bundle.process["capabilities"].values():
        names += ["CAP_FOWNER", "CAP_CHOWN"]
    (bundle.rootfs / "secret").write_text("secret")
    bundle.linux["maskedPaths"] = ["/secret"]
    before = os.stat("/dev/null")
    assert pyrunc.run(bundle).stderr.count("Read-only file system") == 2
    assert os.stat("/dev/null") == before


def test_masked_directory_is_empty_and_read_only(make_bundle, pyrunc):
    bundle = make_bundle(args=["sh", "-c", "ls -a /one /two; touch /one/new; touch /two/new"])
    for name in ("one", "two"):
        (bundle.rootfs / name).mkdir()
        (bundle.rootfs / name / "secret").write_text("")
    bundle.linux["maskedPaths"] = ["/one", "/two"]
    result = pyrunc.run(bundle)
    assert "secret" not in result.stdout
    assert result.stderr.count("Read-only file system") == 2


def test_masked_directory_shows_nothing_that_is_mounted_in_it(make_bundle, pyrunc, tmp_path):
    (tmp_path / "secret").write_text("")
    bundle = make_bundle(args=["sh", "-c", "test ! -e /volume/inner/secret"])
    bundle.mount("/volume", "tmpfs", "tmpfs")
    bundle.bind(tmp_path, "/volume/inner")
    bundle.linux["maskedPaths"] = ["/volume"]
    assert pyrunc.run(bundle).code == 0


def test_read_only_file_and_directory(make_bundle, pyrunc):
    bundle = make_bundle(args=["sh", "-c", "cat /file /d/file; echo x > /file; touch /d/new"])
    (bundle.rootfs / "file").write_text("one\n")
    (bundle.rootfs / "d").mkdir()
    (bundle.rootfs / "d/file").write_text("two\n")
    bundle.linux["readonlyPaths"] = ["/file", "/d"]
    result = pyrunc.run(bundle)
    assert result.stdout == "one\ntwo\n"
    assert result.stderr.count("Read-only file system") == 2


def test_read_only_paths_of_proc(make_bundle, pyrunc):
    bundle = make_bundle(args=["sh", "-c", "echo box2 > /proc/sys/kernel/hostname"])
    assert "Read-only file system" in pyrunc.run(bundle).stderr


def test_read_only_path_keeps_the_other_options(make_bundle, pyrunc):
    bundle = make_bundle(args=["cat", "/proc/self/mountinfo"])
    bundle.config["mounts"][0]["options"] = ["nosuid", "noexec", "nodev"]
    seen = mounts_by_point(pyrunc.run(bundle).stdout)
    assert {"ro", "nosuid", "noexec", "nodev"} <= seen["/proc/sys"].options


def test_a_path_can_be_masked_below_a_read_only_one(make_bundle, pyrunc):
    bundle = make_bundle(args=["ls", "/d", "/d/masked"])
    (bundle.rootfs / "d/masked").mkdir(parents=True)
    (bundle.rootfs / "d/masked/secret").write_text("")
    bundle.linux.update(readonlyPaths=["/d"], maskedPaths=["/d/masked"])
    assert pyrunc.run(bundle).stdout.split() == ["/d:", "masked", "/d/masked:"]


def test_paths_that_are_not_there_are_passed_over(make_bundle, pyrunc):
    bundle = make_bundle()
    (bundle.rootfs / "file").write_text("")
    paths = ["/no/such/path", "/file/below/a/file", "/etc/none"]
    bundle.linux.update(readonlyPaths=paths, maskedPaths=paths)
    assert pyrunc.run(bundle).code == 0


def test_links_are_followed_inside_the_root_only(make_bundle, pyrunc, tmp_path):
    bundle = make_bundle(args=["sh", "-c", "cat /real; ! touch /directory/new"])
    outside = tmp_path / "outside"
    outside.mkdir()
    (bundle.rootfs / "real").write_text("secret\n")
    (bundle.rootfs / "link").symlink_to("/real")
    (bundle.rootfs / "directory").mkdir()
    (bundle.rootfs / "out").symlink_to("../../../../directory")
    bundle.linux.update(maskedPaths=["/link"], readonlyPaths=["/out"])
    result = pyrunc.run(bundle)
    assert (result.code, result.stdout) == (0, ""), result


def test_the_container_s_null_device_is_not_the_cover(make_bundle, pyrunc):
    """CVE-2025-31133: an image's /dev/null may lead anywhere."""
    bundle = make_bundle(args=["stat", "-c", "%t:%T", "/secret"])
    kept = [m for m in bundle.config["mounts"] if not m["destination"].startswith("/dev")]
    bundle.config["mounts"] = kept
    (bundle.rootfs / "secret").write_text("secret\n")
    # A /dev that is bound keeps what it has.
    (bundle.path / "dev").mkdir()
    (bundle.path / "dev/null").symlink_to("/etc/passwd")
    bundle.bind("dev", "/dev")
    bundle.linux["maskedPaths"] = ["/secret"]
    assert pyrunc.run(bundle).stdout == "1:3\n"


def test_paths_are_protected_in_a_user_namespace(make_bundle, pyrunc):
    bundle = make_bundle(args=["sh", "-c", "ls /one; cat /file; touch /ro/new"])
    for name in ("one", "ro"):
        (bundle.rootfs / name).mkdir()
        os.chmod(bundle.rootfs / name, 0o777)
    (bundle.rootfs / "one/secret").write_text("")
    (bundle.rootfs / "file").write_text("secret")
    bundle.linux.update(maskedPaths=["/one", "/file"], readonlyPaths=["/ro"])
    bundle.user_namespace()
    result = pyrunc.run(bundle)
    assert result.stdout == ""
    assert "Read-only file system" in result.stderr
