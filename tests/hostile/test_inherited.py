"""What a caller can leave to the command: ignored and blocked signals, umask, few descriptors."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

#: Run a command with every signal ignored that can be, or every one blocked.
IGNORE = """\
import os, signal, sys
for number in map(int, sys.argv[1].split(",")):
    signal.signal(number, signal.SIG_IGN)
os.execvp(sys.argv[2], sys.argv[2:])
"""
BLOCK = """\
import os, signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
os.execvp(sys.argv[2], sys.argv[2:])
"""
UMASK = "import os, sys; os.umask(int(sys.argv[1], 8)); os.execvp(sys.argv[2], sys.argv[2:])"
STATUS = ["grep", "-E", "Sig(Blk|Ign)", "/proc/self/status"]
DEFAULTS = "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n"


@pytest.fixture
def called(pyrunc):
    """Return what calls the command behind a program of the above."""

    def call(program, argument, *words):
        before = list(pyrunc.command)
        pyrunc.command[:0] = [sys.executable, "-c", program, argument]
        try:
            return pyrunc(*words)
        finally:
            pyrunc.command[:] = before

    return call


def hooks(tmp_path):
    """One hook of each kind that runs on the host, which notes its signals."""
    look = "grep -E 'Sig(Blk|Ign)' /proc/self/status"
    kinds = ("prestart", "createRuntime", "createContainer", "poststart", "poststop")
    return {
        kind: [
            {
                "path": "/bin/sh",
                "args": [
                    "sh",
                    "-c",
                    f"{look} >{tmp_path}/{kind}",
                ],
                "env": ["PATH=/bin:/usr/bin"],
            }
        ]
        for kind in kinds
    }


def whole_life(make_bundle, pyrunc, called, tmp_path, program, argument):
    """Every command once; the program, what exec runs and the hooks get the defaults."""
    bundle = make_bundle(args=["sleep", "1000"])
    bundle.config["hooks"] = hooks(tmp_path)
    bundle.save()
    name = pyrunc.new_id()
    for words in (
        ("create", "-b", str(bundle.path), name), ("start", name), ("state", name),
        ("pause", name), ("resume", name), ("update", "--pids-limit", "50", name),
    ):  # fmt: skip
        done = called(program, argument, *words)
        assert (words[0], done.code, done.stderr) == (words[0], 0, "")
    done = called(program, argument, "exec", name, *STATUS)
    assert (done.code, done.stdout) == (0, DEFAULTS)
    assert called(program, argument, "exec", name, "sh", "-c", "exit 7").code == 7
    assert called(program, argument, "kill", name, "KILL").code == 0
    assert called(program, argument, "delete", "--force", name).code == 0
    short = make_bundle(args=STATUS)
    short.save()
    done = called(program, argument, "run", "-b", str(short.path), pyrunc.new_id())
    assert (done.code, done.stdout, done.stderr) == (0, DEFAULTS, "")
    for kind in bundle.config["hooks"]:
        assert (kind, (tmp_path / kind).read_text()) == (kind, DEFAULTS)


def test_a_caller_that_ignores_sigchld(make_bundle, pyrunc, called, tmp_path):
    """`run` returned 255, `exec` was an internal error (ECHILD), hooks failed: the kernel had
    collected the children before the runtime could. Seen with the reset in `main` taken out."""
    whole_life(make_bundle, pyrunc, called, tmp_path, IGNORE, str(int(signal.SIGCHLD)))


def test_a_caller_that_ignores_everything(make_bundle, pyrunc, called, tmp_path):
    """Hooks had the real-time signals ignored: only those to 31 were reset."""
    numbers = sorted(signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP})
    whole_life(make_bundle, pyrunc, called, tmp_path, IGNORE, ",".join(map(str, map(int, numbers))))


def test_a_caller_that_blocks_everything(make_bundle, pyrunc, called, tmp_path):
    whole_life(make_bundle, pyrunc, called, tmp_path, BLOCK, "")


def test_a_blocked_sigterm_ends_a_create(make_bundle, pyrunc, tmp_path):
    """It did not while the caller's mask was kept: the hook held everything for ever."""
    bundle = make_bundle()
    ready = tmp_path / "ready"
    bundle.config["hooks"] = {
        "createRuntime": [
            {"path": "/bin/sh", "args": ["sh", "-c", f"mkfifo {ready}; cat {ready}; sleep 1000"]}
        ]
    }
    bundle.save()
    create = subprocess.Popen(
        [sys.executable, "-c", BLOCK, "", *pyrunc.command, "create", "-b", str(bundle.path),
         pyrunc.new_id()],
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    while not ready.exists():
        assert create.poll() is None
    ready.write_text("")
    create.terminate()
    assert create.wait(30) == 1


@pytest.mark.parametrize("mask", ["777", "000", "077"])
def test_any_umask(make_bundle, pyrunc, called, tmp_path, mask):
    whole_life(make_bundle, pyrunc, called, tmp_path, UMASK, mask)
