"""A small file read in one go, by the native module and without it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from errno import EFBIG, EINVAL, ELOOP, ENOENT, ENXIO, EPERM
from pathlib import Path

import pytest

from pyrunc.linux import libc

FLAGS = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC


@pytest.fixture(params=["native", "posix"])
def directory(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[int]:
    native = getattr(libc._load(), "fetch", None)
    if request.param == "native" and native is None:
        pytest.skip("pyrunc.linux._syscall was not built here")
    monkeypatch.setattr(libc, "_fetch", native if request.param == "native" else None)
    before = set(os.listdir("/proc/self/fd"))
    opened = os.open(tmp_path, os.O_PATH)
    yield opened
    os.close(opened)
    assert set(os.listdir("/proc/self/fd")) == before, "nothing that was opened stays so"


@pytest.mark.parametrize("size", [0, 1, 100, 4095])
def test_the_whole_of_a_file(directory: int, tmp_path: Path, size: int) -> None:
    content = os.urandom(size)
    (tmp_path / "file").write_bytes(content)
    assert libc.fetch(directory, b"file", FLAGS, stat.S_IFREG, 4096) == content
    assert libc.fetch(directory, b"file", FLAGS, 0, 4096) == content
    assert libc.fetch(libc.AT_FDCWD, bytes(tmp_path / "file"), FLAGS, 0, 4096) == content


@pytest.mark.parametrize(("size", "most"), [(4096, 4096), (9999, 4096), (64, 64), (65, 64)])
def test_more_than_was_asked_for(directory: int, tmp_path: Path, size: int, most: int) -> None:
    (tmp_path / "file").write_bytes(bytes(size))
    assert libc.fetch(directory, b"file", FLAGS, stat.S_IFREG, most) == -EFBIG
    assert libc.fetch(directory, b"file", FLAGS, 0, most) == -EFBIG


def test_a_file_of_another_kind_is_not_read(directory: int, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "directory").mkdir()
    (tmp_path / "link").symlink_to("fifo")
    assert libc.fetch(directory, b"fifo", FLAGS, stat.S_IFREG, 4096) == -EINVAL
    assert libc.fetch(directory, b"directory", FLAGS, stat.S_IFREG, 4096) == -EINVAL
    assert libc.fetch(directory, b"link", FLAGS, stat.S_IFREG, 4096) == -ELOOP
    assert libc.fetch(directory, b"none", FLAGS, stat.S_IFREG, 4096) == -ENOENT


@pytest.mark.parametrize(
    ("mode", "owner", "expected"),
    [
        (0o600, 0, b"x"), (0o644, 0, b"x"), (0o620, 0, -EPERM), (0o602, 0, -EPERM),
        (0o600, 1000, -EPERM),
    ],
)  # fmt: skip
def test_a_file_that_others_can_write_to(
    directory: int, tmp_path: Path, mode: int, owner: int, expected: bytes | int
) -> None:
    """Who asks names the bits of the mode that it must not have; and then it is nobody else's."""
    path = tmp_path / "file"
    path.write_bytes(b"x")
    path.chmod(mode)
    os.chown(path, owner, owner)
    assert libc.fetch(directory, b"file", FLAGS, stat.S_IFREG | 0o022, 4096) == expected
    assert libc.fetch(directory, b"file", FLAGS, stat.S_IFREG, 4096) == b"x"


def test_whether_a_fifo_is_read_from(directory: int, tmp_path: Path) -> None:
    flags = FLAGS | os.O_WRONLY
    os.mkfifo(tmp_path / "fifo")
    assert libc.fetch(directory, b"fifo", flags, stat.S_IFIFO, 0) == -ENXIO
    reader = os.open(tmp_path / "fifo", os.O_RDONLY | os.O_NONBLOCK)
    try:
        assert libc.fetch(directory, b"fifo", flags, stat.S_IFIFO, 0) == b""
    finally:
        os.close(reader)


def test_what_the_kernel_makes_up(directory: int) -> None:
    line = libc.fetch(libc.AT_FDCWD, b"/proc/%d/stat" % os.getpid(), os.O_RDONLY, 0, 4096)
    assert isinstance(line, bytes)
    assert line.startswith(b"%d (" % os.getpid())
    assert line.endswith(b"\n")
