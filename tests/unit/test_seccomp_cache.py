"""The cache of compiled filters: fast when it can be trusted, ignored in every other case."""

from __future__ import annotations

import ctypes
import json
import os
import pathlib
import subprocess
import sys
import time

import pytest

import pyrunc
from pyrunc.security import seccomp_cache, seccomp_store
from pyrunc.security.libseccomp import LIBRARY
from pyrunc.security.seccomp import filter_for

try:
    ctypes.CDLL(LIBRARY)
except OSError:
    pytest.skip(f"{LIBRARY} is not installed", allow_module_level=True)

CONFIGS = pathlib.Path(__file__).parent.parent / "data" / "configs"
SECTION = {
    "defaultAction": "SCMP_ACT_ALLOW",
    "syscalls": [{"names": ["getcwd"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}],
}
OTHER = {**SECTION, "defaultAction": "SCMP_ACT_LOG"}
HOT = (
    "import sys, posix; sys.path.insert(0, sys.argv[1])\n"
    "before = set(sys.modules)\n"
    "from pyrunc.security import capabilities, lsm, seccomp\n"
    "import marshal\n"
    "found = seccomp.filter_for(eval(sys.argv[2]), sys.argv[3])\n"
    "print(*sorted(set(sys.modules) - before))\n"
)


@pytest.fixture
def cache(tmp_path: pathlib.Path) -> pathlib.Path:
    return tmp_path / "cache"


def only_file(cache: pathlib.Path) -> pathlib.Path:
    (file,) = cache.iterdir()
    return file


def was_used(file: pathlib.Path, cache: pathlib.Path, section: dict = SECTION) -> bool:
    """Tell whether ``section`` is answered from ``file``: what is compiled anew replaces it."""
    before = file.lstat().st_ino, file.lstat().st_mtime_ns
    filter_for(section, str(cache))
    return (file.lstat().st_ino, file.lstat().st_mtime_ns) == before


def imported_by_a_fresh_process(section: dict, cache: pathlib.Path) -> set[str]:
    source = str(pathlib.Path(pyrunc.__file__ or "").parent.parent)
    run = [sys.executable, "-I", "-S", "-c", HOT, source, repr(section), str(cache)]
    return set(subprocess.run(run, check=True, capture_output=True, text=True).stdout.split())


def test_the_second_time_nothing_is_compiled(cache):
    first = filter_for(SECTION, str(cache))
    assert was_used(only_file(cache), cache)
    second = filter_for(SECTION, str(cache))
    assert (second.bpf, second.flags, second.notify) == (first.bpf, first.flags, first.notify)


def test_a_hit_imports_nothing_slow(cache):
    assert "ctypes" in imported_by_a_fresh_process(SECTION, cache)
    light = {"__future__", "marshal", "time", "errno", "_ctypes", "_struct", "_blake2"}
    imported = imported_by_a_fresh_process(SECTION, cache)
    assert {name for name in imported if not name.startswith("pyrunc")} <= light
    assert not {name for name in imported if "compile" in name or "store" in name}


def test_a_hit_takes_a_fraction_of_a_millisecond(cache):
    profile = json.loads((CONFIGS / "podman-seccomp.json").read_text())["linux"]["seccomp"]
    filter_for(profile, str(cache))
    times = []
    for _ in range(30):
        start = time.perf_counter()
        filter_for(profile, str(cache))
        times.append(time.perf_counter() - start)
    assert min(times) < 0.0003


def test_listener_is_told_from_the_section_and_kept_notify(cache):
    section = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "listenerPath": "/run/agent.sock",
        "listenerMetadata": "name",
        "syscalls": [{"names": ["mkdirat"], "action": "SCMP_ACT_NOTIFY"}],
    }
    for _ in range(2):
        found = filter_for(section, str(cache))
        assert found.notify
        assert found.flags & 8
        assert (found.listener_path, found.metadata) == ("/run/agent.sock", "name")


def test_directory_and_file_are_private(cache):
    filter_for(SECTION, str(cache))
    assert cache.stat().st_mode & 0o7777 == 0o700
    assert only_file(cache).stat().st_mode & 0o7777 == 0o600


def test_every_damaged_byte_is_noticed_and_the_file_replaced(cache):
    good = filter_for(SECTION, str(cache)).bpf
    file = only_file(cache)
    content = file.read_bytes()
    for position in range(len(content)):
        damaged = bytearray(content)
        damaged[position] ^= 0x40
        assert seccomp_cache._decode(seccomp_cache.cache_key(SECTION), bytes(damaged)) is None
    for damaged in (b"", content[:20], content[:-8], content + bytes(8), b"x" + content[1:]):
        file.write_bytes(damaged)
        assert filter_for(SECTION, str(cache)).bpf == good
        assert file.read_bytes() == content


def test_a_file_of_another_section_is_not_taken(cache):
    filter_for(OTHER, str(cache))
    only_file(cache).rename(cache / f"{seccomp_cache.cache_key(SECTION).hex()}.bpf")
    assert not was_used(only_file(cache), cache)


def test_the_key_tells_sections_apart_and_takes_equal_ones_for_one():
    again = json.loads(json.dumps(SECTION))
    assert seccomp_cache.cache_key(SECTION) == seccomp_cache.cache_key(again)
    for changed in ({"defaultAction": "SCMP_ACT_LOG"}, {"flags": []}, {"x": 1}, {"x": True}):
        assert seccomp_cache.cache_key({**SECTION, **changed}) != seccomp_cache.cache_key(SECTION)
    assert seccomp_cache.cache_key({"x": 1}) != seccomp_cache.cache_key({"x": True})


def test_another_libseccomp_compiles_anew(cache, tmp_path):
    filter_for(SECTION, str(cache))
    key, file = seccomp_cache.cache_key(SECTION), only_file(cache)
    content = file.read_bytes()[seccomp_cache.DIGEST_SIZE :]
    fields = list(seccomp_cache.HEADER.unpack_from(content))
    fields[6] += 1  # mtime: the package was upgraded
    content = seccomp_cache.HEADER.pack(*fields) + content[seccomp_cache.HEADER.size :]
    file.write_bytes(seccomp_cache.checksum(key, content) + content)
    assert not was_used(file, cache)
    assert was_used(file, cache)


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777])
def test_a_directory_others_may_write_to_is_left_alone(cache, mode):
    filter_for(SECTION, str(cache))
    file = only_file(cache)
    file.write_bytes(b"untouched")
    cache.chmod(mode)
    assert filter_for(SECTION, str(cache)).bpf
    assert file.read_bytes() == b"untouched"


def test_a_file_others_may_write_to_is_not_taken(cache):
    filter_for(SECTION, str(cache))
    file = only_file(cache)
    file.chmod(0o666)
    assert not was_used(file, cache)
    assert file.stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give files away")
def test_what_belongs_to_another_user_is_not_taken(cache):
    filter_for(SECTION, str(cache))
    file = only_file(cache)
    os.chown(file, 1000, 1000)
    assert not was_used(file, cache)
    os.chown(cache, 1000, 1000)
    assert filter_for(OTHER, str(cache)).bpf
    assert len(list(cache.iterdir())) == 1


def test_links_are_not_followed(cache, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    filter_for(SECTION, str(elsewhere))
    cache.symlink_to(elsewhere)
    filter_for(OTHER, str(cache))
    assert len(list(elsewhere.iterdir())) == 1
    cache.unlink()
    cache.mkdir(0o700)
    link = cache / only_file(elsewhere).name
    link.symlink_to(only_file(elsewhere))
    assert not was_used(link, cache)
    assert not link.is_symlink()
    assert only_file(elsewhere).exists()


@pytest.mark.timeout(20)
def test_a_fifo_does_not_hold_us_up(cache):
    cache.mkdir(0o700)
    os.mkfifo(cache / f"{seccomp_cache.cache_key(SECTION).hex()}.bpf", 0o600)
    assert filter_for(SECTION, str(cache)).bpf
    assert only_file(cache).is_file()


def test_without_a_place_to_write_it_works_all_the_same(tmp_path):
    assert filter_for(SECTION, str(tmp_path / "missing" / "cache")).bpf
    file = tmp_path / "file"
    file.touch()
    assert filter_for(SECTION, str(file)).bpf


def test_the_number_of_files_is_bounded_and_the_oldest_go_first(cache):
    cache.mkdir(0o700)
    for age in range(seccomp_store.KEPT + 5):
        file = cache / f"{age:02}.bpf"
        file.touch()
        os.utime(file, (1_000_000 - age,) * 2)
    filter_for(SECTION, str(cache))
    names = {file.name for file in cache.iterdir()}
    assert len(names) == seccomp_store.KEPT
    assert f"{seccomp_cache.cache_key(SECTION).hex()}.bpf" in names
    assert "00.bpf" in names
    assert f"{seccomp_store.KEPT + 4:02}.bpf" not in names


def test_many_at_once_leave_one_whole_file(cache):
    children = []
    for _ in range(6):
        child = os.fork()
        if child == 0:
            try:
                os._exit(0 if filter_for(SECTION, str(cache)).bpf else 1)
            except BaseException:
                os._exit(2)
        children.append(child)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 6
    assert was_used(only_file(cache), cache)
