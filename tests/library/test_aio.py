"""`pyrunc.aio`: the same, awaited; and what a cancelled task leaves, which is nothing."""

from __future__ import annotations

import asyncio

import pytest
from conftest import cancel_early, children_of, keeper_and_engine

import pyrunc
from pyrunc import PIPE, aio

pytestmark = pytest.mark.usefixtures("no_remains")


def test_many_runs_at_the_same_time():
    async def main():
        runs = (aio.run(["echo", str(n)], text=True, timeout=60) for n in range(16))
        return [result.stdout for result in await asyncio.gather(*runs)]

    assert asyncio.run(main()) == [f"{n}\n" for n in range(16)]


def test_the_loop_goes_on_meanwhile():
    async def main():
        run = asyncio.create_task(aio.run(["sleep", "0.3"]))
        turns = 0
        while not run.done():
            await asyncio.sleep(0.01)
            turns += 1
        return turns, (await run).status

    turns, status = asyncio.run(main())
    assert status == "exited"
    assert turns > 3


def test_a_cancelled_run_is_gone_when_the_cancellation_comes_out():
    async def main():
        assert (await aio.run(["true"])).ok
        _, engine = keeper_and_engine()
        run = asyncio.create_task(aio.run(["sh", "-c", "trap '' TERM; sleep 1000 & sleep 1000"]))
        while not children_of(engine):
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.3)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        return children_of(engine)

    assert asyncio.run(main()) == []


def test_cancelled_twice_it_is_gone_all_the_same():
    async def main():
        assert (await aio.run(["true"])).ok
        _, engine = keeper_and_engine()
        run = asyncio.create_task(aio.run(["sleep", "1000"]))
        while not children_of(engine):
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.3)
        run.cancel()
        await asyncio.sleep(0)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        return children_of(engine)

    assert asyncio.run(main()) == []


def test_a_cancelled_start_leaves_no_process():
    async def main():
        async with aio.Sandbox() as box:
            await cancel_early(lambda: box.start(["sleep", "1000"]))
            async with asyncio.timeout(20):
                while await box.pids():
                    await asyncio.sleep(0.01)

    asyncio.run(main())


def test_asyncio_s_own_timeout():
    async def main():
        async with asyncio.timeout(0.5):
            await aio.run(["sleep", "1000"], timeout=None)

    with pytest.raises(TimeoutError):
        asyncio.run(main())


def test_a_loop_that_is_closed_over_a_run_says_nothing(recwarn):
    loop = asyncio.new_event_loop()
    task = loop.create_task(aio.run(["sleep", "1000"]))
    loop.run_until_complete(asyncio.sleep(0.3))
    task.cancel()
    loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
    loop.close()
    assert not [str(w.message) for w in recwarn]


def test_a_sandbox():
    async def main():
        async with aio.Sandbox(memory="128M") as box:
            await box.write_file("/tmp/main.py", "import sys; print(sys.stdin.read()[::-1])")
            process = await box.start(["python3", "/tmp/main.py"], stdin=PIPE, stdout=PIPE)
            stdout, _ = await process.communicate(b"abc")
            assert stdout == b"cba\n"
            assert process.returncode == 0
            assert (await box.run(["cat", "/tmp/main.py"], text=True)).stdout.startswith("import")
            assert [change.path for change in await box.changes()] == ["/tmp/main.py"]
            await box.update(pids=5)
            await box.pause()
            await box.resume()
            assert await box.pids() == []
            assert (await box.stats())["pids"]["limit"] == 6
            await box.reset()
            assert await box.changes() == []
            with pytest.raises(pyrunc.FileMissing):
                await box.read_file("/tmp/main.py")

    asyncio.run(main())


def test_a_process_is_read_line_by_line():
    async def main():
        async with (
            aio.Sandbox() as box,
            await box.start(["sh", "-c", "while read x; do echo got $x; done"], stdin=PIPE,
                            stdout=PIPE) as process,
        ):  # fmt: skip
            for word in ("one", "two"):
                process.stdin.write(f"{word}\n".encode())
                await process.stdin.drain()
                assert await process.stdout.readline() == f"got {word}\n".encode()
            process.stdin.close()
            waiters = [asyncio.create_task(process.wait()) for _ in range(3)]
            assert await asyncio.gather(*waiters) == [0, 0, 0]

    asyncio.run(main())


def test_errors_are_the_same():
    async def main():
        with pytest.raises(pyrunc.ProgramNotFound):
            await aio.run(["no-such-program"])
        async with aio.Sandbox() as box:
            process = await box.start(["sleep", "1000"])
            with pytest.raises(pyrunc.TimeoutExpired):
                await process.wait(0.1)
            result = await box.run(["sleep", "1000"], timeout=0.2)
            assert result.status == "timeout"
            assert await process.wait() == -9

    asyncio.run(main())


def test_an_exception_in_the_block_closes_the_sandbox():
    async def main():
        async with aio.Sandbox() as box:
            await box.start(["sleep", "1000"])
            raise KeyError

    with pytest.raises(KeyError):
        asyncio.run(main())


def test_both_faces_have_the_same_names():
    for name in aio.__all__:
        assert hasattr(pyrunc, name)
    for name in ("Sandbox", "Process"):
        sync, asynchronous = (
            {x for x in vars(getattr(module, name)) if x[0] != "_"} for module in (pyrunc, aio)
        )
        assert sync - asynchronous <= {"poll"}
        assert asynchronous - sync == set()
