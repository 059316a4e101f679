"""From a snapshot a command keeps what is its own: signals, variables, words."""

from __future__ import annotations

import shutil
import signal
import subprocess

import pytest
from snapshots import OFF, fresh, installation, needed, own_package, state_root

__all__ = ["fresh", "installation", "own_package", "state_root"]
pytestmark = needed


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGUSR1])
def test_ignored_signals_stay_ignored(installation, make_bundle, pyrunc, number):
    """As nohup(1) and shells have it: what is made is not undone by a signal that was ignored."""
    installation.serve(pyrunc)
    bundle = make_bundle()
    bundle.config["hooks"] = {"createRuntime": [hook(f"kill -{int(number)} $PPID; sleep 0.2")]}
    bundle.shell("echo done")
    previous = signal.signal(number, signal.SIG_IGN)
    try:
        done = pyrunc.run(bundle)
    finally:
        signal.signal(number, previous)
    assert (done.code, done.stdout) == (0, "done\n"), done


def hook(script):
    return {"path": "/bin/sh", "args": ["sh", "-c", script]}


def test_variables_are_those_of_the_command(installation, make_bundle, pyrunc, tmp_path):
    """Not those of whoever made the snapshot; `ps` finds the program by them and hands them on."""
    installation.serve(pyrunc)
    bundle = make_bundle(args=["sleep", "100"])
    container = pyrunc.start(bundle)
    directory = tmp_path / "bin"
    directory.mkdir()
    (directory / "ps").write_text('#!/bin/sh\necho "PID"; echo "$PROBE" >"$OUT"\n')
    (directory / "ps").chmod(0o755)
    out = tmp_path / "out"
    environment = {"PATH": f"{directory}:/bin:/usr/bin", "PROBE": "here", "OUT": str(out)}
    pyrunc("ps", container.id, env=environment)
    assert out.read_text() == "here\n"


@pytest.mark.skipif(not shutil.which("strace"), reason="needs strace")
def test_frequent_commands_find_their_modules_in_it(installation, make_bundle, pyrunc, tmp_path):
    """What is loaded later costs more than to have it in the snapshot, where it is not touched."""
    installation.serve(pyrunc)
    report = tmp_path / "report"
    traced = ["strace", "-f", "-qq", "-e", "trace=openat,open", "-e", "signal=none", "-o", report]

    def opened(*words):
        before = list(pyrunc.command)
        pyrunc.command[:0] = map(str, traced)
        try:
            done = pyrunc(*words)
        finally:
            pyrunc.command[:] = before
        assert done.code == 0, done
        lines = report.read_text().splitlines()
        return [x for x in lines if "/pyrunc/startup." in x or ".py" in x]

    bundle = make_bundle(args=["true"])
    bundle.save()
    short = pyrunc.new_id()
    found = {"run": opened("run", "-b", str(bundle.path), short)}
    container = pyrunc.start(make_bundle(args=["sleep", "100"]))
    found["exec"] = opened("exec", container.id, "true")
    for command in ("state", "pause", "resume", "list", "events --stats", "kill", "delete --force"):
        name = [] if command == "list" else [container.id]
        found[command] = opened(*command.split(), *name)
    assert not any(found.values()), found


def test_words_come_through_unchanged(installation):
    words = ["", "two words", "--", "-c", "\udcff", "é", "'\"$x`"]
    answers = [
        subprocess.run(
            [installation.launcher, "--root", "/nowhere", "state", *some],
            capture_output=True, check=False, timeout=30, env=environment,
        )
        for environment in ({}, OFF)
        for some in (words, words[4:5], words[5:6])
    ]  # fmt: skip
    assert [a.stdout for a in answers[:3]] == [a.stdout for a in answers[3:]]
    without_time = [a.stderr.partition(b"level")[2] for a in answers]
    assert without_time[:3] == without_time[3:]
