"""Files that are made beside a path of the caller's, in a directory where others may write."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pyrunc.container.record.pid_file import write_pid_file
from pyrunc.linux.given_files import open_or_make

VICTIM = "precious\n"


@pytest.fixture
def victim(tmp_path):
    path = tmp_path / "victim"
    path.write_text(VICTIM)
    return path


def plant(link: Path, target: Path, owner: int = 1000) -> None:
    link.symlink_to(target)
    os.chown(link, owner, owner, follow_symlinks=False)


def test_the_pid_files_other_name_is_nobodys_link(make_bundle, pyrunc, tmp_path, victim):
    """Seen: .NAME was opened with O_TRUNC through the link, and the victim held a pid."""
    shared = tmp_path / "shared"
    shared.mkdir(mode=0o777)
    for name in (".pid", ".pid.tmp", ".pid.new", "pid.tmp"):
        plant(shared / name, victim)
    container = pyrunc.create(make_bundle(), "--pid-file", str(shared / "pid"))
    assert container.code == 0
    assert victim.read_text() == VICTIM
    assert (shared / "pid").read_text() == str(pyrunc.state(container)["pid"])
    assert sorted(os.listdir(shared)) == [".pid", ".pid.new", ".pid.tmp", "pid", "pid.tmp"]


def test_the_pid_file_takes_the_place_of_a_link(make_bundle, pyrunc, tmp_path, victim):
    plant(tmp_path / "pid", victim)
    assert pyrunc.create(make_bundle(), "--pid-file", str(tmp_path / "pid")).code == 0
    assert victim.read_text() == VICTIM
    assert not (tmp_path / "pid").is_symlink()


def test_a_pid_file_that_cannot_be_renamed_leaves_nothing(tmp_path):
    (tmp_path / "pid").mkdir()
    with pytest.raises(Exception, match="cannot write pid file"):
        write_pid_file(str(tmp_path / "pid"), 1)
    assert os.listdir(tmp_path) == ["pid"]


@pytest.mark.parametrize("option", ["--log", "--trace"])
def test_log_and_trace_do_not_follow_anothers_link(pyrunc, tmp_path, victim, option):
    """Seen: the log was appended to the victim, the trace took its place."""
    plant(tmp_path / "out", victim)
    result = pyrunc("--debug", option, str(tmp_path / "out"), "state", "nobody")
    assert result.code == 1
    assert "it is a symbolic link of another user" in result.stderr
    assert victim.read_text() == VICTIM


@pytest.mark.parametrize("option", ["--log", "--trace"])
def test_log_and_trace_go_where_our_own_links_lead(pyrunc, tmp_path, option):
    """Also to what is not there yet, and through links of /proc."""
    (tmp_path / "out").symlink_to("deeper/target")
    (tmp_path / "deeper").mkdir()
    (tmp_path / "deeper/target").symlink_to("../real")
    pyrunc("--debug", option, str(tmp_path / "out"), "list")
    assert (tmp_path / "real").read_text()
    (tmp_path / "stdout").symlink_to("/dev/stdout")
    result = pyrunc("--debug", option, str(tmp_path / "stdout"), "list")
    assert "debug" in result.stdout or "thread_name" in result.stdout


def test_a_dangling_link_of_another_makes_nothing(pyrunc, tmp_path):
    plant(tmp_path / "out", tmp_path / "made")
    assert pyrunc("--log", str(tmp_path / "out"), "list").code == 1
    assert not (tmp_path / "made").exists()


def test_links_in_a_circle_end(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError, match="Too many levels"):
        open_or_make(str(tmp_path / "a"), os.O_WRONLY)


def test_a_log_that_is_a_fifo_is_not_waited_for(pyrunc, tmp_path):
    os.mkfifo(tmp_path / "log")
    result = pyrunc("--log", str(tmp_path / "log"), "list", timeout=20)
    assert result.code == 1
    assert "cannot open log file" in result.stderr


def test_a_log_swapped_for_a_link_all_the_time(tmp_path, victim):
    """A thousand opens against a process that swaps file, link and nothing."""
    log = tmp_path / "log"
    swapper = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import os, sys\n"
            "log, victim = sys.argv[1:]\n"
            "while True:\n"
            "    os.symlink(victim, log + '.l'); os.lchown(log + '.l', 1000, 1000)\n"
            "    os.rename(log + '.l', log)\n"
            "    open(log + '.f', 'w').close(); os.rename(log + '.f', log)\n"
            "    os.unlink(log)\n",
            str(log),
            str(victim),
        ]
    )
    refused = opened = 0
    try:
        deadline = time.monotonic() + 20
        while refused + opened < 1000 and time.monotonic() < deadline:
            try:
                descriptor = open_or_make(str(log), os.O_WRONLY | os.O_APPEND)
            except OSError:
                refused += 1
                continue
            os.write(descriptor, b"x")
            os.close(descriptor)
            opened += 1
    finally:
        swapper.kill()
        swapper.wait()
    assert victim.read_text() == VICTIM
    assert opened


def test_the_notify_sockets_mode_changes_nothing_else(tmp_path, victim, monkeypatch):
    """A container with CAP_SYS_ADMIN may write where the socket is made.

    Seen with chmod by name: the link was followed, and the victim had mode 0777.
    """
    from pyrunc.errors import Error
    from pyrunc.process import notify

    victim.chmod(0o600)
    notify.make_directory(os.open(tmp_path, os.O_PATH))
    directory = os.open(tmp_path / "notify", os.O_PATH)
    (tmp_path / "notify/notify.sock").symlink_to(victim)
    with pytest.raises((Error, OSError)):
        notify._let_everybody_in(directory)
    (tmp_path / "notify/notify.sock").unlink()
    os.link(victim, tmp_path / "notify/notify.sock")
    with pytest.raises(Error, match="replaced by the container"):
        notify._let_everybody_in(directory)
    os.close(directory)
    assert victim.stat().st_mode & 0o777 == 0o600
