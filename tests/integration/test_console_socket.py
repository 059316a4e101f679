"""Console sockets, and whose a terminal is and how large."""

from __future__ import annotations

import os
import subprocess
import threading

from terminal_fixtures import exec_command, listener, read_until

__all__ = ["exec_command", "listener"]


def test_the_size_of_the_config_counts_where_the_caller_has_none(make_bundle, pyrunc):
    bundle = make_bundle(args=["stty", "size"])
    bundle.process["terminal"] = True
    bundle.process["consoleSize"] = {"height": 33, "width": 111}
    assert pyrunc.run(bundle).stdout == "33 111\n"


def test_console_socket_of_create(make_bundle, pyrunc, listener):
    bundle = make_bundle(args=["sh"])
    bundle.process["terminal"] = True
    container = pyrunc.create(bundle, "--console-socket", str(listener.path))
    assert container.code == 0, container
    terminal = listener.take()
    assert pyrunc("start", container.id).code == 0
    os.write(terminal, b"tty; ls -l /dev/console; echo done-$((1+1))\r")
    shown = read_until(terminal, b"done-2")
    assert b"/dev/pts/0" in shown
    assert b"/dev/console" in shown
    os.write(terminal, b"exit\r")
    pyrunc.wait(container)
    os.close(terminal)


def test_console_socket_of_exec(make_bundle, pyrunc, listener):
    container = pyrunc.start(make_bundle(args=["sleep", "1000"]))
    done = pyrunc("exec", "-d", "-t", "--console-socket", listener.path, container.id, "sh")
    assert done.code == 0, done
    terminal = listener.take()
    os.write(terminal, b"tty; echo done-$((1+1))\r")
    assert b"/dev/pts/0" in read_until(terminal, b"done-2")
    os.close(terminal)


def test_terminal_of_another_user_is_that_user_s(exec_command, make_bundle, pyrunc):
    container = pyrunc.start(make_bundle(args=["sleep", "1000"]))
    script = (
        'stat -c "%u %a" $(readlink /proc/self/fd/0); echo x >/dev/tty; echo y >/proc/self/fd/1'
    )
    done = pyrunc("exec", "-t", "-u", "55", container.id, "sh", "-c", script)
    assert done.stdout.split() == ["55", "620", "x", "y"], done


def test_what_makes_no_sense_is_refused(make_bundle, pyrunc, tmp_path):
    bundle = make_bundle(args=["true"])
    bundle.process["terminal"] = True
    for command in (pyrunc.create, lambda b: pyrunc.run(b, "-d")):
        done = command(bundle)
        assert done.code == 1
        assert "cannot allocate tty if" in done.stderr
        assert "--console-socket" in done.stderr
    bundle.process["terminal"] = False
    done = pyrunc.create(bundle, "--console-socket", str(tmp_path / "s"))
    assert done.code == 1
    assert "cannot use console socket if" in done.stderr
    container = pyrunc.start(make_bundle(args=["sleep", "1000"]))
    done = pyrunc("exec", "-t", "-d", container.id, "true")
    assert done.code == 255
    assert "cannot allocate tty if" in done.stderr
    done = pyrunc("exec", "--console-socket", tmp_path / "s", container.id, "true")
    assert "cannot use console socket if" in done.stderr
    done = pyrunc("exec", "-d", "-t", "--console-socket", tmp_path / "s", container.id, "true")
    assert done.code == 255
    assert f"cannot send the terminal to socket {tmp_path / 's'}: no such file" in done.stderr
    bundle.process["terminal"] = True
    done = pyrunc.create(bundle, "--console-socket", str(tmp_path / "s"))
    assert done.code == 1
    assert "no such file or directory" in done.stderr


def test_a_signal_ends_an_exec_that_waits_for_a_paused_container(make_bundle, pyrunc):
    container = pyrunc.start(make_bundle(args=["sleep", "1000"]))
    pyrunc("pause", container.id)
    process = subprocess.Popen(
        [*pyrunc.command, "exec", "--ignore-paused", container.id, "true"], stderr=subprocess.PIPE
    )
    timer = threading.Timer(0.5, process.terminate)
    timer.start()
    assert process.wait(10) == 255
    assert b"interrupted by signal 15" in process.stderr.readline()
    pyrunc("resume", container.id)
