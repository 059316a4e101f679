"""All of the library, as a type checker sees it; never run. See test_types.py."""

from __future__ import annotations

from typing import Any, assert_type

import pyrunc
from pyrunc import PIPE, Change, Container, Executor, Process, Result, Sandbox, Spec, aio


def run() -> None:
    assert_type(pyrunc.run(["true"]), Result[bytes])
    result = pyrunc.run(["true"], text=True, timeout=1.5, memory="64M", swap=0, pids=5, cpu=0.5)
    assert_type(result, Result[str])
    assert_type(result.stdout, str)
    assert_type(result.cpu_time, float | None)
    assert_type(result.memory_peak, int | None)
    assert_type(result.ok, bool)
    if result.status == "timeout":
        result.check()
    pyrunc.run(None, rootfs="x.tar", input=b"", output=None, stop_on_output=True, check=True)
    pyrunc.run(["true"], binds={"/a": "b"}, env={"A": "b"}, user=(1, 2), network=True, pool=2)


def sandbox() -> None:
    with Sandbox(rootfs=None, disk="1G", files=5, hostname="h", best_effort=True) as box:
        assert_type(box, Sandbox)
        assert_type(box.run(["true"], cwd="/", cpu_time=1), Result[bytes])
        assert_type(box.run(["true"], text=True), Result[str])
        process = box.start(["cat"], stdin=PIPE, stdout=PIPE, stderr=pyrunc.STDOUT, terminal=False)
        assert_type(process, Process)
        assert_type(process.communicate(b""), tuple[bytes, bytes])
        assert_type(process.returncode, int | None)
        assert_type(process.wait(1.0), int)
        process.resize(24, 80)
        assert_type(box.read_file("/x"), bytes)
        box.write_file("/x", "text", mode=0o600)
        box.put("a", "/a")
        box.get("/a", "b")
        assert_type(box.changes(), list[Change])
        box.update(memory="1G", pids=3)
        box.reset()
        box.start(["cat"], checkpointable=True)
        assert_type(box.checkpoint("/images", leave_running=True), dict[str, int])
    with Sandbox.restore("/images", stdin=PIPE, timeout=1.0, memory="1G") as copy:
        assert_type(copy, Sandbox)
        assert_type(copy.process, Process | None)


def runtime() -> None:
    made = pyrunc.Runtime(None, systemd_cgroup=True, max_running=3)
    other = pyrunc.Runtime("/run/x", command=["runsc", "--platform=systrap"])
    assert_type(other.containers(), list[Container])
    spec = Spec.default("/", ["true"]).with_memory("1G").with_pids(2).readonly().without_network()
    assert_type(spec, Spec)
    with made.create(spec, "id", stdout=PIPE) as container:
        assert_type(container, Container)
        container.start()
        assert_type(container.status, str)
        assert_type(container.exec(["true"]), Process)
        assert_type(container.wait(), int)
        for event in container.events(1):
            assert_type(event["type"], Any)
        container.delete(force=True)


def executor() -> None:
    with Executor(2, results="json", memory="1G") as pool:
        assert_type(pool.submit(len, "x").result(), int)


async def asynchronous() -> None:
    assert_type(await aio.run(["true"]), Result[bytes])
    async with aio.Sandbox(memory="1G") as box:
        assert_type(await box.run(["true"], text=True), Result[str])
        process = await box.start(["cat"], stdin=PIPE)
        assert_type(process, aio.Process)
        assert_type(await process.wait(), int)
        assert_type(await box.checkpoint("/images", file_locks=True), dict[str, int])
    async with await aio.Sandbox.restore("/images", stdout=PIPE) as copy:
        assert_type(copy.process, aio.Process | None)
    made = aio.Runtime(command="runc", max_running=1)
    async with await made.create(Spec.default("/", ["true"])) as container:
        await container.start()
        assert_type(await container.checkpoint("/images", leave_running=True), dict[str, int])
        assert_type(await container.status, str)
        async for _ in container.events():
            break


def errors() -> None:
    try:
        pyrunc.run(["true"])
    except pyrunc.NotEnforced as error:
        assert_type(error.limit, str)
        assert_type(error.hint, str)
    except pyrunc.ProgramFailed as error:
        error.result.check()
