"""`exec --process FILE`, and `--config FILE`: what is named on the command line may be a stream."""

from __future__ import annotations

import json
import os
import threading

import pytest

PROCESS = {"args": ["sh", "-c", "echo said; id -u"], "cwd": "/", "env": ["PATH=/bin"]}


@pytest.fixture
def container(make_bundle, pyrunc):
    return pyrunc.start(make_bundle(args=["sleep", "1000"]))


def test_a_pipe(container, pyrunc):
    """As bash's <(…) gives it."""
    read, write = os.pipe()
    os.write(write, json.dumps(PROCESS).encode())
    os.close(write)
    path = f"/dev/fd/{read}"
    done = pyrunc("exec", "--process", path, container.id, pass_fds=[read])
    os.close(read)
    assert (done.code, done.stdout, done.stderr) == (0, "said\n0\n", "")


def test_the_standard_input(container, pyrunc):
    text = json.dumps(PROCESS).encode()
    done = pyrunc("exec", "--process", "/dev/stdin", container.id, input=text, stdin=None)
    assert (done.code, done.stdout, done.stderr) == (0, "said\n0\n", "")


def test_a_fifo_is_waited_for(container, pyrunc, tmp_path):
    os.mkfifo(tmp_path / "fifo")
    writer = threading.Timer(0.3, (tmp_path / "fifo").write_text, [json.dumps(PROCESS)])
    writer.start()
    done = pyrunc("exec", "--process", tmp_path / "fifo", container.id)
    writer.join()
    assert (done.code, done.stdout, done.stderr) == (0, "said\n0\n", "")


def test_a_config_that_was_named(make_bundle, pyrunc):
    bundle = make_bundle(args=["echo", "said"])
    text = json.dumps(bundle.config).encode()
    done = pyrunc.run(bundle, "--config", "/dev/stdin", input=text, stdin=None)
    assert (done.code, done.stdout, done.stderr) == (0, "said\n", "")


def test_what_cannot_be_read_is_named(container, pyrunc, tmp_path):
    done = pyrunc("exec", "--process", tmp_path, container.id)
    assert done.code == 255
    assert f"read {tmp_path}: is a directory" in done.stderr


@pytest.mark.parametrize(
    ("option", "named"),
    [
        (["--cwd", "/tmp"], "--cwd"),
        (["--env", "A=1", "-e", "B=2"], "--env"),
        (["--tty"], "--tty"),
        (["--user", "5"], "--user"),
        (["--additional-gids", "5"], "--additional-gids"),
        (["--cap", "CAP_KILL", "--no-new-privs"], "--no-new-privs, --cap"),
        (["--process-label", "x"], "--process-label"),
        (["--apparmor", "x"], "--apparmor"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_options_that_the_file_makes_void_are_told(container, pyrunc, tmp_path, option, named):
    path = tmp_path / "process.json"
    path.write_text(json.dumps(PROCESS))
    done = pyrunc("exec", "--process", path, *option, container.id)
    assert (done.code, done.stdout) == (0, "said\n0\n")
    assert f'level=warning msg="{named}: no effect beside --process"' in done.stderr


def test_options_that_engines_give_along_are_no_news(container, pyrunc, tmp_path):
    path = tmp_path / "process.json"
    path.write_text(json.dumps({**PROCESS, "terminal": True, "noNewPrivileges": True}))
    done = pyrunc("exec", "--tty", "--no-new-privs", "--process", path, container.id)
    assert (done.code, done.stderr) == (0, "")
    path.write_text(json.dumps(PROCESS))
    done = pyrunc("exec", "--process", path, container.id, "echo", "else")
    assert "the command: no effect beside --process" in done.stderr
