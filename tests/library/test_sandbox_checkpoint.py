"""Sandboxes on disk: the program goes on where it was, among the files that it had."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import WORK, keeper_and_engine, wait_until_gone

import pyrunc
from pyrunc import PIPE, Sandbox
from pyrunc.engine import client

pytestmark = pytest.mark.usefixtures("no_remains", "criu")

#: Says each line that it reads, with how many there were before.
LINES = "n=0; echo ready; while read line; do echo $n $line; n=$((n+1)); done"
SHELL = ["sh", "-c", LINES]
#: Not nobody: to save another user's processes takes CAP_SYS_RESOURCE, which root may lack.
ROOT = {"user": 0}


def begun(box, argv=SHELL):
    process = box.start(argv, stdin=PIPE, stdout=PIPE, checkpointable=True)
    assert process.stdout.readline() == b"ready\n"
    return process


def say(process, line):
    process.stdin.write(line)
    return process.stdout.readline()


@pytest.fixture
def images(tmp_path):
    """A shell that was told one line, with a file."""
    with Sandbox(**ROOT) as box:
        box.write_file(f"{WORK}/file", "content")
        process = begun(box)
        assert say(process, b"one\n") == b"0 one\n"
        assert box.checkpoint(tmp_path / "images")["pagesWritten"] > 0
        assert process.wait(10) == -9
    return tmp_path / "images"


def test_each_copy_goes_on_where_it_was(images):
    def copy(number):
        with Sandbox.restore(images, stdin=PIPE, stdout=PIPE) as box:
            assert box.process.args == tuple(SHELL)
            assert box.process.returncode is None
            assert box.pids() == [box.process.pid]
            assert box.read_file(f"{WORK}/file") == b"content"
            box.write_file(f"{WORK}/file", b"%d" % number)
            assert say(box.process, b"%d\n" % number) == b"1 %d\n" % number
            # Other programs see the same files.
            assert box.run(["cat", f"{WORK}/file"]).stdout == b"%d" % number
            assert box.process.communicate(b"bye\n")[0] == b"2 bye\n"
            assert box.process.result.status == "exited"
            # A container without the program, but with its files.
            assert box.run(["cat", f"{WORK}/file"]).stdout == b"%d" % number
            return number

    assert copy(0) == 0
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(copy, range(1, 5))) == [1, 2, 3, 4]


def test_it_can_go_on(tmp_path):
    with Sandbox(**ROOT) as box:
        process = begun(box)
        box.checkpoint(tmp_path / "images", leave_running=True)
        assert say(process, b"still\n") == b"0 still\n"
        box.write_file(f"{WORK}/later", "")
        with Sandbox.restore(tmp_path / "images", stdin=PIPE, stdout=PIPE) as copy:
            assert say(copy.process, b"too\n") == b"0 too\n"
            assert copy.changes() == []
            # What was restored can be saved again.
            copy.write_file(f"{WORK}/copy", "")
            copy.checkpoint(tmp_path / "second")
        with Sandbox.restore(tmp_path / "second", stdin=PIPE, stdout=PIPE) as copy:
            assert say(copy.process, b"three\n") == b"1 three\n"
            assert [change.path for change in copy.changes()] == [f"{WORK}/copy"]
        assert say(process, b"on\n") == b"1 on\n"


def test_the_sandbox_is_there_after_its_program_was_saved(tmp_path):
    with Sandbox(**ROOT) as box:
        process = begun(box)
        box.write_file(f"{WORK}/file", "content")
        box.checkpoint(tmp_path / "images")
        assert process.wait(10) == -9
        assert box.run(["cat", f"{WORK}/file"]).stdout == b"content"
        assert say(begun(box), b"anew\n") == b"0 anew\n"


def test_whatever_can_be_in_a_layer_comes_back(tmp_path, rootfs):
    """Over a directory, with a bind mount, and limits of its own."""
    (tmp_path / "bound").mkdir()
    script = """
        mkdir -p /made/deep; echo new > /made/deep/file; ln /made/deep/file /made/link
        ln -s deep/file /made/symlink; mkfifo /made/fifo; chmod 4711 /made/deep/file
        touch -d '2001-02-03 04:05:06' /made/deep; chown 7:8 /made/fifo
        rm /bin/sleep; rm -r /etc; mkdir /etc; echo only > /etc/only
        echo more >> /bound/file
    """
    binds = {"/bound:rw": tmp_path / "bound"}
    look = "cd /; find . \\( -path ./proc -o -path ./dev \\) -prune -o -path ./tmp -o -exec stat -c"
    # CRIU needs a place in /tmp for a while, whose time changes by that.
    look += " '%n %f %u %g %Y' {} +; stat -c %h /made/deep/file"
    with Sandbox(rootfs=rootfs, binds=binds, pids=20, **ROOT) as box:
        box.run(["sh", "-c", script], check=True)
        process = begun(box)
        before = sorted(box.changes())
        there = box.run(["sh", "-c", look], check=True).stdout
        assert process.poll() is None
        box.checkpoint(tmp_path / "images")
    with Sandbox.restore(tmp_path / "images", stdin=PIPE, stdout=PIPE, memory="64M") as box:
        assert sorted(box.changes()) == before
        assert sorted(box.run(["sh", "-c", look]).stdout.split(b"\n")) == sorted(there.split(b"\n"))
        assert box.run(["cat", "/made/symlink", "/etc/only", "/bound/file"]).stdout == (
            b"new\nonly\nmore\n"
        )
        stats = box.stats()
        assert stats["memory"]["usage"]["limit"] == 64 << 20
        assert stats["pids"]["limit"] == 21
        box.reset()
        # The place of the bind mount.
        assert box.changes() == [("/bound", "added")]


def test_a_tree_of_processes_with_pipes(tmp_path):
    code = """
import subprocess, sys
child = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
deleted = open("/tmp/deleted", "w+")
import os; os.unlink("/tmp/deleted"); deleted.write("gone but open"); deleted.flush()
print("ready", flush=True)
line = input().encode()
stdout, _ = child.communicate(line)
deleted.seek(0)
print(stdout.decode(), child.returncode, deleted.read(), flush=True)
"""
    with Sandbox(**ROOT) as box:
        process = begun(box, ["python3", "-c", code])
        box.checkpoint(tmp_path / "images")
        assert process.wait() == -9
    for _ in range(2):
        with Sandbox.restore(tmp_path / "images", stdin=PIPE, stdout=PIPE) as copy:
            assert len(copy.pids()) == 2
            assert copy.process.communicate(b"through it\n")[0] == b"through it 0 gone but open\n"


def test_files_are_as_they_were_at_the_moment_of_the_memory(tmp_path):
    """The layer is large: saving it takes its time, in which the program must stand still."""
    code = """
import os, select
file = os.open("/tmp/count", os.O_RDWR | os.O_CREAT)
count = 0
os.pwrite(file, b"%010d" % count, 0)
print("ready", flush=True)
while not select.select([0], [], [], 0)[0]:
    there = int(os.pread(file, 10, 0))
    if there != count:
        print(f"{there} instead of {count}", flush=True)
        break
    count += 1
    os.pwrite(file, b"%010d" % count, 0)
print("always the same")
"""
    with Sandbox(**ROOT) as box:
        box.write_file(f"{WORK}/large", os.urandom(20 << 20))
        process = begun(box, ["python3", "-c", code])
        box.checkpoint(tmp_path / "images", leave_running=True)
        assert process.communicate(b"\n")[0] == b"always the same\n"
    with Sandbox.restore(tmp_path / "images", stdin=PIPE, stdout=PIPE) as copy:
        assert copy.process.communicate(b"\n")[0] == b"always the same\n"


def test_locks_and_connections_when_asked_for(tmp_path):
    code = """
import fcntl, socket
server = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(server.getsockname())
peer, _ = server.accept()
lock = open("/tmp/lock", "w")
fcntl.flock(lock, fcntl.LOCK_EX)
print("ready", flush=True)
input()
client.sendall(b"still connected")
print(peer.recv(100).decode())
"""
    with Sandbox(**ROOT) as box:
        process = begun(box, ["python3", "-c", code])
        with pytest.raises(pyrunc.Error, match="with a lock on /tmp/lock"):
            box.checkpoint(tmp_path / "images")
        with pytest.raises(pyrunc.Error, match="open TCP connection"):
            box.checkpoint(tmp_path / "images", file_locks=True)
        assert process.poll() is None
        box.checkpoint(tmp_path / "images", file_locks=True, tcp_established=True)
    with Sandbox.restore(tmp_path / "images", stdin=PIPE, stdout=PIPE) as copy:
        assert copy.process.communicate(b"\n")[0] == b"still connected\n"


def test_what_cannot_be_saved_goes_on(tmp_path):
    with Sandbox(**ROOT) as box:
        with pytest.raises(pyrunc.WrongStatus, match="checkpointable=True"):
            box.checkpoint(tmp_path / "images")
        other = box.start(["sleep", "1000"])
        with pytest.raises(pyrunc.WrongStatus, match="must be the first in its sandbox"):
            box.start(SHELL, checkpointable=True)
        other.kill()
        other.wait()
        process = begun(box)
        with pytest.raises(pyrunc.WrongStatus, match="must be the first in its sandbox"):
            box.start(SHELL, checkpointable=True)
        other = box.start(["sleep", "1000"])
        with pytest.raises(pyrunc.WrongStatus, match=r"other programs \(1\) run in the sandbox"):
            box.checkpoint(tmp_path / "images")
        assert say(process, b"on\n") == b"0 on\n"
        other.kill()
        other.wait()
        box.checkpoint(tmp_path / "images")


def test_a_program_that_is_the_first_is_as_others_are(tmp_path):
    with Sandbox(**ROOT) as box:
        with pytest.raises(pyrunc.ProgramNotFound):
            box.start(["no-such-program"], checkpointable=True)
        with pytest.raises(pyrunc.InvalidArgument, match="cannot have a terminal"):
            box.start(SHELL, checkpointable=True, terminal=True)
        assert box.run(["true"]).returncode == 0
        process = begun(box)
        other = box.start(["sleep", "1000"])
        process.stdin.close()
        assert process.wait(10) == 0
        assert process.result.status == "exited"
        # All that runs in a container ends with its process 1.
        assert other.wait(10) == -9
        process = begun(box)
        process.close()
        assert box.run(["true"]).returncode == 0
        process = box.start(["sh", "-c", "while :; do :; done"], checkpointable=True, timeout=0.3)
        process.wait(10)
        assert process.result.status == "timeout"
        box.start(["sleep", "1000"], checkpointable=True)
        box.reset()


def test_limits_go_on_in_a_copy(images):
    with Sandbox.restore(images, stdin=PIPE, stdout=PIPE, timeout=0.3) as box:
        box.process.wait(10)
        assert box.process.result.status == "timeout"


def test_no_room_for_the_files(tmp_path):
    target = tmp_path / "images"
    target.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", target], check=True)
    try:
        with Sandbox(**ROOT) as box:
            box.write_file(f"{WORK}/large", os.urandom(8 << 20))
            process = begun(box)
            with pytest.raises(pyrunc.Error, match="cannot save the sandbox's files: no space"):
                box.checkpoint(target)
            assert say(process, b"on\n") == b"0 on\n"
            assert [path.name for path in target.iterdir()] == ["dump.log"]
            box.checkpoint(tmp_path / "elsewhere")
    finally:
        subprocess.run(["umount", target], check=True)


@pytest.mark.parametrize("what", ["pages-1.img", "layer.tar", "sandbox.json", "config.json"])
def test_damaged_images_leave_nothing(images, what):
    (images / what).write_bytes(b"garbage" * 1000)
    with pytest.raises(pyrunc.Error):
        Sandbox.restore(images)
    (images / what).unlink()
    with pytest.raises(pyrunc.Error):
        Sandbox.restore(images)


@pytest.mark.parametrize("name", ["../out", "link/out", "/tmp/out-of-a-sandbox"])
def test_no_name_of_a_layer_leads_out_of_it(images, name):
    os.mkdir(images.parent / "outside")
    with tarfile.open(images / "layer.tar", "w") as archive:
        link = tarfile.TarInfo("link")
        link.type, link.linkname = tarfile.SYMTYPE, str(images.parent / "outside")
        archive.addfile(link)
        archive.addfile(tarfile.TarInfo(name))
    try:
        Sandbox.restore(images).close()
    except pyrunc.Error as error:
        assert "cannot put back the sandbox's files" in str(error)
    assert not list((images.parent / "outside").iterdir())
    assert not (images.parent / "out").exists()
    assert not os.path.exists("/tmp/out-of-a-sandbox")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"user": 1}, "user cannot be another"),
        ({"network": True}, "network cannot be another"),
        ({"memori": "1M"}, "unknown argument 'memori'"),
    ],
)
def test_arguments_that_make_no_sense(images, arguments, words):
    with pytest.raises(pyrunc.InvalidArgument, match=words):
        Sandbox.restore(images, **arguments)


def test_what_is_no_sandbox(tmp_path):
    with pytest.raises(pyrunc.Error, match=r"sandbox\.json: no such file"):
        Sandbox.restore(tmp_path)


def test_another_user_s_programs_or_why_not(tmp_path):
    """The default is nobody, whose limits root may be unable to read."""
    status = Path("/proc/self/status").read_text()
    held = int(status.partition("CapEff:")[2].split()[0], 16)
    with Sandbox() as box:
        process = begun(box)
        if held >> 24 & 1:
            box.checkpoint(tmp_path / "images")
            with Sandbox.restore(tmp_path / "images", stdin=PIPE, stdout=PIPE) as copy:
                assert say(copy.process, b"mine\n") == b"0 mine\n"
        else:
            with pytest.raises(pyrunc.Error, match="that takes CAP_SYS_RESOURCE"):
                box.checkpoint(tmp_path / "images")
            assert say(process, b"on\n") == b"0 on\n"


@pytest.mark.parametrize("restored", [False, True])
def test_nothing_is_left_when_the_engine_is_killed(images, restored):
    client.engines().close()
    wait_until_gone()
    with Sandbox.restore(images, stdin=PIPE) if restored else Sandbox(**ROOT) as box:
        process = box.process or begun(box)
        _, engine = keeper_and_engine()
        os.kill(engine, signal.SIGKILL)
        wait_until_gone()
        with pytest.raises(pyrunc.EngineLost):
            box.pids()
        assert process.result.status == "lost"


def test_with_asyncio_the_engine_goes_on_meanwhile(tmp_path):
    async def main():
        async with pyrunc.aio.Sandbox(**ROOT) as box:
            process = await box.start(SHELL, stdin=PIPE, stdout=PIPE, checkpointable=True)
            assert await process.stdout.readline() == b"ready\n"
            _, other = await asyncio.gather(
                box.checkpoint(tmp_path / "images"), pyrunc.aio.run(["echo", "meanwhile"])
            )
            assert other.stdout == b"meanwhile\n"

        async def copy(number):
            box = await pyrunc.aio.Sandbox.restore(tmp_path / "images", stdin=PIPE, stdout=PIPE)
            async with box:
                return (await box.process.communicate(b"%d\n" % number))[0]

        return await asyncio.gather(*map(copy, range(4)))

    assert asyncio.run(main()) == [b"0 %d\n" % number for number in range(4)]
