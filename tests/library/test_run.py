"""`pyrunc.run`: what comes back, and what each limit does."""

from __future__ import annotations

import asyncio
import os
import signal
import threading

import pytest

import pyrunc
from pyrunc import aio
from pyrunc.sandbox import communicating, waiting

pytestmark = pytest.mark.usefixtures("no_remains")


def test_output_input_and_exit_code_come_back():
    result = pyrunc.run(["sh", "-c", "cat; echo more >&2; exit 3"], input=b"from outside")
    assert (result.status, result.returncode) == ("exited", 3)
    assert (result.stdout, result.stderr) == (b"from outside", b"more\n")
    assert result.duration > 0
    assert result.args == ("sh", "-c", "cat; echo more >&2; exit 3")


def test_what_was_used_is_told():
    result = pyrunc.run(["python3", "-c", "x = bytearray(30 << 20); sum(range(2_000_000))"])
    assert result.ok, result
    assert 30 << 20 < result.memory_peak < 256 << 20
    assert result.cpu_time > 0.01
    assert result.pids_peak >= 1
    assert not result.not_enforced


def test_text_is_text():
    result = pyrunc.run(["cat"], input="größer\n", text=True)
    assert result.stdout == "größer\n"


def test_a_megabyte_goes_in_and_comes_out():
    data = os.urandom(1 << 20)
    assert pyrunc.run(["cat"], input=data).stdout == data


def test_signals_mean_inside_what_they_mean_outside():
    """No program is process 1, which the kernel spares signals without a handler."""
    for name, number in (("TERM", signal.SIGTERM), ("ABRT", signal.SIGABRT), ("KILL", 9)):
        result = pyrunc.run(["sh", "-c", f"kill -{name} $$; echo survived"])
        assert (result.status, result.returncode) == ("signaled", -number)
        assert result.stdout == b""


def test_orphans_are_collected():
    script = "for i in 1 2 3; do (sh -c 'exit' &) ; done; sleep 0.2; echo /proc/[0-9]*"
    shown = pyrunc.run(["sh", "-c", script], text=True).stdout.split()
    # init and the shell: no zombies beside them.
    assert shown == ["/proc/1", "/proc/2"]


def test_timeout_ends_everything_and_keeps_what_was_printed():
    script = "echo before; (trap '' TERM; sleep 1000) & sleep 1000"
    result = pyrunc.run(["sh", "-c", script], timeout=0.5)
    assert result.status == "timeout"
    assert result.stdout == b"before\n"
    assert result.duration >= 0.5


def test_cpu_time_is_of_all_processes_together():
    spin = "while :; do :; done"
    result = pyrunc.run(["sh", "-c", f"({spin}) & {spin}"], cpu_time=0.3, timeout=60)
    assert result.status == "cpu"
    assert 0.3 <= result.cpu_time < 3


def test_too_much_memory_is_told_as_such():
    result = pyrunc.run(["python3", "-c", "x = bytearray(200 << 20)"], memory="64M")
    assert result.status == "oom"
    assert result.memory_peak <= 64 << 20


def test_no_swap_unless_asked_for():
    script = "import time; x = bytearray(100 << 20); time.sleep(0.2)"
    assert pyrunc.run(["python3", "-c", script], memory="64M").status == "oom"


def test_no_more_processes_than_asked_for():
    script = "import os\nfor i in range(20):\n if os.fork() == 0: os.read(0, 1)\n"
    result = pyrunc.run(["python3", "-c", script], pids=5, text=True)
    assert "BlockingIOError" in result.stderr
    assert result.pids_peak == 5


def test_a_single_process_may_bring_forth_no_other():
    script = "import os, time; time.sleep(0.3); os.fork()"
    result = pyrunc.run(["python3", "-c", script], pids=1, text=True)
    assert "BlockingIOError" in result.stderr


def test_cpu_share_is_a_share():
    spin = "import time; t = time.process_time()\nwhile time.process_time() - t < 0.3: pass"
    result = pyrunc.run(["python3", "-c", spin], cpu=0.2, timeout=60)
    assert result.ok
    assert result.duration > 1


def test_output_keeps_the_end_and_says_so():
    script = "import sys; sys.stdout.write('x' * 500_000 + 'the end')"
    result = pyrunc.run(["python3", "-c", script], output="100K")
    assert result.ok
    assert result.truncated
    assert len(result.stdout) == 100 << 10
    assert result.stdout.endswith(b"the end")


def test_output_can_end_a_flood():
    result = pyrunc.run(["yes"], output="1M", stop_on_output=True, timeout=60)
    assert result.status == "output"
    assert result.truncated


@pytest.mark.parametrize("status", ["exited", "output"])
def test_too_much_output_is_told_however_soon_the_program_ends(status, monkeypatch):
    """Nothing is read before the engine has told the end: the order that is seldom."""
    monkeypatch.setattr(
        communicating.Communication, "_watched", lambda _, line: {line.fileno(): waiting.READABLE}
    )
    words = ["sh", "-c", "echo 0123456789"]
    limits = {"output": 4, "stop_on_output": status == "output", "timeout": 60}

    async def with_asyncio():
        async with aio.Sandbox() as box:
            return await aio.run(words, **limits), await box.run(words, **limits)

    with pyrunc.Sandbox() as box:
        results = [box.run(words, **limits), pyrunc.run(words, **limits)]
    pyrunc.run(words, pool=1, **limits)
    results += [pyrunc.run(words, pool=1, **limits), *asyncio.run(with_asyncio())]
    assert {(r.status, r.returncode, r.stdout, r.truncated) for r in results} == {
        (status, 0, b"789\n", True)
    }


def test_files_are_limited_in_size_and_number():
    script = (
        "head -c 10000000 /dev/zero >/tmp/big; for i in $(seq 100); do >/tmp/$i || exit 7; done"
    )
    result = pyrunc.run(["sh", "-c", script], disk="1M", files=50, text=True)
    assert "No space left on device" in result.stderr
    assert result.returncode != 0


def test_safe_by_default():
    script = """
    grep -E 'Cap|NoNewPrivs|Seccomp:' /proc/self/status
    ls /sys/class /home; cat /etc/shadow
    touch /usr/x /x; unshare -U true; ls /sys/class/net; cat /proc/net/dev
    """
    result = pyrunc.run(["sh", "-c", script], text=True)
    lines = result.stdout.splitlines()
    assert "CapBnd:\t0000000000000000" in lines
    assert "CapEff:\t0000000000000000" in lines
    assert "NoNewPrivs:\t1" in lines
    assert "Seccomp:\t2" in lines
    devices = [line.split(":")[0].strip() for line in lines if ":" in line and "lo" in line]
    assert devices == ["lo"]
    assert "Read-only file system" in result.stderr
    assert "unshare: unshare failed: Operation not permitted" in result.stderr


def test_environment_and_directory():
    result = pyrunc.run(["sh", "-c", "echo $A $HOME; pwd"], env={"A": "b"}, cwd="/var", text=True)
    assert result.stdout == "b /tmp\n/var\n"


def test_nothing_of_the_program_s_environment_gets_in(monkeypatch):
    monkeypatch.setenv("SECRET", "sesame")
    assert b"sesame" not in pyrunc.run(["env"]).stdout


def test_a_program_that_is_not_there():
    with pytest.raises(pyrunc.ProgramNotFound, match="no-such-program") as caught:
        pyrunc.run(["no-such-program"])
    assert isinstance(caught.value, FileNotFoundError)
    assert isinstance(caught.value, pyrunc.Error)
    assert caught.value.operation == "run"


def test_a_program_that_is_not_executable():
    with pytest.raises(pyrunc.ProgramNotExecutable) as caught:
        pyrunc.run(["/etc/passwd"])
    assert isinstance(caught.value, PermissionError)


@pytest.mark.parametrize(
    ("cwd", "kind"), [("/none", FileNotFoundError), ("/usr/bin/true", FileNotFoundError)]
)
def test_a_working_directory_that_cannot_be_entered(cwd, kind):
    with pyrunc.Sandbox() as box, pytest.raises(kind, match=f"cannot chdir to {cwd}: n") as caught:
        box.run(["true"], cwd=cwd)
    assert isinstance(caught.value, pyrunc.FileMissing)
    assert caught.value.path == cwd


@pytest.mark.parametrize("argument", [{"binds": {"/data": "/none"}}, {"rootfs": "/none"}])
def test_a_file_of_the_host_that_is_not_there(argument):
    with pytest.raises(pyrunc.HostFileMissing, match=": /none: no such file") as caught:
        pyrunc.run(["true"], **argument)
    assert isinstance(caught.value, FileNotFoundError)
    assert isinstance(caught.value, pyrunc.InvalidArgument)


def test_check_raises_for_a_program_that_fails():
    with pytest.raises(pyrunc.ProgramFailed, match="sh exited with 4") as caught:
        pyrunc.run(["sh", "-c", "echo why; exit 4"], check=True)
    assert caught.value.result.stdout == b"why\n"
    with pytest.raises(pyrunc.TimeoutExpired) as late:
        pyrunc.run(["sleep", "100"], timeout=0.2, check=True)
    assert isinstance(late.value, TimeoutError)


@pytest.mark.parametrize(
    ("argv", "arguments", "words"),
    [
        ("echo hello", {}, r'\["sh", "-c", '),
        ([], {}, "argv must hold"),
        (["a\0b"], {}, "NUL"),
        (["true"], {"memory": "much"}, 'memory must be .* like "64M"'),
        (["true"], {"memory": -1}, "memory must be"),
        (["true"], {"timeout": 0}, "timeout must be seconds"),
        (["true"], {"pids": 0}, "pids must be"),
        (["true"], {"cwd": "here"}, "cwd must be an absolute path"),
        (["true"], {"env": {"A=B": "c"}}, "env"),
        (["true"], {"input": "text"}, "text=True"),
        (["true"], {"user": "nobody"}, "user must be a uid"),
        (["true"], {"user": (1, -1)}, "user must be a uid"),
        (["true"], {"memroy": 1}, "unknown argument 'memroy'"),
        (["true"], {"rootfs": "/no/such/root"}, "rootfs: /no/such/root"),
    ],
)
def test_arguments_that_make_no_sense(argv, arguments, words):
    with pytest.raises(pyrunc.InvalidArgument, match=words) as caught:
        pyrunc.run(argv, **arguments)
    assert isinstance(caught.value, ValueError)


def test_threads_run_at_the_same_time():
    results = [None] * 12

    def one(number):
        results[number] = pyrunc.run(["echo", str(number)], text=True, timeout=60)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(len(results))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [result.stdout for result in results] == [f"{number}\n" for number in range(12)]
