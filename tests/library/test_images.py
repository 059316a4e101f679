"""`rootfs=`: archives and layouts of images; good ones run, bad ones do nothing."""

from __future__ import annotations

import gzip
import os
import shutil
import tarfile

import pytest
from images import (
    BUSYBOX,
    busybox_layer,
    docker_archive,
    layer,
    oci_archive,
    oci_files,
    oci_layout,
)

import pyrunc
from pyrunc.images import store

pytestmark = pytest.mark.usefixtures("no_remains")


@pytest.fixture(autouse=True)
def kept_here(tmp_path, monkeypatch):
    """Keep unpacked images with the test."""
    if not BUSYBOX.exists():
        pytest.skip(f"needs {BUSYBOX} (package busybox-static)")
    monkeypatch.setattr(store, "_OF_ROOT", str(tmp_path / "kept"))
    return tmp_path / "kept"


@pytest.fixture(params=["docker", "oci-directory", "oci-tar", "oci-tar-gz"])
def image(request, tmp_path):
    """Make an image of layers and a config, in each of the forms."""

    def make(layers, **config):
        path = tmp_path / "image"
        if request.param == "docker":
            return docker_archive(path, layers, **config)
        files = oci_files(layers, **config)
        if request.param == "oci-directory":
            return oci_layout(path, files)
        oci_archive(path, files)
        if request.param == "oci-tar-gz":
            path.write_bytes(gzip.compress(path.read_bytes(), 1))
        return path

    return make


def test_an_image_runs_with_its_own_settings(image):
    path = image(
        [busybox_layer()],
        Env=["PATH=/bin", "COLOR=blue"],
        User="worker",
        WorkingDir="/home/worker",
        Entrypoint=["sh", "-c"],
        Cmd=["echo $COLOR; pwd; id -u; id -g"],
    )
    expected = "blue\n/home/worker\n1000\n1001\n"
    assert pyrunc.run(None, rootfs=path, text=True).stdout == expected
    other = pyrunc.run(
        ["sh", "-c", "echo $COLOR; pwd; id -u"], rootfs=path, text=True,
        env={"COLOR": "red"}, cwd="/tmp", user=5,
    )  # fmt: skip
    assert other.stdout == "red\n/tmp\n5\n"


def test_layers_lie_above_each_other(image):
    below = layer(
        ("data", tarfile.DIRTYPE),
        ("data/kept", "1"),
        ("data/gone", "1"),
        ("data/replaced", "1"),
        ("opaque", tarfile.DIRTYPE),
        ("opaque/below", "1"),
        ("becomes-file", tarfile.DIRTYPE),
        ("becomes-file/x", "1"),
        ("becomes-directory", "1"),
    )
    above = layer(
        ("data/.wh.gone", ""),
        ("data/replaced", "2"),
        ("data/hard", tarfile.LNKTYPE, "data/replaced"),
        ("opaque/above", "2"),
        ("opaque/.wh..wh..opq", ""),
        ("becomes-file", "2"),
        ("becomes-directory", tarfile.DIRTYPE),
        ("becomes-directory/x", "2"),
        ("data/.wh.never-there", ""),
    )
    path = image([busybox_layer(), below, above], Env=["PATH=/bin"])
    files = "data/* opaque/* becomes-file becomes-directory/*"
    script = f"cd /; for f in {files}; do echo $f $(cat $f); done"
    shown = pyrunc.run(["sh", "-c", script], rootfs=path, text=True).stdout.splitlines()
    assert shown == [
        "data/hard 2",
        "data/kept 1",
        "data/replaced 2",
        "opaque/above 2",
        "becomes-file 2",
        "becomes-directory/x 2",
    ]


def test_a_sandbox_writes_above_it_and_never_to_it(image, kept_here):
    path = image([busybox_layer()], Env=["PATH=/bin"])
    for _ in range(2):
        with pyrunc.Sandbox(rootfs=path) as box:
            assert box.run(["sh", "-c", "test ! -e /new && echo >/new && rm /etc/passwd"]).ok
            assert [tuple(change) for change in box.changes()] == [
                ("/etc/passwd", "deleted"),
                ("/new", "added"),
            ]
    kept = [entry for entry in kept_here.iterdir() if not entry.name.startswith(".")]
    assert len(kept) == 1
    assert not (kept[0] / "new").exists()
    assert (kept[0] / "etc/passwd").exists()


def test_a_tar_file_of_a_root(tmp_path):
    path = tmp_path / "root.tar"
    path.write_bytes(busybox_layer())
    result = pyrunc.run(["/bin/sh", "-c", "id -u; ls -d /bin"], rootfs=path, text=True)
    assert result.stdout == "0\n/bin\n"


def test_a_directory(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "root.tar").write_bytes(busybox_layer())
    shutil.unpack_archive(tmp_path / "root.tar", root)
    (root / "proc").rmdir()
    before = sorted(root.rglob("*"))
    shown = pyrunc.run(["/bin/sh", "-c", "echo here; echo >/x"], rootfs=root, text=True)
    assert shown.stdout == "here\n"
    assert "Read-only" in shown.stderr
    # Not even for the mount points that it lacks.
    assert sorted(root.rglob("*")) == before
    with pyrunc.Sandbox(rootfs=root) as box:
        assert box.run(["/bin/sh", "-c", "echo >/new"]).ok
    assert not (root / "new").exists()


def test_owners_and_modes_are_the_image_s(image):
    special = layer(
        ("private", tarfile.DIRTYPE, "", 0o700, 1000),
        ("private/file", "x"),
        ("link", tarfile.SYMTYPE, "private", 0o777, 1000),
        ("suid", tarfile.REGTYPE, "", 0o4755, 0),
    )
    path = image([busybox_layer(), special], Env=["PATH=/bin"])
    script = "stat -c '%u %a' /private /suid; stat -c %u /link"
    shown = pyrunc.run(["sh", "-c", script], rootfs=path, text=True).stdout
    assert shown == "1000 700\n0 755\n1000\n"


@pytest.mark.parametrize(
    "members",
    [
        [("../outside", "x")],
        [("a/../../outside", "x")],
        [("link", tarfile.SYMTYPE, "../../.."), ("link/../../outside", "x")],
        [("hard", tarfile.LNKTYPE, "../../../outside")],
        [("x/.wh...", "")],
        [("x/.wh..", "")],
    ],
)
def test_names_that_lead_out_are_refused_and_nothing_is_left(image, members, tmp_path, kept_here):
    (tmp_path / "outside").write_text("of the host")
    path = image([busybox_layer(), layer(*members)])
    with pytest.raises(pyrunc.ArchiveInvalid) as caught:
        pyrunc.run(["true"], rootfs=path)
    assert isinstance(caught.value, ValueError)
    assert (tmp_path / "outside").read_text() == "of the host"
    assert [x for x in os.listdir(kept_here) if not x.startswith(".lock")] == []


@pytest.mark.parametrize("target", ["{outside}", "../../../../../../../../..{outside}"])
def test_links_lead_nowhere_outside(image, target, tmp_path):
    """Seen to fail with tarfile's own extractall(filter="fully_trusted"): it wrote outside."""
    outside = tmp_path / "victim"
    outside.mkdir()
    (outside / "file").write_text("of the host")
    where = target.format(outside=outside)
    harm = layer(
        ("way", tarfile.SYMTYPE, where),
        ("way/file", "harm"),
        ("way/new", "harm"),
        ("other", tarfile.SYMTYPE, f"{where}/file"),
        ("other", "harm"),
        ("hard", tarfile.LNKTYPE, "way/file"),
        ("way/.wh.file", ""),
    )
    path = image([busybox_layer(), harm], Env=["PATH=/bin"])
    assert pyrunc.run(["cat", "/other"], rootfs=path).stdout == b"harm"
    assert (outside / "file").read_text() == "of the host"
    assert os.listdir(outside) == ["file"]


def test_devices_are_left_out(image):
    special = layer(
        ("disk", tarfile.BLKTYPE), ("null", tarfile.CHRTYPE), ("fifo", tarfile.FIFOTYPE)
    )
    path = image([busybox_layer(), special], Env=["PATH=/bin"])
    assert pyrunc.run(["ls", "/disk", "/null"], rootfs=path).stdout == b""
    assert pyrunc.run(["ls", "/fifo"], rootfs=path).ok


def test_a_changed_layer_is_found_out(tmp_path, kept_here):
    files = oci_files([busybox_layer()])
    name = max(files, key=lambda name: len(files[name]))
    files[name] = files[name][:-9] + bytes([files[name][-9] ^ 1]) + files[name][-8:]
    path = oci_layout(tmp_path / "image", files)
    with pytest.raises(pyrunc.ArchiveInvalid, match="not that of its digest"):
        pyrunc.run(["true"], rootfs=path)
    assert [x for x in os.listdir(kept_here) if not x.startswith(".lock")] == []


def test_a_layer_that_unpacks_to_something_else_is_found_out(tmp_path):
    docker_archive(tmp_path / "image", [busybox_layer()])
    content = (tmp_path / "image").read_bytes()
    (tmp_path / "image").write_bytes(content.replace(b"worker:x:1000", b"worker:x:0000"))
    with pytest.raises(pyrunc.ArchiveInvalid, match="not that of its digest"):
        pyrunc.run(["true"], rootfs=tmp_path / "image")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"no archive",
        gzip.compress(b"no archive"),
        b"\x28\xb5\x2f\xfd" + bytes(100),
        bytes(10240),
    ],
)
def test_what_is_no_archive(tmp_path, content):
    path = tmp_path / "image"
    path.write_bytes(content)
    with pytest.raises(pyrunc.Error):
        pyrunc.run(["true"], rootfs=path)


def test_several_images_are_one_too_many(tmp_path):
    files = oci_files([busybox_layer()])
    index = files["index.json"].decode()
    at = index.index("[") + 1
    files["index.json"] = (index[:at] + index[at : index.rindex("]")] + ", " + index[at:]).encode()
    with pytest.raises(pyrunc.ArchiveInvalid, match="save one image alone"):
        pyrunc.run(["true"], rootfs=oci_archive(tmp_path / "image", files))


def test_digests_are_of_the_right_form(tmp_path):
    files = oci_files([busybox_layer()])
    files["index.json"] = files["index.json"].replace(b"sha256:", b"sha256:../../")
    with pytest.raises(pyrunc.ArchiveInvalid, match="is not a SHA-256 digest"):
        pyrunc.run(["true"], rootfs=oci_archive(tmp_path / "image", files))


def test_without_a_program_of_its_own_an_image_needs_one(image):
    with pytest.raises(pyrunc.InvalidArgument, match="give argv"):
        pyrunc.run(None, rootfs=image([busybox_layer()]))
