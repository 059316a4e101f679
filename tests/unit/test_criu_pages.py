"""Memory in CRIU's images, whole or not."""

from __future__ import annotations

import os
import struct

import pytest

from pyrunc.checkpoint import pages
from pyrunc.checkpoint.messages import encode
from pyrunc.errors import Error

PAGE = os.sysconf("SC_PAGE_SIZE")
PARENT, LAZY, PRESENT = 1, 2, 4
_HEAD = {"pages_id": (1, int)}
_ENTRY = {
    "vaddr": (1, int),
    "compat_nr_pages": (2, int),
    "in_parent": (3, int),
    "flags": (4, int),
    "nr_pages": (5, int),
    "later": (6, int),
}


def pagemap(file, *entries):
    parts = [struct.pack("=II", 0x54564319, 0x56084025)]
    messages = [encode(_HEAD, {"pages_id": file})]
    messages += [encode(_ENTRY, {"vaddr": 1 << 46, **entry}) for entry in entries]
    for message in messages:
        parts += [struct.pack("=I", len(message)), message]
    return b"".join(parts)


def pstree(*numbers):
    parts = [struct.pack("=II", 0x54564319, 0x50273030)]
    for number in numbers:
        message = encode({"pid": (1, int), "ppid": (2, int)}, {"pid": number, "ppid": 0})
        parts += [struct.pack("=I", len(message)), message]
    return b"".join(parts)


@pytest.fixture
def images(tmp_path):
    """A function that writes a pagemap and as many bytes of pages, into ``step`` of a chain."""

    def make(*entries, size, step="images", name="pagemap-1.img", file=1):
        directory = tmp_path / step
        directory.mkdir(exist_ok=True)
        (directory / name).write_bytes(pagemap(file, *entries))
        if size is not None:
            (directory / f"pages-{file}.img").touch()
            os.truncate(directory / f"pages-{file}.img", size)
        return directory

    return make


def check(directory):
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        pages.check(descriptor, "images")
    finally:
        os.close(descriptor)


@pytest.mark.parametrize(
    "entries",
    [
        [{"flags": PRESENT, "nr_pages": 2}, {"flags": PRESENT | LAZY, "nr_pages": 1}],
        [{"flags": PRESENT, "compat_nr_pages": 0, "nr_pages": 3}],
        [{"flags": PRESENT, "compat_nr_pages": 3}],
        [{"compat_nr_pages": 2}, {"compat_nr_pages": 1, "in_parent": False}],
        # Not in these images: to be fetched from elsewhere.
        [{"flags": PRESENT, "nr_pages": 3}, {"flags": LAZY, "nr_pages": 9}],
    ],
)
def test_each_page_in_there_takes_its_room(images, entries):
    check(images(*entries, size=3 * PAGE))
    check(images(*entries, size=4 * PAGE))
    directory = images(*entries, size=3 * PAGE - 1)
    with pytest.raises(Error, match=f"images/pages-1.img has {3 * PAGE - 1} bytes of {3 * PAGE}"):
        check(directory)
    (directory / "pages-1.img").unlink()
    with pytest.raises(Error, match=r"images/pages-1\.img: no such file or directory"):
        check(directory)


def test_each_process_has_its_own(images):
    images({"flags": PRESENT, "nr_pages": 1}, size=PAGE)
    directory = images(
        {"flags": PRESENT, "nr_pages": 2}, size=PAGE, name="pagemap-shmem-7.img", file=2
    )
    with pytest.raises(Error, match=f"pages-2.img has {PAGE} bytes of {2 * PAGE}"):
        check(directory)


def test_what_an_earlier_checkpoint_has_left(images):
    """CRIU overwrites what has the same name; processes may have gone since."""
    images({"flags": PRESENT, "nr_pages": 3}, size=3 * PAGE, name="pagemap-7.img", file=2)
    images({"flags": PRESENT, "nr_pages": 3}, size=None, name="pagemap-shmem-7.img", file=1)
    directory = images({"flags": PRESENT, "nr_pages": 2}, size=2 * PAGE, file=1)
    images({"flags": PRESENT, "nr_pages": 2}, size=2 * PAGE, name="pagemap-9.img", file=2)
    tree = directory / "pstree.img"
    tree.write_bytes(pstree(1, 9))
    check(directory)
    for cut_off in (tree.read_bytes()[:-1], b""):
        tree.write_bytes(cut_off)
        check(directory)
    tree.write_bytes(pstree(1, 9))
    os.truncate(directory / "pages-2.img", PAGE)
    with pytest.raises(Error, match=f"pages-2.img has {PAGE} bytes of {2 * PAGE}"):
        check(directory)


def test_without_pages_there_need_be_no_file(images):
    check(images({"flags": LAZY, "nr_pages": 5}, size=None))


@pytest.mark.parametrize(
    ("in_parent", "elsewhere"), [({"flags": PARENT}, {"flags": PRESENT}), ({"in_parent": 1}, {})]
)
def test_the_parent_s_are_looked_at_where_they_are_used(images, in_parent, elsewhere):
    last = images({**in_parent, "compat_nr_pages": 2}, size=0)
    before = images({**elsewhere, "compat_nr_pages": 2}, size=2 * PAGE, step="before")
    # Of a process that has ended since.
    images({"flags": PRESENT, "nr_pages": 2}, size=0, step="before", name="pagemap-9.img", file=9)
    (last / "parent").symlink_to("../before")
    check(last)
    os.truncate(before / "pages-1.img", PAGE)
    with pytest.raises(Error, match=f"images/parent/pages-1.img has {PAGE} bytes of {2 * PAGE}"):
        check(last)


def test_a_chain_without_end(images):
    directory = images({"flags": PARENT, "nr_pages": 2}, size=0)
    (directory / "parent").symlink_to(".")
    with pytest.raises(Error, match="images/parent leads back"):
        check(directory)


def test_a_parent_that_is_missing_is_criu_s_to_name(images):
    check(images({"flags": PARENT, "nr_pages": 2}, size=0))


@pytest.mark.parametrize("entry", [{"flags": 8 | PRESENT}, {"flags": PRESENT, "later": 1}])
def test_what_is_not_known_is_left_to_criu(images, entry):
    check(images({"nr_pages": 2, **entry}, size=0))
    directory = images({"flags": PRESENT, "nr_pages": 2}, size=0)
    (directory / "pagemap-1.img").write_bytes(b"another image")
    check(directory)


def test_a_pagemap_that_is_cut_off(images):
    directory = images({"flags": PRESENT, "nr_pages": 2}, size=2 * PAGE)
    whole = (directory / "pagemap-1.img").read_bytes()
    for length in (0, 7, 10, len(whole) - 1):
        (directory / "pagemap-1.img").write_bytes(whole[:length])
        with pytest.raises(Error, match=r"cannot read images/pagemap-1\.img: cut off"):
            check(directory)


def test_a_pagemap_that_is_no_file(images):
    directory = images({"flags": PRESENT, "nr_pages": 2}, size=2 * PAGE)
    (directory / "pagemap-1.img").unlink()
    os.mkfifo(directory / "pagemap-1.img")
    with pytest.raises(Error, match="it is not a file"):
        check(directory)
