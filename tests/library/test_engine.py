"""Engines: what they leave alone in the program, and that nothing is left whoever dies."""

from __future__ import annotations

import contextlib
import gc
import os
import re
import signal
import subprocess
import textwrap
import threading
import time
from pathlib import Path

import pytest
from conftest import PREAMBLE, engine_processes, keeper_and_engine, wait_until_gone

import pyrunc

pytestmark = pytest.mark.usefixtures("no_remains")


def program(python, text, **options):
    """Start a program that uses the library."""
    script = PREAMBLE + textwrap.dedent(text)
    return subprocess.Popen([python, "-c", script], stdout=subprocess.PIPE, text=True, **options)


BUSY = """
    import threading
    def one(): pyrunc.run(["sh", "-c", "trap '' TERM HUP; sleep 1000 & sleep 1000"], timeout=None)
    for _ in range(4): threading.Thread(target=one, daemon=True).start()
    while len(pyrunc.run(["echo", "ready"]).stdout) != 6: pass
    import time; time.sleep(1); print("ready", flush=True); time.sleep(1000)
"""


def test_nothing_is_left_after_the_program_has_ended(python):
    done = program(python, 'print(pyrunc.run(["true"]).status)')
    assert done.communicate()[0] == "exited\n"
    wait_until_gone(done.pid)


def test_nothing_is_left_of_a_killed_program(python):
    killed = program(python, BUSY)
    assert killed.stdout.readline() == "ready\n"
    assert engine_processes(killed.pid)
    killed.kill()
    killed.communicate()
    wait_until_gone(killed.pid)


def test_nothing_is_left_of_a_killed_program_and_its_engines(python):
    """What nobody could remove then, the next engine does."""
    killed = program(python, BUSY)
    assert killed.stdout.readline() == "ready\n"
    pids = (*engine_processes(killed.pid), killed.pid)
    for number in (signal.SIGSTOP, signal.SIGKILL):
        # Stopped, none sees the end of another.
        for pid in pids:
            os.kill(pid, number)
    killed.communicate()
    assert pyrunc.run(["true"]).ok
    wait_until_gone(killed.pid)


@pytest.mark.parametrize("victim", ["keeper", "engine"])
def test_a_killed_engine_loses_its_runs_and_nothing_else(victim, tmp_path):
    results = []
    tmp_path.chmod(0o777)
    # A program that the kernel does not end by itself when its starter ends.
    script = "trap '' TERM HUP INT; echo begun; >/data/begun; while :; do sleep 1; done"
    thread = threading.Thread(
        target=lambda: results.append(
            pyrunc.run(["sh", "-c", script], binds={"/data:rw": str(tmp_path)}, timeout=60)
        )
    )
    thread.start()
    keeper, engine = keeper_and_engine()
    while not (tmp_path / "begun").exists():
        time.sleep(0.01)
    os.kill(keeper if victim == "keeper" else engine, signal.SIGKILL)
    thread.join(timeout=20)
    assert [(r.status, r.stdout) for r in results] == [("lost", b"begun\n")]
    assert pyrunc.run(["true"]).ok


def test_the_program_has_no_child_and_no_handler_more(python):
    text = """
        import os, signal
        before = {n: signal.getsignal(n) for n in signal.valid_signals()}
        assert pyrunc.run(["true"]).ok
        assert pyrunc.run(["true"]).ok
        try: print(os.waitpid(-1, os.WNOHANG))
        except ChildProcessError: print("no child")
        assert before == {n: signal.getsignal(n) for n in signal.valid_signals()}
        import threading; assert threading.active_count() == 1
    """
    assert program(python, text).communicate()[0] == "no child\n"


@pytest.mark.parametrize("state", ["ignored", "blocked"])
def test_signals_that_the_program_ignores_or_blocks_are_none_of_the_container_s(python, state):
    text = """
        import signal
        def ignored(): [signal.signal(n, signal.SIG_IGN) for n in (1, 2, 15, 17)]
        def blocked(): signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        STATE()
        print(pyrunc.run(["grep", "-E", "Sig(Blk|Ign)", "/proc/self/status"], text=True).stdout)
        print(pyrunc.run(["sleep", "1000"], timeout=0.3).status)
    """
    shown = program(python, text.replace("STATE", state)).communicate()[0].split()
    zeros = "0" * 16
    assert shown == ["SigBlk:", zeros, "SigIgn:", zeros, "timeout"]


def test_a_thread_that_started_the_engine_may_end(python):
    """The parent-death signal is about the thread that forked (PR_SET_PDEATHSIG(2const))."""
    text = """
        import threading, time
        thread = threading.Thread(target=lambda: pyrunc.run(["true"]))
        thread.start(); thread.join(); time.sleep(0.3)
        results = [pyrunc.run(["sleep", "0.1"]).status for _ in range(3)]
        print(*results)
    """
    assert program(python, text).communicate()[0] == "exited exited exited\n"


def test_a_fork_of_the_program_has_engines_of_its_own(python):
    text = """
        import os
        assert pyrunc.run(["true"]).ok
        child = os.fork()
        print(pyrunc.run(["echo", "child" if child == 0 else "parent"], text=True).stdout, end="",
              flush=True)
        if child: os.waitpid(child, 0); print(pyrunc.run(["true"]).status)
    """
    shown = program(python, text).communicate()[0].splitlines()
    assert sorted(shown) == ["child", "exited", "parent"]


def test_a_fork_that_lives_longer_does_not_keep_the_engine(python):
    text = """
        import os, sys, time
        assert pyrunc.run(["true"]).ok
        if os.fork() == 0: os.close(1); time.sleep(5); os._exit(0)
    """
    done = program(python, text)
    done.communicate()
    wait_until_gone(done.pid, seconds=4)


def test_interrupted_by_the_keyboard_the_container_is_gone(python):
    text = """
        try: pyrunc.run(["sh", "-c", "trap '' INT; while :; do sleep 1; done"], timeout=None)
        except KeyboardInterrupt: print("interrupted", pyrunc.run(["true"]).status)
    """
    interrupted = program(python, text)
    end = time.monotonic() + 20
    while len(engine_processes(interrupted.pid)) < 2 and time.monotonic() < end:
        time.sleep(0.02)
    time.sleep(0.5)
    interrupted.send_signal(signal.SIGINT)
    assert interrupted.communicate(timeout=20)[0] == "interrupted exited\n"


def test_descriptors_are_given_back():
    assert pyrunc.run(["true"]).ok
    # What other tests have dropped.
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        pyrunc.run(["true"])
        with pytest.raises(pyrunc.ProgramNotFound):
            pyrunc.run(["no-such-program"])
        pyrunc.run(["sleep", "9"], timeout=0.05)
    assert len(os.listdir("/proc/self/fd")) == before


def test_the_engine_keeps_no_descriptor_and_no_directory():
    assert pyrunc.run(["true"]).ok
    _, engine = keeper_and_engine()
    time.sleep(0.3)
    before = len(descriptors_of(engine))
    for _ in range(5):
        pyrunc.run(["true"])
        pyrunc.run(["sleep", "9"], timeout=0.05)
        with pytest.raises(pyrunc.Error):
            pyrunc.run(["no-such-program"])
        with pytest.raises(pyrunc.Error):
            pyrunc.run(["true"], binds={"/x": "/no/such/path"})
    # The line of the last one is closed after its answer.
    end = time.monotonic() + 5
    while len(descriptors_of(engine)) > before:
        assert time.monotonic() < end


def descriptors_of(engine):
    """List what an engine has open, but for the few network namespaces that it keeps."""
    opened = []
    for entry in Path(f"/proc/{engine}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            opened.append(os.readlink(entry))
    assert len([name for name in opened if name.startswith("net:")]) <= 8 + 1
    return [name for name in opened if not re.match(r"net:|/proc/\d+/net/", name)]


def test_importing_costs_next_to_nothing(python):
    script = PREAMBLE + "print(sorted(name for name in sys.modules if 'pyrunc' in name))"
    shown = subprocess.run([python, "-I", "-c", script], capture_output=True, text=True, check=True)
    assert shown.stdout == "['pyrunc']\n"
