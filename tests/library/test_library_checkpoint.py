"""Containers of the library, saved and restored, sync and asyncio."""

from __future__ import annotations

import asyncio
import os
import shutil
import tarfile

import pytest
from images import BUSYBOX, busybox_layer

import pyrunc
from pyrunc import PIPE, Spec

pytestmark = pytest.mark.usefixtures("no_remains", "criu")

#: Says each line that it reads, with how many there were before.
LINES = "n=0; echo ready; while read line; do echo $n $line; n=$((n+1)); done"


@pytest.fixture
def spec(tmp_path):
    if not BUSYBOX.exists():
        pytest.skip(f"needs {BUSYBOX} (package busybox-static)")
    (tmp_path / "layer.tar").write_bytes(busybox_layer())
    with tarfile.open(tmp_path / "layer.tar") as archive:
        archive.extractall(tmp_path / "rootfs")
    # The least that CRIU needs in a root that it cannot write to is made by the restore.
    shutil.rmtree(tmp_path / "rootfs/tmp", ignore_errors=True)
    return Spec.default(tmp_path / "rootfs", ["/bin/sh", "-c", LINES])


def begun(runtime, spec):
    container = runtime.create(spec, stdin=PIPE, stdout=PIPE)
    container.start()
    assert container.process.stdout.readline() == b"ready\n"
    return container


def say(container, line):
    container.process.stdin.write(line)
    return container.process.stdout.readline()


def test_each_copy_goes_on_where_it_was(runtime, spec, tmp_path):
    container = begun(runtime, spec)
    assert say(container, b"one\n") == b"0 one\n"
    took = container.checkpoint(tmp_path / "images")
    assert took["bytesWritten"] > 0
    assert took["frozenMicroseconds"] > 0
    assert container.wait(10) == -9
    with pytest.raises(pyrunc.NotFound):
        container.state()
    for number in range(3):
        with runtime.restore(tmp_path / "images", stdin=PIPE, stdout=PIPE) as copy:
            assert copy.status == "running"
            assert say(copy, b"two\n") == b"1 two\n"
            if number == 2:
                copy.process.stdin.close()
                assert copy.wait(10) == 0


def test_it_can_go_on_and_be_restored_with_another_spec(runtime, spec, tmp_path):
    container = begun(runtime, spec)
    container.checkpoint(tmp_path / "images", leave_running=True, work_path=tmp_path / "work")
    assert (tmp_path / "work/dump.log").exists()
    assert container.status == "running"
    assert say(container, b"still\n") == b"0 still\n"
    other = spec.with_memory("64M")
    with runtime.restore(tmp_path / "images", other, "its-name", stdin=PIPE, stdout=PIPE) as copy:
        assert copy.id == "its-name"
        assert say(copy, b"also\n") == b"0 also\n"
        assert copy.stats()["memory"]["usage"]["limit"] == 64 << 20
        with pytest.raises(pyrunc.AlreadyExists):
            runtime.restore(tmp_path / "images", other, "its-name")
        assert say(copy, b"again\n") == b"1 again\n"


def test_what_cannot_be_saved_goes_on(runtime, spec, tmp_path):
    container = begun(runtime, spec)
    intruder = container.exec(["/bin/sleep", "1000"])
    with pytest.raises(pyrunc.Error, match="was brought in by `exec`"):
        container.checkpoint(tmp_path / "images")
    assert say(container, b"on\n") == b"0 on\n"
    intruder.kill()
    intruder.wait()
    container.checkpoint(tmp_path / "images")
    with pytest.raises(pyrunc.NotFound):
        container.checkpoint(tmp_path / "images")


def test_a_restore_that_fails_leaves_nothing(runtime, spec, tmp_path):
    begun(runtime, spec).checkpoint(tmp_path / "images")
    (tmp_path / "images/pstree.img").write_bytes(b"garbage")
    with pytest.raises(pyrunc.Error, match=r"CRIU: .*restore\.log"):
        runtime.restore(tmp_path / "images")
    assert runtime.containers() == []
    with pytest.raises(pyrunc.Error, match="no such file"):
        runtime.restore(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"leave_runing": True}, "unknown argument 'leave_runing'"),
        ({"leave_running": 1}, "leave_running must be a bool"),
        ({"manage_cgroups_mode": "hard"}, "must be one of 'ignore', 'soft', 'full', 'strict'"),
    ],
)
def test_arguments_that_make_no_sense(runtime, spec, tmp_path, arguments, words):
    container = begun(runtime, spec)
    with pytest.raises(pyrunc.InvalidArgument, match=words):
        container.checkpoint(tmp_path / "images", **arguments)


def test_memory_that_is_cut_off(runtime, spec, tmp_path):
    """Seen: CRIU 4.2 filled its log for ever."""
    begun(runtime, spec).checkpoint(tmp_path / "images")
    os.truncate(tmp_path / "images/pages-1.img", 4096)
    with pytest.raises(pyrunc.Error, match=r"images/pages-1\.img has 4096 bytes of \d+"):
        runtime.restore(tmp_path / "images")
    assert runtime.containers() == []


def test_without_criu_it_says_so(runtime, spec, tmp_path, monkeypatch):
    container = begun(runtime, spec)
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(pyrunc.Error, match=r"criu is not in \$PATH"):
        container.checkpoint(tmp_path / "images")
    assert container.status == "running"


def test_with_asyncio_the_engine_goes_on_meanwhile(runtime, spec, tmp_path):
    async def main():
        made = pyrunc.aio.Runtime(runtime.root)
        container = await made.create(spec, stdin=PIPE, stdout=PIPE)
        await container.start()
        assert await container.process.stdout.readline() == b"ready\n"
        took, other = await asyncio.gather(
            container.checkpoint(tmp_path / "images"), pyrunc.aio.run(["echo", "meanwhile"])
        )
        assert took["pagesWritten"] > 0
        assert other.stdout == b"meanwhile\n"
        assert await container.process.wait() == -9

        async def copy(number):
            restored = await made.restore(tmp_path / "images", stdin=PIPE, stdout=PIPE)
            async with restored:
                stdout, _ = await restored.process.communicate(b"%d\n" % number)
                return stdout

        return await asyncio.gather(*map(copy, range(4)))

    assert asyncio.run(main()) == [b"0 %d\n" % number for number in range(4)]
