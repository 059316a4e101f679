"""The walk that stands in for openat2(2): it leads where the kernel leads, or nowhere."""

from __future__ import annotations

import itertools
import os
from errno import ELOOP, EXDEV

import pytest

from pyrunc.linux import files
from pyrunc.linux.libc import syscall
from pyrunc.linux.numbers import SYS

RULES = {
    "in root": files.RESOLVE_IN_ROOT,
    "in root, no magic": files.RESOLVE_IN_ROOT | files.RESOLVE_NO_MAGICLINKS,
    "in root, no links": files.RESOLVE_IN_ROOT | files.RESOLVE_NO_SYMLINKS,
    "in root, one mount": files.RESOLVE_IN_ROOT | files.RESOLVE_NO_XDEV,
    "beneath": files.RESOLVE_BENEATH,
    "beneath, no links": files.RESOLVE_BENEATH | files.RESOLVE_NO_SYMLINKS,
}
FLAGS = {
    "look": os.O_PATH,
    "look at the link": os.O_PATH | os.O_NOFOLLOW,
    "look at a directory": os.O_PATH | os.O_DIRECTORY,
    "read": os.O_RDONLY | os.O_NONBLOCK,
    "read, no link": os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW,
}
PATHS = [
    "", "/", ".", "..", "/..", "a", "/a", "a/", "a/.", "a/..", "a/../..", "../a", "file", "/file",
    "file/", "file/.", "file/..", "missing", "a/missing", "missing/a", "missing/..", "a//b",
    "to-a", "to-a/", "to-a/b", "to-file", "to-file/", "to-nothing", "to-nothing/x", "absolute",
    "absolute/b", "up", "up/a", "out", "out/etc", "to-b/..", "to-b/../file", "loop", "loop/x",
    "chain", "a/b/back", "a/b/back/file", "far", "a/to-top/a", "fifo", "to-fifo", "\udcff",
]  # fmt: skip


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    top = tmp_path_factory.mktemp("tree")
    (top / "a/b").mkdir(parents=True)
    (top / "file").write_text("content")
    os.mkfifo(top / "fifo")
    for name, target in {
        "to-a": "a", "to-b": "a/b", "to-file": "file", "to-nothing": "nothing", "loop": "loop",
        "absolute": "/a", "up": "..", "out": "../../../..", "a/b/back": "../..", "to-fifo": "fifo",
        "a/to-top": "/", "far": "a/b/back/a/b/back/to-file",
        **{f"chain{i}": f"chain{i + 1}" for i in range(45)}, "chain45": "a", "chain": "chain10",
    }.items():  # fmt: skip
        (top / name).symlink_to(target)
    return top


def outcome(open_it):
    """Return what was found, as device and inode, and whether it is a bare place; or the errno."""
    try:
        descriptor = open_it()
    except OSError as error:
        return error.errno
    status, flags = os.fstat(descriptor), os.get_inheritable(descriptor)
    os.close(descriptor)
    return status.st_dev, status.st_ino, flags


@pytest.mark.parametrize("rules", RULES)
@pytest.mark.parametrize("flags", FLAGS)
def test_it_leads_where_the_kernel_leads(tree, rules, flags):
    top = os.open(tree, os.O_PATH)
    differences = []
    for path in PATHS:
        arguments = (top, path, FLAGS[flags], RULES[rules])
        by_kernel = outcome(lambda arguments=arguments: files.openat2(*arguments))
        by_hand = outcome(lambda arguments=arguments: files._walk(*arguments, OSError()))
        if by_kernel != by_hand:
            differences.append((path, by_kernel, by_hand))
    os.close(top)
    assert differences == []


def test_it_leaves_nothing_open(tree):
    top = os.open(tree, os.O_PATH)
    before = os.listdir("/proc/self/fd")
    for path, flags, rules in itertools.product(PATHS, FLAGS.values(), RULES.values()):
        outcome(lambda a=(top, path, flags, rules): files._walk(*a, OSError()))
    assert os.listdir("/proc/self/fd") == before
    os.close(top)


def test_other_mounts_are_another_place():
    """/dev and what is mounted below it, on every host."""
    top = os.open("/", os.O_PATH)
    rules = files.RESOLVE_IN_ROOT | files.RESOLVE_NO_XDEV
    for path in ("proc", "proc/self/status", "dev/pts", "etc"):
        by_kernel = outcome(lambda p=path: files.openat2(top, p, os.O_PATH, rules))
        assert outcome(lambda p=path: files._walk(top, p, os.O_PATH, rules, OSError())) == by_kernel
    os.close(top)


def test_without_rules_a_path_of_the_host_is_meant():
    rules = files.RESOLVE_NO_MAGICLINKS
    for path in ("/dev/null", "/etc/../dev/null", "/proc/self/exe"):
        by_kernel = outcome(lambda p=path: files.openat2(-100, p, os.O_PATH, rules))
        by_hand = outcome(lambda p=path: files._walk(-100, p, os.O_PATH, rules, OSError()))
        assert by_hand == by_kernel


@pytest.mark.parametrize("path", ["self/cwd", "self/exe", "self/root/etc", "self/fd/0"])
def test_magic_links_of_procfs_are_not_followed(path):
    proc = os.open("/proc", os.O_PATH)
    rules = files.RESOLVE_IN_ROOT | files.RESOLVE_NO_MAGICLINKS
    try:
        assert outcome(lambda: files.openat2(proc, path, os.O_PATH, rules)) == ELOOP
        assert outcome(lambda: files._walk(proc, path, os.O_PATH, rules, OSError())) == ELOOP
        ordinary = outcome(lambda: files._walk(proc, "self/status", os.O_PATH, rules, OSError()))
        assert isinstance(ordinary, tuple)
    finally:
        os.close(proc)


def test_a_file_bound_over_one_of_procfs_is_not_written_to(tmp_path):
    """In a child with a mount namespace of its own; the mount is of the same file system."""
    if os.geteuid():
        pytest.skip("mounting needs root")
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            syscall(SYS["unshare"], 0x00020000)
            syscall(SYS["mount"], b"none\0", b"/\0", 0, 0x44000, 0)
            covered = b"/proc/sys/kernel/domainname\0"
            syscall(SYS["mount"], b"/proc/sys/kernel/hostname\0", covered, 0, 0x1000, 0)
            proc = files.open_host_proc()
            rules = files.RESOLVE_BENEATH | files.RESOLVE_NO_SYMLINKS | files.RESOLVE_NO_XDEV
            results = [
                outcome(
                    lambda n=n: files._walk(proc, f"sys/kernel/{n}", os.O_WRONLY, rules, OSError())
                )
                for n in ("domainname", "hostname")
            ]
            code = 0 if results[0] == EXDEV and isinstance(results[1], tuple) else 2
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0
