"""The native init, driven with small launch programs: each kind of entry, and how it fails."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import signal
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pyrunc.process.failure import parse_failure, printed_in
from pyrunc.process.launch import PID_WIDTH, LaunchProgram, Pointer
from pyrunc.process.seal import execute_init, launch_fd, sealed_init
from pyrunc.process.shared_page import failure_in, make_page, sibling_in, why_not_executed

AT_FDCWD = -100
#: SECCOMP_RET_ALLOW.
ALLOW = 0x7FFF0000
#: Where the v2 hierarchy is, alone or beside v1.
UNIFIED = (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified"))
ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
#: Where the kernel hands programs of this processor to qemu-user, that one opens them by name: so
#: they cannot be close-on-exec (ENOENT of binfmt_misc), as init's is everywhere else.
EMULATED = Path(f"/proc/sys/fs/binfmt_misc/qemu-{os.uname().machine}").exists()
#: What qemu-user does not carry out as the kernel does.
REAL_KERNEL = pytest.mark.skipif(EMULATED, reason="only a real kernel shows it, not qemu-user")
HAND_OVER = fcntl.F_DUPFD if EMULATED else fcntl.F_DUPFD_CLOEXEC
Failure = tuple[int, int, int, str]


class Pipe:
    """A pipe whose ends survive an execve."""

    def __init__(self) -> None:
        self.reading, self.writing = os.pipe()
        os.set_inheritable(self.reading, True)
        os.set_inheritable(self.writing, True)
        self.open = {self.reading, self.writing}

    def close(self, *ends: int) -> None:
        for end in ends or (self.reading, self.writing):
            if end in self.open:
                os.close(end)
                self.open.remove(end)

    def read(self, size: int = 65536) -> bytes:
        return os.read(self.reading, size)

    def read_all(self) -> bytes:
        """Read until every other process has closed it."""
        self.close(self.writing)
        content = b""
        while piece := self.read():
            content += piece
        return content


class Init:
    """Processes that execute init, and the pipes they talk through."""

    def __init__(self) -> None:
        self.report = Pipe()
        self.output = Pipe()
        self.children: list[int] = []

    def program(self) -> LaunchProgram:
        return LaunchProgram(report=self.report.writing)

    def start(
        self,
        program: LaunchProgram,
        before: Callable[[], object] = bool,
        second: LaunchProgram | None = None,
    ) -> int:
        """Fork, call ``before`` there, become init; return the pid."""
        programs = [q.encode() for q in (program, second) if q is not None]
        pid = os.fork()
        if pid == 0:
            try:
                # Out of the way of the numbers that `before` may want.
                binary = fcntl.fcntl(sealed_init(), HAND_OVER, 400)
                launch = [fcntl.fcntl(launch_fd(q), fcntl.F_DUPFD, 400) for q in programs]
                before()
                execute_init(binary, *launch)
            finally:
                os._exit(99)
        self.children.append(pid)
        return pid

    def wait(self, pid: int) -> int:
        """Return how the process ended, as subprocess does."""
        _, status = os.waitpid(pid, 0)
        if pid in self.children:
            self.children.remove(pid)
        return os.waitstatus_to_exitcode(status)

    def run(self, program: LaunchProgram, before: Callable[[], object] = bool) -> int:
        """Start, wait for the end, return the exit code."""
        return self.wait(self.start(program, before))

    def failure(self) -> Failure | None:
        """Return the failure record that was sent, if one was."""
        return parse_failure(self.report.read_all())

    def close(self) -> None:
        for pid in list(self.children):
            os.kill(pid, signal.SIGKILL)
            self.wait(pid)
        self.report.close()
        self.output.close()


@pytest.fixture
def init() -> Iterator[Init]:
    made = Init()
    yield made
    made.close()


def waiting(init: Init, program: LaunchProgram, before: Callable[[], object] = bool) -> int:
    """Start ``program`` with a wait for ever at its end, and return the pid once it is there."""
    never = Pipe()
    program.call("tell", "write", init.output.writing, b"!", 1)
    program.await_byte("wait", never.reading)
    pid = init.start(program, before)
    assert init.output.read(1) == b"!"
    # The process still has a writing end of its own, so the wait lasts.
    never.close()
    return pid


def gone(pid: int) -> bool:
    """Tell whether the process has ended, reaped or not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except FileNotFoundError:
        return True


def eventually(condition: Callable[[], bool], seconds: float = 5) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def test_an_empty_program_ends_well(init: Init) -> None:
    assert init.run(init.program()) == 0
    assert init.failure() is None


def test_a_failing_call_is_reported_with_index_errno_and_label(init: Init) -> None:
    program = init.program()
    program.call("who am I", "getpid")
    program.call("enter /no/such", "chdir", "/no/such")
    program.call("never reached", "write", init.output.writing, b"!", 1)
    assert init.run(program) == 1
    assert init.failure() == (1, errno.ENOENT, 0, "enter /no/such")
    assert init.output.read_all() == b""


def test_a_call_that_may_fail_does_not_stop_the_program(init: Init) -> None:
    program = init.program()
    program.call("enter /no/such", "chdir", "/no/such", ignore=True)
    program.call("go on", "write", init.output.writing, b"!", 1)
    assert init.run(program) == 0
    assert init.failure() is None
    assert init.output.read_all() == b"!"


def test_a_long_label_is_cut_not_overrun(init: Init) -> None:
    program = init.program()
    program.call("x" * 5000, "chdir", "/no/such")
    assert init.run(program) == 1
    assert init.failure() == (0, errno.ENOENT, 0, "x" * 512)


def test_without_a_report_a_failure_is_silent(init: Init) -> None:
    program = LaunchProgram()
    program.call("enter /no/such", "chdir", "/no/such")
    assert init.run(program) == 1
    assert init.failure() is None


def test_a_failure_goes_where_reports_were_turned_to(init: Init) -> None:
    program = init.program()
    program.report_to(init.output.writing)
    program.call("enter /no/such", "chdir", "/no/such")
    assert init.run(program) == 1
    assert init.failure() is None
    assert parse_failure(init.output.read_all()) == (1, errno.ENOENT, 0, "enter /no/such")


def test_a_result_is_stored(init: Init) -> None:
    program = init.program()
    cell = program.cell()
    program.call("who am I", "getpid", store=cell)
    program.call("tell", "write", init.output.writing, cell, 8)
    pid = init.start(program)
    assert init.wait(pid) == 0
    assert struct.unpack("<q", init.output.read_all()) == (pid,)


def test_a_result_becomes_the_next_first_argument(init: Init, tmp_path: Path) -> None:
    target = tmp_path / "file"
    program = init.program()
    flags = os.O_CREAT | os.O_WRONLY
    program.call("open", "openat", AT_FDCWD, str(target), flags, 0o600, store_in_next=True)
    program.call("write", "write", 0, b"through", 7)
    assert init.run(program) == 0
    assert target.read_text() == "through"


def test_a_wait_goes_on_after_a_byte(init: Init) -> None:
    gate = Pipe()
    program = init.program()
    program.await_byte("wait for start", gate.reading)
    program.call("go on", "write", init.output.writing, b"!", 1)
    pid = init.start(program)
    os.write(gate.writing, b"g")
    assert init.wait(pid) == 0
    assert init.output.read_all() == b"!"
    gate.close()


def test_a_wait_ends_without_a_word_when_nobody_is_left(init: Init) -> None:
    gate = Pipe()
    program = init.program()
    program.await_byte("wait for start", gate.reading)
    program.call("go on", "write", init.output.writing, b"!", 1)
    pid = init.start(program, lambda: os.close(gate.writing))
    gate.close(gate.writing)
    assert init.wait(pid) == 1
    assert init.failure() is None
    assert init.output.read_all() == b""
    gate.close()


def test_the_user_program_gets_its_arguments_and_environment(init: Init) -> None:
    program = init.program()
    program.call("stdout", "dup3", init.output.writing, 1, 0)
    script = 'echo "$0 $1 $A"; exit 7'
    program.execute("run", "/bin/sh", ["sh", "-c", script, "zero", "one"], ["A=b"])
    assert init.run(program) == 7
    assert init.output.read_all() == b"zero one b\n"


@pytest.mark.parametrize(
    ("path", "code"),
    [("/no/such", errno.ENOENT), ("/", errno.EACCES), ("/etc/passwd", errno.EACCES)],
)
def test_a_program_that_cannot_be_executed_is_reported(init: Init, path: str, code: int) -> None:
    program = init.program()
    program.execute(f'exec "{path}"', path, ["x"], [])
    assert init.run(program) == 1
    assert init.failure() == (0, code, 0, f'exec "{path}"')


def signals_of(init: Init, *, reset: bool) -> dict[str, int]:
    """Return the masks of the program that init becomes after Python ignored and blocked some."""

    def spoil() -> None:
        for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1, signal.SIGRTMAX})

    program = init.program()
    program.call("stdout", "dup3", init.output.writing, 1, 0)
    if reset:
        program.reset_signals()
    program.execute("run", "/bin/cat", ["cat", "/proc/self/status"], [])
    assert init.run(program, spoil) == 0
    found = re.findall(rb"^(Sig(?:Ign|Blk)):\s*(\w+)", init.output.read_all(), re.MULTILINE)
    return {name.decode(): int(mask, 16) for name, mask in found}


def test_signals_are_reset(init: Init) -> None:
    assert signals_of(init, reset=True) == {"SigIgn": 0, "SigBlk": 0}


def test_signals_stay_as_they_were_without_a_reset(init: Init) -> None:
    """The test above would see them."""
    masks = signals_of(init, reset=False)
    assert masks["SigIgn"] & 1 << (signal.SIGPIPE - 1)
    assert masks["SigBlk"] & 1 << (signal.SIGUSR1 - 1)


def test_descriptors_from_a_number_on_do_not_reach_the_program(init: Init) -> None:
    output = os.dup2(init.output.writing, 300)

    def open_some() -> None:
        for number in (3, 4, 5, 77, 200):
            os.dup2(0, number)

    program = LaunchProgram()
    program.call("stdout", "dup3", output, 1, 0)
    program.close_others(3, [], [3, 5])
    program.call("keep it", "fcntl", 3, 2, 0)
    # Tests that open nothing themselves, as a listing of /proc/self/fd would.
    script = "for n in 0 1 2 3 4 5 77 200 300; do [ -e /proc/$$/fd/$n ] && echo $n; done; exit 0"
    program.execute("run", "/bin/sh", ["sh", "-c", script], [])
    assert init.run(program, open_some) == 0
    os.close(output)
    assert init.output.read_all().split() == [b"0", b"1", b"2", b"3"]


def test_descriptors_of_others_are_closed_at_once(init: Init) -> None:
    """Not at the next execve: who waits for it must not hold up whoever reads from a pipe."""

    def open_some() -> None:
        for number in (4, 77, 300):
            os.dup2(1, number)

    kept = [n for pipe in (init.output, init.report) for n in pipe.open]
    program = init.program()
    program.close_others(3, kept, [])
    pid = waiting(init, program, open_some)
    assert not {4, 77, 300} & {int(n) for n in os.listdir(f"/proc/{pid}/fd")}


@pytest.fixture
def page() -> Iterator[int]:
    """A page to share with init."""
    descriptor = make_page()
    os.set_inheritable(descriptor, True)
    yield descriptor
    os.close(descriptor)


@REAL_KERNEL
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


@REAL_KERNEL
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


@REAL_KERNEL
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


@REAL_KERNEL
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


@REAL_KERNEL
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


@REAL_KERNEL
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
        assert eventually(lambda pid=int(pid): gone(pid)), f"process {pid} is still there"


def test_a_hook_that_is_not_there_is_reported(init: Init) -> None:
    program = init.program()
    program.hook("the hook", "/no/such", ["x"], [], 0, -1, 0, None)
    assert init.run(program) == 1
    assert init.failure() == (0, 0, 127 << 8, "the hook")


@REAL_KERNEL
@ROOT_ONLY
def test_a_working_directory_outside_the_root_is_refused(init: Init, tmp_path: Path) -> None:
    outside = os.open("/", os.O_RDONLY)

    def leave() -> None:
        os.chroot(tmp_path)
        os.fchdir(outside)

    program = init.program()
    program.check_cwd("look where we are")
    assert init.run(program, leave) == 1
    os.close(outside)
    assert init.failure() == (0, errno.ENOENT, 0, "look where we are")


def test_a_working_directory_inside_the_root_is_fine(init: Init) -> None:
    program = init.program()
    program.check_cwd("look where we are")
    assert init.run(program) == 0
    assert init.failure() is None


@REAL_KERNEL
def test_a_waiting_init_takes_next_to_no_memory(init: Init) -> None:
    pid = waiting(init, init.program())
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    (resident,) = re.findall(r"^Rss:\s+(\d+) kB", rollup, re.MULTILINE)
    assert int(resident) < 100


@REAL_KERNEL
def test_what_is_behind_exe_cannot_be_written(init: Init) -> None:
    """Not while it runs, and not through a descriptor that outlives it either."""
    pid = waiting(init, init.program())
    exe = f"/proc/{pid}/exe"
    assert os.readlink(exe).startswith("/memfd:pyrunc-init")
    with pytest.raises(OSError, match="Text file busy"):
        os.open(exe, os.O_WRONLY)
    held = os.open(exe, os.O_RDONLY)
    os.kill(pid, signal.SIGKILL)
    init.wait(pid)
    before = os.fstat(held).st_size
    with pytest.raises(OSError) as caught:
        again = os.open(f"/proc/self/fd/{held}", os.O_WRONLY)
        try:
            os.write(again, b"#!")
        finally:
            os.close(again)
    assert caught.value.errno in (errno.EPERM, errno.ETXTBSY)
    with pytest.raises(OSError, match=r"not permitted|Invalid argument"):
        os.truncate(f"/proc/self/fd/{held}", 0)
    assert os.fstat(held).st_size == before
    os.close(held)


@ROOT_ONLY
def test_with_an_effective_gid_of_its_own_it_is_never_dumpable(init: Init) -> None:
    """Other processes of the same user get at none of its files, from the first instruction on.

    For what is not dumpable, /proc/PID belongs to root.
    """
    if Path("/proc/sys/fs/suid_dumpable").read_text().strip() == "1":
        pytest.skip("fs.suid_dumpable is 1: this machine lets privileged programs be dumped")

    def as_user(effective_group: int) -> Callable[[], None]:
        def change() -> None:
            os.setgroups([])
            os.setresgid(4711, effective_group, 4711)
            os.setresuid(4711, 4711, 4711)

        return change

    # With equal ids it would be open to others: so this test can see a difference.
    plain = waiting(init, init.program(), as_user(4711))
    assert os.stat(f"/proc/{plain}/mem").st_uid == 4711
    guarded = waiting(init, init.program(), as_user(4712))
    assert os.stat(f"/proc/{guarded}/mem").st_uid == 0
    assert os.stat(f"/proc/{guarded}/mem").st_gid == 0


@pytest.mark.parametrize("damage", [b"", b"x" * 8, b"x" * 4096])
def test_a_program_that_is_none_ends_init(init: Init, damage: bytes) -> None:
    pid = os.fork()
    if pid == 0:
        try:
            execute_init(fcntl.fcntl(sealed_init(), HAND_OVER, 400), launch_fd(damage))
        finally:
            os._exit(99)
    assert init.wait(pid) == 1
