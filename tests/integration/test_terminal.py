"""Terminals: what a person at a keyboard gets, driven through real ptys."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shlex
import signal
import subprocess
import termios
import time

import pexpect
import pytest
from terminal_fixtures import exec_command, keyboard

__all__ = ["exec_command", "keyboard"]


@pytest.fixture
def run_command(make_bundle, pyrunc):
    """Return how to run a program with a terminal in the foreground."""

    def command(*args, **changes):
        bundle = make_bundle(args=list(args), **changes)
        bundle.process["terminal"] = True
        bundle.save()
        name = pyrunc.new_id()
        words = [*pyrunc.command, "run", "--bundle", bundle.path, name]
        return words, name

    return command


@pytest.fixture(params=["run", "exec"])
def in_terminal(request, run_command, exec_command):
    return run_command if request.param == "run" else exec_command


def test_a_shell_can_be_used(in_terminal, keyboard):
    command, _ = in_terminal("sh")
    screen = keyboard(command)
    screen.expect("# ")
    screen.type("tty; test -t 0 && test -t 1 && test -t 2 && echo all-$((20+3))\r")
    screen.expect("/dev/pts/0")
    screen.expect("all-23")
    screen.type("exit 6\r")
    assert screen.end() == 6
    assert screen.attributes == screen.before


def test_the_terminal_is_raw_meanwhile(in_terminal, keyboard):
    command, _ = in_terminal("sh", "-c", "echo ready; exec cat")
    screen = keyboard(command)
    screen.expect("ready")
    local = screen.attributes[3]
    assert not local & (termios.ECHO | termios.ICANON | termios.ISIG)
    screen.type("\x04")
    assert screen.end() == 0
    assert screen.attributes == screen.before


def test_interrupt_reaches_the_program(in_terminal, keyboard):
    command, _ = in_terminal(
        "sh", "-c", "trap 'echo caught; exit 12' INT; echo ready; while :; do sleep 0.05; done"
    )
    screen = keyboard(command)
    screen.expect("ready")
    screen.type("\x03")
    screen.expect("caught")
    assert screen.end() == 12


def test_jobs_can_be_stopped_and_continued(in_terminal, keyboard):
    command, _ = in_terminal("sh")
    screen = keyboard(command)
    screen.expect("# ")
    screen.type("sleep 100\r")
    time.sleep(0.3)
    screen.type("\x1a")
    screen.expect("Stopped")
    screen.type("jobs\r")
    screen.expect("Stopped")
    screen.type("kill %1; exit\r")
    screen.expect("#")
    screen.type("exit\r")
    screen.end()


def test_resizing(in_terminal, keyboard):
    command, _ = in_terminal("sh")
    screen = keyboard(command, rows=31, columns=97)
    screen.expect("# ")
    screen.type("stty size\r")
    screen.expect("31 97")
    screen.resize(50, 132)
    time.sleep(0.2)
    screen.type("stty size\r")
    screen.expect("50 132")
    screen.type("exit\r")
    screen.end()


def test_resizing_tells_the_program(in_terminal, keyboard):
    command, _ = in_terminal(
        "sh", "-c", "trap 'stty size; exit' WINCH; echo ready; while :; do sleep 0.05; done"
    )
    screen = keyboard(command)
    screen.expect("ready")
    screen.resize(41, 43)
    screen.expect("41 43")
    assert screen.end() == 0


def test_a_password_is_not_echoed(in_terminal, keyboard):
    script = "printf 'Password: '; stty -echo; read p; stty echo; echo; echo length ${#p}"
    command, _ = in_terminal("sh", "-c", script)
    screen = keyboard(command)
    screen.expect("Password: ")
    time.sleep(0.2)
    screen.type("secret\r")
    screen.expect("length 6")
    screen.end()
    assert b"secret" not in screen.shown


def test_a_full_screen_program(in_terminal, keyboard):
    command, _ = in_terminal("vi", "/tmp/file")
    screen = keyboard(command, rows=10, columns=40)
    screen.expect("\x1b[")
    screen.expect("/tmp/file")
    screen.type("ihello")
    screen.expect("hello")
    screen.type("\x1b")
    time.sleep(0.3)
    screen.type(":wq\r")
    assert screen.end() == 0
    assert screen.attributes == screen.before


@pytest.mark.parametrize("how", ["kill the container", "terminate", "hang up", "kill the program"])
def test_attributes_are_back_however_it_ends(in_terminal, keyboard, pyrunc, how):
    program = ["sh", "-c", "echo ready; exec sleep 1000"]
    if how == "terminate":
        program = ["sh", "-c", "trap 'exit 3' TERM HUP; echo ready; while :; do sleep 0.05; done"]
    command, name = in_terminal(*program)
    screen = keyboard(command)
    screen.expect("ready")
    assert screen.attributes != screen.before
    if how == "kill the container":
        assert pyrunc("kill", name, "KILL").code == 0
    elif how == "terminate":
        screen.process.terminate()
    elif how == "hang up":
        screen.process.send_signal(signal.SIGHUP)
        time.sleep(0.1)
        pyrunc("kill", name, "KILL")
    else:
        children = f"/proc/{screen.process.pid}/task/{screen.process.pid}/children"
        with open(children) as file:
            os.kill(int(file.read().split()[0]), signal.SIGKILL)
    code = screen.end()
    assert code in ((3,) if how == "terminate" else (137, 129))
    assert screen.attributes == screen.before


def test_a_program_that_is_missing_leaves_the_terminal_as_it_was(in_terminal, keyboard):
    command, _ = in_terminal("nothing-of-that-name")
    screen = keyboard(command)
    assert screen.end() in (1, 255)
    assert screen.attributes == screen.before
    assert b"executable file not found in $PATH" in screen.shown


def test_much_output_is_complete(in_terminal, tmp_path):
    """16 MiB (1 GiB under stress) through a terminal, to a pipe, with a reader that pauses."""
    count = 1 << 30 if os.environ.get("PYRUNC_STRESS") else 16 << 20
    command, _ = in_terminal("sh", "-c", f"stty raw -echo; yes 0123456789abcde | head -c {count}")
    process = subprocess.Popen(
        [str(word) for word in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    )
    digest, length, pauses = hashlib.sha256(), 0, 0
    while piece := process.stdout.read1(1 << 16):
        digest.update(piece)
        length += len(piece)
        if length > (pauses + 1) * 2 << 20:
            pauses += 1
            time.sleep(0.05)
    assert process.wait(10) == 0
    assert length == count
    expected = hashlib.sha256()
    for _ in range(count >> 20):
        expected.update(b"0123456789abcde\n" * (1 << 16))
    assert digest.digest() == expected.digest()


def test_a_slow_reader_gets_everything_that_was_printed_before_the_end(in_terminal):
    command, _ = in_terminal("sh", "-c", "stty raw -echo; head -c 200000 /dev/zero; echo the-end")
    process = subprocess.Popen(
        [str(word) for word in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    )
    time.sleep(1)
    output = b""
    while piece := os.read(process.stdout.fileno(), 1000):
        output += piece
        if len(output) % 50000 == 0:
            time.sleep(0.05)
    assert process.wait(10) == 0
    assert output == bytes(200000) + b"the-end\n"


def test_much_input_while_nobody_reads_output(in_terminal):
    """Neither direction holds up the other."""
    command, _ = in_terminal("sh", "-c", "stty raw -echo; echo go; head -c 300000 | wc -c")
    process = subprocess.Popen(
        [str(word) for word in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert os.read(process.stdout.fileno(), 3) == b"go\n"
    process.stdin.write(b"x" * 300000)
    process.stdin.flush()
    assert process.stdout.read() == b"300000\n"
    assert process.wait(10) == 0


def test_the_end_of_piped_input_is_an_end_of_file(in_terminal):
    command, _ = in_terminal("cat")
    words = [str(word) for word in command]
    done = subprocess.run(words, input=b"one\ntwo", capture_output=True, timeout=20, check=False)
    assert done.returncode == 0
    assert done.stdout.replace(b"\r\n", b"\n").endswith(b"one\ntwo")


@pytest.mark.parametrize("typed", ["null", "pipe"])
def test_lines_for_a_pipe_end_as_the_program_ends_them(in_terminal, typed):
    command, _ = in_terminal("sh", "-c", "echo one; echo two")
    how = {"stdin": subprocess.DEVNULL} if typed == "null" else {"input": b""}
    words = [str(word) for word in command]
    done = subprocess.run(words, capture_output=True, timeout=20, check=True, **how)
    assert done.stdout == b"one\ntwo\n"


def test_lines_for_a_pipe_while_the_keyboard_is_a_terminal(in_terminal, keyboard, tmp_path):
    """`pyrunc run x | cat`, typed at a prompt."""
    command, _ = in_terminal("sh", "-c", "echo one; echo two")
    words = shlex.join(str(word) for word in command)
    screen = keyboard(["sh", "-c", f"{words} | cat >{tmp_path}/said"])
    assert screen.end() == 0
    assert (tmp_path / "said").read_bytes() == b"one\ntwo\n"
    screen = keyboard(["sh", "-c", words])
    screen.expect("one\r\ntwo\r\n")
    assert screen.end() == 0
    # Only what was typed is elsewhere: this terminal makes its own carriage returns.
    screen = keyboard(["sh", "-c", f"{words} </dev/null"])
    screen.expect("one\r\ntwo\r\n")
    assert screen.end() == 0


def test_a_reader_that_goes_away_does_not_hold_up_the_container(in_terminal):
    command, _ = in_terminal("sh", "-c", "stty raw -echo; head -c 1000000 /dev/zero; exit 5")
    process = subprocess.Popen(
        [str(word) for word in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    )
    process.stdout.read(10)
    process.stdout.close()
    assert process.wait(20) == 5


def test_the_flags_of_stdio_stay_as_they_are(in_terminal):
    """Others share stdin and stdout: they must not find them non-blocking."""
    read, write = os.pipe()
    command, _ = in_terminal("sh", "-c", "echo x; sleep 0.5")
    process = subprocess.Popen(
        [str(word) for word in command], stdin=subprocess.DEVNULL, stdout=write
    )
    os.read(read, 1)
    assert not fcntl.fcntl(write, fcntl.F_GETFL) & os.O_NONBLOCK
    process.wait()
    os.close(read)
    os.close(write)


def test_output_appended_to_a_file_stays_in_order(in_terminal, tmp_path):
    path = tmp_path / "output"
    path.write_bytes(b"before\n")
    command, _ = in_terminal("sh", "-c", "stty raw -echo; echo inside")
    with path.open("r+b") as file:
        file.seek(0, os.SEEK_END)
        subprocess.run([str(w) for w in command], stdin=subprocess.DEVNULL, stdout=file, check=True)
    assert path.read_bytes() == b"before\ninside\n"


def test_a_job_in_the_background_leaves_the_terminal_alone(run_command):
    """A shell with job control puts it there, and brings it back."""
    command, _ = run_command("sh", "-c", "read line; echo got $line; stty size")
    shell = pexpect.spawn("bash", ["--norc", "-i"], timeout=10, dimensions=(30, 90))
    shell.sendline("PS1='pro''mpt> '")
    shell.expect("prompt> ")
    shell.sendline(shlex.join(str(word) for word in command) + " &")
    shell.expect("prompt> ")
    time.sleep(0.7)
    shell.sendline("echo still-$((40+2))")
    shell.expect("still-42")
    shell.expect("prompt> ")
    shell.sendline("fg")
    time.sleep(0.5)
    shell.sendline("words")
    shell.expect("got words")
    shell.expect("30 90")
    shell.expect("prompt> ")
    shell.sendline("exit")
    shell.expect(pexpect.EOF)


def test_a_terminal_that_everybody_closed_can_be_opened_again(run_command):
    script = "exec <&- >&- 2>&-; sleep 0.7; echo back >/dev/console; sleep 0.2"
    command, _ = run_command("sh", "-c", script)
    words = [str(word) for word in command]
    done = subprocess.run(
        words, stdin=subprocess.DEVNULL, capture_output=True, timeout=20, check=False
    )
    assert done.stdout == b"back\n"
