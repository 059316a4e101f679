"""What the runtime reads below a container's root: looked at first, never waited for."""

from __future__ import annotations

import errno
import os
import socket
import stat
import time
from pathlib import Path

import pytest

from pyrunc.linux import files
from pyrunc.process.program import with_home

#: A loop device of which there is no driver's instance: opening it makes the kernel look for one.
NULL = os.makedev(1, 3)


def open_root(path: Path) -> int:
    return os.open(path, os.O_PATH | os.O_DIRECTORY)


def put(rootfs: Path, kind: str) -> None:
    """Put something that is not a regular file in place of /etc/passwd."""
    passwd = rootfs / "etc/passwd"
    passwd.unlink(missing_ok=True)
    match kind:
        case "device":
            os.mknod(passwd, stat.S_IFCHR | 0o666, NULL)
        case "fifo":
            os.mkfifo(passwd)
        case "socket":
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(str(passwd))
        case "directory":
            passwd.mkdir()
        case "link to a device":
            os.mknod(rootfs / "node", stat.S_IFCHR | 0o666, NULL)
            passwd.symlink_to("/node")
        case "link to procfs":
            passwd.symlink_to("/proc/kmsg")


KINDS = ("device", "fifo", "socket", "directory", "link to a device")


@pytest.mark.parametrize("kind", [*KINDS, "link to procfs"])
def test_exec_opens_no_passwd_that_is_not_a_regular_file(make_bundle, pyrunc, tmp_path, kind):
    """Seen without the look (open with O_RDONLY at once): strace shows the open of the device."""
    bundle = make_bundle(args=["sleep", "1000"])
    container = pyrunc.start(bundle)
    put(bundle.rootfs, kind)
    log = tmp_path / "strace"
    traced = ["strace", "-f", "-y", "-o", log, "-e", "trace=open,openat,openat2"]
    if not _has_strace():
        pytest.skip("strace is not installed")
    untraced, pyrunc.command = pyrunc.command, [*map(str, traced), *pyrunc.command]
    try:
        result = pyrunc.exec(container, "sh", "-c", "echo $HOME")
    finally:
        pyrunc.command = untraced
    assert (result.code, result.stdout) == (0, "/\n"), result
    target = {"link to a device": "/node>", "link to procfs": "/kmsg>"}.get(kind, "/etc/passwd>")
    opened = [
        line for line in log.read_text().splitlines()
        if target in line.rpartition("= ")[2] and "O_PATH" not in line
    ]  # fmt: skip
    assert opened == []


def _has_strace() -> bool:
    return any(Path(part, "strace").exists() for part in os.environ["PATH"].split(":"))


@pytest.mark.parametrize("kind", KINDS)
def test_run_opens_no_passwd_that_is_not_a_regular_file(make_bundle, pyrunc, kind):
    bundle = make_bundle(args=["sh", "-c", "echo $HOME"])
    put(bundle.rootfs, kind)
    result = pyrunc.run(bundle)
    assert (result.code, result.stdout) == (0, "/\n"), result


def test_run_reads_passwd_through_the_hosts_proc(make_bundle, pyrunc):
    """The image's own /proc/self/fd must not lead the reader astray.

    Seen with /proc/self/fd by name: HOME came from the planted file, and a device could be there.
    """
    bundle = make_bundle(args=["sh", "-c", "echo $HOME"])
    bundle.config["mounts"] = []
    bundle.linux.pop("maskedPaths")
    bundle.linux.pop("readonlyPaths")
    planted = bundle.rootfs / "proc/self/fd"
    planted.mkdir(parents=True)
    for number in range(64):
        (planted / str(number)).write_text("root:x:0:0::/planted:\n")
    result = pyrunc.run(bundle)
    assert (result.code, result.stdout) == (0, "/root\n"), result


@pytest.mark.parametrize(
    ("passwd", "home"),
    [
        (b"root:x:0:0:root:/a\0b:/bin/sh\n", "/"),
        (b"\0" * 5000, "/"),
        (b"ro\0ot:x:0:0::/home:\n", "/home"),
        (b"0:0:1:0::/wrong:" * 3, "/"),
        (b"a:x:0:\nroot:x:0:0::/second:", "/second"),
        (b"root:x:00:0::/zeros:\nroot:x:0:0::/zero:\n", "/zero"),
        (b"root:x:0:0::/\xff\xfe:\n", "/\udcff\udcfe"),
        (b":" * (1 << 22), "/"),
        (b":0:" * (1 << 20) + b"\n", "/"),
        (b":0:\n" * (1 << 20), "/"),
        (b"", "/"),
    ],
)
def test_any_passwd_is_data(tmp_path, passwd, home):
    """Seen: a zero byte in the field was an internal error of `exec` (embedded null byte)."""
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_bytes(passwd)
    root = open_root(tmp_path)
    started = time.monotonic()
    try:
        assert with_home(root, ["A=1"], 0) == ["A=1", f"HOME={home}"]
    finally:
        os.close(root)
    assert time.monotonic() - started < 5


def test_a_nul_in_passwd_is_no_internal_error(make_bundle, pyrunc):
    bundle = make_bundle(args=["sleep", "1000"])
    container = pyrunc.start(bundle)
    (bundle.rootfs / "etc/passwd").write_bytes(b"root:x:0:0:root:/a\0b:/bin/sh\n")
    result = pyrunc.exec(container, "sh", "-c", "echo $HOME")
    assert (result.code, result.stdout, result.stderr) == (0, "/\n", "")


def test_no_more_is_read_than_the_limit(tmp_path):
    (tmp_path / "file").write_bytes(b"x" * 100)
    root = open_root(tmp_path)
    try:
        assert files.read_in_root(root, "file", 10) == b"x" * 10
        os.truncate(tmp_path / "file", 1 << 40)
        assert len(files.read_in_root(root, "file", 1 << 20)) == 1 << 20
        os.mkfifo(tmp_path / "fifo")
        with pytest.raises(OSError, match="not a regular file") as refused:
            files.read_in_root(root, "fifo", 10)
        assert refused.value.errno == errno.EINVAL
    finally:
        os.close(root)


@pytest.mark.parametrize("kind", ["device", "fifo", "socket"])
def test_a_program_is_a_regular_file(make_bundle, pyrunc, kind):
    """An executable fifo in PATH must not hide the program behind it, nor be waited for."""
    bundle = make_bundle(args=["tool"])
    bundle.process["env"] = ["PATH=/first:/bin"]
    (bundle.rootfs / "first").mkdir()
    tool = bundle.rootfs / "first/tool"
    match kind:
        case "device":
            os.mknod(tool, stat.S_IFCHR | 0o777, NULL)
        case "fifo":
            os.mkfifo(tool)
        case "socket":
            with socket.socket(socket.AF_UNIX) as listener:
                listener.bind(str(tool))
    tool.chmod(0o777)
    (bundle.rootfs / "bin/tool").write_text("#!/bin/sh\necho found\n")
    (bundle.rootfs / "bin/tool").chmod(0o755)
    result = pyrunc.run(bundle)
    assert (result.code, result.stdout) == (0, "found\n"), result
    bundle.process["args"] = ["/first/tool"]
    result = pyrunc.run(bundle)
    assert result.code == 1
    assert "/first/tool" in result.stderr
    assert "permission denied" in result.stderr


def test_copy_up_opens_regular_files_alone(make_bundle, pyrunc):
    """Fifos and devices below a tmpfs with tmpcopyup are made anew, not read."""
    bundle = make_bundle()
    below = bundle.rootfs / "data"
    (below / "deep/er").mkdir(parents=True)
    os.mkfifo(below / "fifo")
    os.mknod(below / "null", stat.S_IFCHR | 0o640, NULL)
    (below / "null").chmod(0o640)
    (below / "link").symlink_to("/etc/shadow")
    (below / "deep/er/file").write_text("text\n")
    bundle.mount("/data", "tmpfs", "tmpfs", "tmpcopyup")
    bundle.shell("cd /data; stat -c '%n %F %a' fifo null; readlink link; cat deep/er/file")
    result = pyrunc.run(bundle)
    assert result.code == 0, result
    assert result.stdout.splitlines()[1:] == [
        "null character special file 640", "/etc/shadow", "text",
    ]  # fmt: skip
    assert result.stdout.startswith("fifo fifo")


def test_copy_up_of_a_tree_without_end_is_an_error(make_bundle, pyrunc):
    """Seen with plain recursion: "internal error: RecursionError", or no more descriptors."""
    bundle = make_bundle()
    directory = open_root(bundle.rootfs)
    for _ in range(400):
        os.mkdir("d", dir_fd=directory)
        inner = os.open("d", os.O_PATH | os.O_DIRECTORY, dir_fd=directory)
        os.close(directory)
        directory = inner
    os.close(directory)
    bundle.mount("/d", "tmpfs", "tmpfs", "tmpcopyup")
    result = pyrunc.run(bundle)
    assert result.code == 1
    assert "cannot mount tmpfs on /d: more than 100 directories" in result.stderr
    assert "internal error" not in result.stderr


def test_a_terminal_comes_from_the_multiplexer_alone(make_bundle, pyrunc):
    """/dev/pts/ptmx may be led elsewhere: nothing but (5, 2) of a devpts is opened."""
    bundle = make_bundle(args=["sleep", "1000"])
    bundle.config["mounts"] = [
        m for m in bundle.config["mounts"] if not m["destination"].startswith("/dev/")
    ]
    container = pyrunc.start(bundle)
    inside = Path(f"/proc/{pyrunc.state(container)['pid']}/root/dev")
    (inside / "pts").mkdir()
    os.mkfifo(inside / "pts/ptmx")
    result = pyrunc("exec", "--tty", container.id, "true", timeout=20)
    assert result.code == 255
    assert "/dev/pts/ptmx is not the multiplexer" in result.stderr
