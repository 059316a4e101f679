"""What init does in processes that it brings forth: siblings, hooks."""

from __future__ import annotations

import errno
import os
import signal
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from init_program import Init, Pipe, init

from pyrunc.process.failure import parse_failure, printed_in
from pyrunc.process.launch import PID_WIDTH, LaunchProgram, Pointer
from pyrunc.process.shared_page import failure_in, make_page, sibling_in, why_not_executed
from waiting import soon

__all__ = ["init"]


#: SECCOMP_RET_ALLOW.
ALLOW = 0x7FFF0000


#: Where the v2 hierarchy is, alone or beside v1.
UNIFIED = (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified"))


def gone(pid: int) -> bool:
    """Tell whether the process has ended, reaped or not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except FileNotFoundError:
        return True


@pytest.fixture
def page() -> Iterator[int]:
    """A page to share with init."""
    descriptor = make_page()
    os.set_inheritable(descriptor, True)
    yield descriptor
    os.close(descriptor)


def test_spawn_goes_on_in_a_sibling(init: Init, page: int) -> None:
    """The new process is its grandparent's child, and init's first process ends."""
    program = init.program()
    program.share(page)
    program.spawn("fork", until_executed=False)
    cell = program.cell()
    program.call("who am I", "getpid", store=cell)
    program.call("tell", "write", init.output.writing, cell, 8)
    first = init.start(program)
    assert init.wait(first) == 0
    second = sibling_in(page)
    assert init.wait(second) == 0  # waitpid works for children only
    assert struct.unpack("<q", init.output.read_all()) == (second,)
    assert second != first


def test_the_spawning_process_ends_when_the_other_has_executed(init: Init, page: int) -> None:
    program = init.program()
    program.share(page)
    program.spawn("fork", until_executed=True)
    program.execute("run", "/bin/sleep", ["sleep", "100"], [])
    assert init.wait(init.start(program)) == 0
    pid = sibling_in(page)
    assert why_not_executed(pid, program.describe()) == ""
    assert Path(f"/proc/{pid}/comm").read_text() == "sleep\n"
    os.kill(pid, signal.SIGKILL)
    assert init.wait(pid) == -signal.SIGKILL


@pytest.mark.parametrize("ends", [False, True])
def test_a_sibling_that_is_about_to_execute_is_waited_for(ends: bool) -> None:
    """Its maker goes on a little earlier. On a busy machine `exec` killed it now and then, and
    said that it had died."""
    pid = os.fork()
    if pid == 0:
        time.sleep(0.2)
        os.execv("/bin/sleep", ["sleep", "0" if ends else "100"])
    assert why_not_executed(pid, ["run the program"]) == ""
    if not ends:
        os.kill(pid, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == (0 if ends else -signal.SIGKILL)


@pytest.mark.parametrize("fails", ["chdir", "execve"])
def test_a_sibling_tells_by_its_end_what_failed(init: Init, page: int, fails: str) -> None:
    """It has nothing to write to, and an exit status like a program's."""
    program = init.program()
    program.share(page)
    program.spawn("fork", until_executed=True)
    for number in range(20):
        program.call(f"call {number}", "getpid")
    if fails == "chdir":
        program.call("enter the directory", "chdir", "/no/such")
    program.execute("run the program", "/no/such", ["x"], [])
    assert init.wait(init.start(program)) == 0
    what = "enter the directory" if fails == "chdir" else "run the program"
    why = why_not_executed(sibling_in(page), program.describe())
    assert why == f"{what}: no such file or directory"
    assert init.failure() is None


def test_the_page_is_not_the_siblings(init: Init, page: int) -> None:
    """MADV_DONTFORK: what the container could trace has nothing that leads to the runtime."""
    program = init.program()
    program.share(page)
    program.spawn("fork", until_executed=False)
    never = Pipe()
    program.await_byte("wait", never.reading)
    assert init.wait(init.start(program)) == 0
    pid = sibling_in(page)
    assert "memfd:shared" not in Path(f"/proc/{pid}/maps").read_text()
    os.kill(pid, signal.SIGKILL)
    init.wait(pid)
    never.close()


def test_what_fails_before_the_sibling_is_in_the_page(init: Init, page: int) -> None:
    program = init.program()
    program.share(page)
    program.call("enter the directory", "chdir", "/no/such")
    program.spawn("fork", until_executed=True)
    assert init.run(program) == 1
    assert sibling_in(page) == 0
    assert failure_in(page) == "enter the directory: no such file or directory"


def test_a_first_program_is_gone_when_the_second_runs(init: Init) -> None:
    first, second = init.program(), LaunchProgram()
    first.call("tell", "write", init.output.writing, b"a secret of the host's", 1)
    never = Pipe()
    second.call("tell", "write", init.output.writing, b"!", 1)
    second.await_byte("wait", never.reading)
    pid = init.start(first, bool, second)
    assert init.output.read(1) + init.output.read(1) == b"a!"
    never.close()
    maps = Path(f"/proc/{pid}/maps").read_text()
    assert maps.count("memfd:launch") == 1


def test_the_own_pid_is_written_as_text(init: Init) -> None:
    program = init.program()
    place = program.blob(bytes(PID_WIDTH))
    program.own_pid(place, b" ")
    program.call("tell", "write", init.output.writing, place, PID_WIDTH)
    pid = init.start(program)
    assert init.wait(pid) == 0
    assert init.output.read_all() == str(pid).ljust(PID_WIDTH).encode()


@pytest.mark.parametrize("reader_ends", [True, False])
def test_a_wait_ends_with_the_only_reader(init: Init, tmp_path: Path, reader_ends: bool) -> None:
    peer, way = Pipe(), Pipe()
    program = init.program()
    program.await_living("wait", way.reading, peer.writing)
    program.call("go on", "write", init.output.writing, b"!", 1)

    def close_reader() -> None:
        peer.close(peer.reading)

    pid = init.start(program, close_reader)
    if reader_ends:
        peer.close(peer.reading)
        assert init.wait(pid) == 1
        assert init.output.read_all() == b""
    else:
        os.write(way.writing, b".")
        peer.close(peer.reading)
        init.wait(pid)
        assert init.output.read_all() == b"!"
    peer.close()
    way.close()


@pytest.fixture
def cgroup() -> Iterator[Path]:
    """An empty cgroup of the v2 hierarchy."""
    mount = next((m for m in UNIFIED if (m / "cgroup.controllers").exists()), None)
    if mount is None or not os.access(mount, os.W_OK):
        pytest.skip("no cgroup v2 hierarchy that may be written to is mounted here")
    path = mount / f"pyrunc-init-{os.getpid()}"
    path.mkdir()
    yield path
    path.rmdir()


def test_spawn_into_goes_on_in_the_cgroup(init: Init, cgroup: Path) -> None:
    program = init.program()
    directory = os.open(cgroup, os.O_RDONLY)
    os.set_inheritable(directory, True)
    told = Pipe()
    program.spawn_into("be born in the cgroup", told.writing, directory)
    program.call("stdout", "dup3", init.output.writing, 1, 0)
    program.execute("look", "/bin/cat", ["cat", "/proc/self/cgroup"], [])
    first = init.start(program)
    (second,) = struct.unpack("<i", told.read())
    assert init.wait(first) == 0
    assert init.wait(second) == 0
    assert f"0::/{cgroup.name}\n" in init.output.read_all().decode()
    os.close(directory)
    told.close()


def test_spawn_into_a_cgroup_that_is_gone_goes_on_where_it_is(init: Init, cgroup: Path) -> None:
    program = init.program()
    gone = cgroup / "gone"
    gone.mkdir()
    directory = os.open(gone, os.O_RDONLY)
    gone.rmdir()
    os.set_inheritable(directory, True)
    told = Pipe()
    program.spawn_into("be born in the cgroup", told.writing, directory)
    program.call("go on", "write", init.output.writing, b"!", 1)
    assert init.run(program) == 0
    assert struct.unpack("<i", told.read())[0] < 0
    assert init.output.read_all() == b"!"
    os.close(directory)
    told.close()


def hook(
    init: Init,
    directory: Path,
    script: str,
    *,
    timeout: int = 0,
    env: tuple[str, ...] = (),
    output: int = -1,
    filter_of: Callable[[LaunchProgram], Pointer] | None = None,
) -> int:
    """Run a shell script as a hook, with a state on its stdin; return init's exit code."""
    state = directory / "state"
    state.write_text('{"id": "x"}')
    descriptor = os.open(state, os.O_RDONLY)
    os.set_inheritable(descriptor, True)
    program = init.program()
    shell = ["sh", "-c", script]
    seccomp = filter_of(program) if filter_of else None
    program.hook("the hook", "/bin/sh", shell, env, descriptor, output, timeout, seccomp)
    program.call("go on", "write", init.output.writing, b"!", 1)
    code = init.run(program)
    os.close(descriptor)
    return code


def test_a_hook_has_the_filter_of_the_program(init: Init, tmp_path: Path) -> None:
    """And init, which has others to run yet, does not."""

    def filter_of(program: LaunchProgram) -> Pointer:
        return program.seccomp_filter(0, program.sock_fprog(struct.pack("<HBBI", 6, 0, 0, ALLOW)))

    out = tmp_path / "out"
    script = f"grep ^Seccomp: /proc/self/status >{out}"
    assert hook(init, tmp_path, script, filter_of=filter_of) == 0
    assert out.read_text().split() == ["Seccomp:", "2"]


def test_what_a_failing_hook_printed_is_reported(init: Init, tmp_path: Path) -> None:
    output = os.memfd_create("output", 0)
    assert hook(init, tmp_path, "echo this; echo and that >&2; exit 3", output=output) == 1
    os.close(output)
    record = init.report.read_all()
    assert parse_failure(record) == (0, 0, 3 << 8, "the hook")
    assert printed_in(record) == ", output: this; and that"


def test_a_hook_gets_the_state_and_its_own_environment(init: Init, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert hook(init, tmp_path, f'cat >{out}; echo "$A" >>{out}', env=("A=b",)) == 0
    assert out.read_text() == '{"id": "x"}b\n'
    assert init.failure() is None
    assert init.output.read_all() == b"!"


def test_two_hooks_read_the_same_state(init: Init, tmp_path: Path) -> None:
    for number in (1, 2):
        assert hook(init, tmp_path, f"cat >{tmp_path}/{number}") == 0
    assert (tmp_path / "1").read_text() == (tmp_path / "2").read_text() == '{"id": "x"}'


@pytest.mark.parametrize(("script", "status"), [("exit 3", 3 << 8), ("kill -9 $$", 9)])
def test_a_failing_hook_is_reported_with_its_status(
    init: Init, tmp_path: Path, script: str, status: int
) -> None:
    assert hook(init, tmp_path, script) == 1
    assert init.failure() == (0, 0, status, "the hook")
    assert init.output.read_all() == b""


def test_a_hook_within_its_time_is_fine(init: Init, tmp_path: Path) -> None:
    assert hook(init, tmp_path, "exit 0", timeout=30) == 0


def test_a_hook_that_takes_too_long_is_killed_with_what_it_forked(
    init: Init, tmp_path: Path
) -> None:
    pids = tmp_path / "pids"
    script = f"sleep 100 & echo $$ $! >{pids}; wait"
    begin = time.monotonic()
    assert hook(init, tmp_path, script, timeout=1) == 1
    assert time.monotonic() - begin < 10
    assert init.failure() == (0, errno.ETIMEDOUT, 0, "the hook")
    for pid in pids.read_text().split():
        assert soon(lambda pid=int(pid): gone(pid), seconds=5), f"process {pid} is still there"


def test_a_hook_that_is_not_there_is_reported(init: Init) -> None:
    program = init.program()
    program.hook("the hook", "/no/such", ["x"], [], 0, -1, 0, None)
    assert init.run(program) == 1
    assert init.failure() == (0, 0, 127 << 8, "the hook")
