"""The first command of a kind keeps which pages it has written to; later ones have them copied."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from snapshots import OFF, Installation, fresh, installation, needed, state_root

__all__ = ["fresh", "installation", "state_root"]
pytestmark = needed

OTHER = 4321


def footprint(installation: Installation, command: str = "list") -> Path:
    return installation.snapshot.with_name(f"{installation.snapshot.name}.{command}")


def list_containers(installation: Installation, tmp_path: Path, **how) -> None:
    done = installation.run("--root", str(tmp_path / "root"), "list", "--quiet", **how)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def areas_of(path: Path) -> tuple[int, list[tuple[int, int]]]:
    content = path.read_bytes()
    assert len(content) % 16 == 8
    (stamp,) = struct.unpack_from("=Q", content)
    return stamp, list(struct.iter_unpack("=2Q", content[8:]))


def tables(installation: Installation) -> tuple[int, list[tuple[int, int]]]:
    """Return the snapshot's stamp, and where it is copied when it is written to."""
    with installation.snapshot.open("rb") as file:
        files, segments, stamp = struct.unpack_from("=3Q", file.read(48), 24)
        file.seek(48 + 224 + 336 + files * 64)
        table = [struct.unpack("=3Qq2Q", file.read(48)) for _ in range(segments)]
    return stamp, [(start, end) for start, end, protection, *_ in table if protection & 2]


def test_the_first_command_of_a_kind_keeps_it(installation, tmp_path):
    assert not footprint(installation).exists()
    list_containers(installation, tmp_path)
    status = footprint(installation).stat()
    assert (status.st_uid, status.st_mode & 0o7777) == (0, 0o600)
    stamp, areas = areas_of(footprint(installation))
    made, places = tables(installation)
    assert stamp == made
    ends = 0
    for start, size in areas:
        assert start % 4096 == size % 4096 == 0
        assert start > ends, "they are in order, and joined where they meet"
        ends = start + size
        # Two that lie side by side may have been one.
        assert size == sum(max(0, min(end, ends) - max(begin, start)) for begin, end in places)
    assert 50 < sum(size for _, size in areas) // 4096 < 1000
    list_containers(installation, tmp_path)
    assert footprint(installation).stat().st_ino == status.st_ino, "it is kept once"


def test_commands_that_fail_or_start_in_the_ordinary_way_keep_none(installation, tmp_path):
    root = str(tmp_path / "root")
    assert installation.run("--root", root, "state", "nobody").returncode == 1
    list_containers(installation, tmp_path, env=OFF)
    assert not footprint(installation, "state").exists()
    assert not footprint(installation).exists()


@pytest.mark.parametrize("word", ["list", "delete"])
def test_a_word_that_is_no_command_does_no_harm(installation, tmp_path, word):
    """The launcher does not know flags: it takes the first word that could be one."""
    (tmp_path / word).mkdir(mode=0o700)
    for _ in range(2):
        done = installation.run("--root", word, "list", "--quiet", cwd=tmp_path)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert footprint(installation, word).exists()


def advised(installation: Installation, tmp_path: Path) -> str:
    """Return how a command has asked for copies of pages."""
    if not shutil.which("strace"):
        pytest.skip("needs strace")
    told = tmp_path / "strace"
    strace = ["strace", "-e", "trace=madvise,process_madvise", "-o", told, installation.launcher]
    subprocess.run([*strace, "--root", tmp_path / "root", "list"], check=True, capture_output=True)
    return "".join(line for line in told.open() if "POPULATE_WRITE" in line)


def test_later_commands_have_the_pages_copied(installation, tmp_path):
    assert advised(installation, tmp_path) == ""
    list_containers(installation, tmp_path)
    start, _ = areas_of(footprint(installation))[1][0]
    assert f"{start:#x}" in advised(installation, tmp_path)


def of_another_user(path: Path) -> None:
    os.chown(path, OTHER, OTHER)


def open_to_others(path: Path) -> None:
    path.chmod(0o620)


def of_another_snapshot(path: Path) -> None:
    path.write_bytes(bytes(8) + path.read_bytes()[8:])


def cut(path: Path) -> None:
    os.truncate(path, 7)


def a_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


def a_link(path: Path) -> None:
    path.symlink_to(path.rename(path.with_suffix(".good")))


@pytest.mark.parametrize(
    "spoil", [of_another_user, open_to_others, of_another_snapshot, cut, a_fifo, a_link]
)
def test_one_that_is_not_ours_or_not_of_this_snapshot_is_replaced(installation, tmp_path, spoil):
    list_containers(installation, tmp_path)
    good = areas_of(footprint(installation))
    spoil(footprint(installation))
    assert advised(installation, tmp_path) == ""
    stamp, areas = areas_of(footprint(installation))
    assert footprint(installation).stat().st_mode == 0o100600
    assert stamp == good[0]
    assert areas


def test_one_that_lies_does_no_harm(installation, tmp_path):
    """Only its owner can write it. It says where this process copies its own memory, not what."""
    list_containers(installation, tmp_path)
    stamp, _ = areas_of(footprint(installation))
    for start, size in ((0, 4096), (1, 1), (2**63, 2**63), (0x400000, 4096), (2**64 - 4096, 4096)):
        lie = struct.pack("=3Q", stamp, start, size) + bytes(100)
        footprint(installation).write_bytes(lie)
        list_containers(installation, tmp_path)


def test_it_is_removed_with_its_snapshot(fresh, tmp_path):
    fresh.warm_up()
    list_containers(fresh, tmp_path)
    assert footprint(fresh).exists()
    others = []
    try:
        os.utime(fresh.snapshot, (0, 0))
        for number in range(8):
            other = Installation(tmp_path / f"other{number}")
            others.append(other)
            other.warm_up()
        assert not fresh.snapshot.exists()
        assert not footprint(fresh).exists()
    finally:
        for other in others:
            other.remove()
