"""`Runtime(command=...)`: the lower floor through the command lines of runc and crun."""

from __future__ import annotations

import asyncio
import os
import select
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from conftest import PREAMBLE, engine_processes, shown_on, wait_until_gone

import pyrunc
from pyrunc import PIPE, STDOUT, Spec

pytestmark = pytest.mark.usefixtures("no_remains")


@pytest.fixture(params=["runc", "crun"])
def command(request):
    if shutil.which(request.param) is None:
        pytest.skip(f"needs {request.param}")
    return request.param


@pytest.fixture
def runtime(command, tmp_path):
    made = pyrunc.Runtime(tmp_path / "state", command=command)
    yield made
    for container in made.containers():
        container.delete(force=True)
    assert made.containers() == []
    assert not Path(f"{made.root}.bundles").exists()


@pytest.fixture
def spec(rootfs):
    return Spec.default(rootfs, ["/bin/sh", "-c", "read x; echo got $x; exit 3"]).readonly(False)


@pytest.fixture
def sleeper(spec):
    return spec.with_args("/bin/sleep", "1000")


def test_a_container_s_life(runtime, spec):
    assert runtime.containers() == []
    with runtime.create(spec, stdin=PIPE, stdout=PIPE) as container:
        assert container.status == "created"
        container.start()
        assert container.status == "running"
        assert container.pids() == [container.process.pid]
        assert [c.id for c in runtime.containers()] == [container.id]
        script = "echo from exec >&2; echo $A; pwd; id -u; exit 4"
        other = container.exec(
            ["/bin/sh", "-c", script], stdout=PIPE, stderr=STDOUT, env={"A": "1"}, cwd="/bin",
            user=(5, 6),
        )  # fmt: skip
        assert other.communicate()[0] == b"from exec\n1\n/bin\n5\n"
        assert other.returncode == 4
        container.pause()
        assert container.status == "paused"
        container.resume()
        container.update({"memory": {"limit": 64 << 20, "swap": 64 << 20}})
        assert container.process.communicate(b"word\n")[0] == b"got word\n"
        assert container.wait(20) == 3
        assert container.status == "stopped"
    with pytest.raises(pyrunc.NotFound):
        container.state()


def test_a_terminal(runtime, sleeper):
    with runtime.create(sleeper) as container:
        container.start()
        process = container.exec(["/bin/sh", "-c", "tty; stty size; read x"], terminal=True)
        process.resize(20, 70)
        os.write(process.terminal, b"\n")
        assert process.wait(20) == 0
        # The echo of what was written comes first, and may come alone.
        assert b"/dev/pts/" in shown_on(process.terminal)
        process.close()


def test_signals_reach_both_kinds_of_processes(runtime, sleeper):
    with runtime.create(sleeper) as container:
        container.start()
        other = container.exec(["/bin/sleep", "1000"])
        other.kill()
        assert other.wait(20) == -9
        container.kill(signal.SIGKILL)
        assert container.wait(20) == -9
        with pytest.raises(pyrunc.ProcessGone):
            other.kill()


def test_errors_are_told_by_the_state_of_things(runtime, sleeper):
    with runtime.create(sleeper, "one") as container:
        with pytest.raises(pyrunc.AlreadyExists):
            runtime.create(sleeper, "one")
        container.start()
        with pytest.raises(pyrunc.WrongStatus, match="start"):
            container.start()
        with pytest.raises(pyrunc.WrongStatus, match="delete"):
            container.delete()
        with pytest.raises(pyrunc.ProgramNotFound, match="no-such"):
            container.exec(["no-such"])
        container.kill(9)
        container.wait(20)
        with pytest.raises(pyrunc.WrongStatus, match="kill"):
            container.kill()
        with pytest.raises(pyrunc.WrongStatus, match="exec"):
            container.exec(["/bin/true"])
        with pytest.raises(pyrunc.CommandFailed, match="only pyrunc"):
            container.checkpoint("/nowhere")
    with pytest.raises(pyrunc.NotFound, match="delete"):
        container.delete()
    with pytest.raises(pyrunc.NotFound):
        runtime.container("nobody")
    with pytest.raises(pyrunc.ProgramNotFound, match="no-such"):
        runtime.create(sleeper.with_args("no-such"))
    with pytest.raises(pyrunc.Error, match="invalid container ID"):
        runtime.create(sleeper, "../up")


def test_statistics_and_events_where_the_command_has_them(runtime, sleeper, command):
    with runtime.create(sleeper.with_memory("64M")) as container:
        container.start()
        if command == "crun":
            for ask in (container.stats, lambda: next(container.events(0.1))):
                with pytest.raises(pyrunc.CommandFailed, match="crun events: unknown command"):
                    ask()
            return
        assert container.stats()["memory"]["usage"]["limit"] == 64 << 20
        events = container.events(0.1)
        assert [next(events)["type"] for _ in range(2)] == ["stats", "stats"]
        container.kill(9)
        assert {event["type"] for event in events} <= {"stats", "oom"}


def test_it_outlives_the_program_and_the_helper(runtime, sleeper, tmp_path):
    (tmp_path / "spec.json").write_text(sleeper.to_json())
    script = PREAMBLE + (
        f"spec = pyrunc.Spec.from_json(open({str(tmp_path / 'spec.json')!r}).read())\n"
        f"runtime = pyrunc.Runtime({runtime.root!r}, command={runtime.command!r})\n"
        "runtime.create(spec, 'keeps').start()\n"
    )
    done = subprocess.Popen([sys.executable, "-c", script])
    assert done.wait(60) == 0
    wait_until_gone(done.pid)
    container = runtime.container("keeps")
    assert container.status == "running"
    with pytest.raises(pyrunc.WrongStatus, match="another program"):
        container.wait()
    for pid in engine_processes():
        ended = os.pidfd_open(pid)
        signal.pidfd_send_signal(ended, signal.SIGKILL)
        # Its command line goes before its sockets do, and a pidfd tells of the end only then.
        select.select([ended], [], [])
        os.close(ended)
    assert container.exec(["/bin/sh", "-c", "exit 5"]).wait(20) == 5
    container.delete(force=True)


def test_with_asyncio_and_cancelled(runtime, spec):
    async def main():
        of_aio = pyrunc.aio.Runtime(runtime.root, command=runtime.command)
        async with await of_aio.create(spec, stdin=PIPE, stdout=PIPE) as container:
            await container.start()
            assert (await container.process.communicate(b"word\n"))[0] == b"got word\n"
            assert await container.wait(20) == 3
        for turns in range(4):
            task = asyncio.create_task(of_aio.create(spec))
            for _ in range(turns):
                await asyncio.sleep(0.005)
            task.cancel()
            try:
                made = await task
            except asyncio.CancelledError:
                continue
            # It was there before it could be cancelled.
            assert turns > 0
            await made.delete(force=True)
        assert await of_aio.containers() == []

    asyncio.run(main())


def test_options_of_the_command_and_one_that_is_not_there(tmp_path, command):
    with pytest.raises(pyrunc.InvalidArgument, match="no-such-runtime"):
        pyrunc.Runtime(command="no-such-runtime")
    runtime = pyrunc.Runtime(tmp_path / "state", command=[command, "--no-such-option"])
    with pytest.raises(pyrunc.CommandFailed, match="no-such-option"):
        runtime.containers()
    assert pyrunc.Runtime(command=command).root == f"/run/{command}"


@pytest.mark.parametrize("of", ["pyrunc", "runc"])
def test_so_many_run_at_a_time(of, tmp_path, sleeper):
    if of == "runc" and shutil.which("runc") is None:
        pytest.skip("needs runc")
    runtime = pyrunc.Runtime(
        tmp_path / "state", command=None if of == "pyrunc" else of, max_running=1
    )
    with runtime.create(sleeper) as one, runtime.create(sleeper) as two:
        one.start()
        starting = threading.Thread(target=two.start)
        starting.start()
        starting.join(0.3)
        assert (one.status, two.status) == ("running", "created")
        one.kill(9)
        starting.join(60)
        assert two.status == "running"
        with pytest.raises(pyrunc.WrongStatus):
            one.start()

    async def with_asyncio():
        runtime = pyrunc.aio.Runtime(tmp_path / "state", max_running=2)
        containers = [await runtime.create(sleeper) for _ in range(4)]
        starts = [asyncio.create_task(container.start()) for container in containers]
        alive = list(containers)
        while alive:
            statuses = [await container.status for container in alive]
            assert statuses.count("running") <= 2
            if "running" in statuses:
                ended = alive.pop(statuses.index("running"))
                await ended.kill(9)
                await ended.wait(60)
        await asyncio.gather(*starts)
        for container in containers:
            await container.delete(force=True)

    if of == "pyrunc":
        asyncio.run(with_asyncio())
    with pytest.raises(pyrunc.InvalidArgument, match="max_running"):
        pyrunc.Runtime(tmp_path / "state", max_running=0)
