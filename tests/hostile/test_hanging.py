"""What never ends, in the container or beside it, does not hold the command."""

from __future__ import annotations

import itertools
import signal
import subprocess
import time
from pathlib import Path

import pytest

from cgroup_tree import cgroups_named
from waiting import soon

_seconds = itertools.count(72_000_000)

#: Seizes every process named victim, and never collects what is left of it.
TRACER = """\
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <unistd.h>

int main(void)
{
    for (;;) {
        DIR *proc = opendir("/proc");
        struct dirent *entry;
        while ((entry = readdir(proc))) {
            char path[300], name[32] = "";
            snprintf(path, sizeof(path), "/proc/%s/comm", entry->d_name);
            FILE *file = fopen(path, "r");
            if (!file)
                continue;
            if (fgets(name, sizeof(name), file) && !strcmp(name, "victim\\n") &&
                !ptrace(PTRACE_SEIZE, atoi(entry->d_name), 0, 0)) {
                FILE *told = fopen("/traced", "w");
                fclose(told);
            }
            fclose(file);
        }
        closedir(proc);
        usleep(1000);
    }
}
"""
VICTIM = """\
#include <unistd.h>

int main(void)
{
    while (access("/traced", F_OK))
        usleep(1000);
    return 7;
}
"""


def alive(word):
    """Whether a process has the word among its arguments."""
    for directory in Path("/proc").iterdir():
        if directory.name.isdigit():
            try:
                words = (directory / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if any(word.encode() in part.split() for part in words):
                return True
    return False


def test_a_traced_process_that_is_never_collected(make_bundle, pyrunc, compiled):
    """`exec` spun at a whole core, for ever: the pidfd polls ready, wait(2) gives nothing.
    Seen with the look at the zombie taken out of the relay."""
    bundle = make_bundle(args=["/tracer"])
    for name, source in (("tracer", TRACER), ("victim", VICTIM)):
        program = compiled(name, source)
        (bundle.rootfs / name).write_bytes(program.read_bytes())
        (bundle.rootfs / name).chmod(0o755)
    for capabilities in bundle.process["capabilities"].values():
        capabilities.append("CAP_SYS_PTRACE")
    container = pyrunc.start(bundle)
    process = subprocess.Popen(
        [*pyrunc.command, "exec", container.id, "/victim"], stdin=subprocess.DEVNULL
    )
    assert process.wait(120) == 7
    assert (bundle.rootfs / "traced").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("kind", ["startContainer", "poststart", "poststop"])
def test_a_hook_that_hangs_in_the_foreground(make_bundle, pyrunc, kind, number):
    """All signals are blocked then: `run` could only be killed, and left everything behind."""
    bundle = make_bundle(args=["true"] if kind == "poststop" else ["sleep", "1000"])
    word = str(next(_seconds))
    script = f"sleep {word} & sleep {word}; true"
    bundle.config["hooks"] = {
        kind: [{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin"]}] * 2
    }
    bundle.save()
    name = pyrunc.new_id()
    run = subprocess.Popen(
        [*pyrunc.command, "run", "-b", str(bundle.path), name],
        stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert soon(lambda: alive(word))
        run.send_signal(number)
        _, told = run.communicate(timeout=120)
    finally:
        run.kill()
    assert f"interrupted by signal {number}" in told
    assert run.returncode == (0 if kind == "poststop" else 1)
    assert soon(lambda: not alive(word))
    assert pyrunc("state", name).code == 1
    assert cgroups_named(name) == []


@pytest.mark.parametrize("timeout", [None, 900], ids=["no timeout", "timeout"])
@pytest.mark.parametrize("own", [True, False], ids=["own pid namespace", "the host's"])
@pytest.mark.parametrize("command", ["start", "run"])
def test_a_start_that_is_killed_in_a_hook(make_bundle, pyrunc, command, own, timeout):
    """The hook and its children went on, and so did init, for as long as the hook liked."""
    bundle = make_bundle(args=["sleep", "1000"])
    if not own:
        spaces = bundle.linux["namespaces"]
        bundle.linux["namespaces"] = [n for n in spaces if n["type"] != "pid"]
    word = str(next(_seconds))
    hook = {"path": "/bin/sh", "args": ["sh", "-c", f"sleep {word} & sleep {word}; true"]}
    hook |= {"env": ["PATH=/bin"]} | ({"timeout": timeout} if timeout else {})
    bundle.config["hooks"] = {"startContainer": [hook]}
    bundle.save()
    name = pyrunc.new_id()
    words = [command, name]
    if command == "start":
        assert pyrunc("create", "-b", bundle.path, name).code == 0
    else:
        words = ["run", "-b", str(bundle.path), name]
    process = subprocess.Popen(
        [*pyrunc.command, *words], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    try:
        assert soon(lambda: alive(word))
    finally:
        process.kill()
        process.wait()
    assert soon(lambda: not alive(word))
    assert soon(lambda: '"status": "stopped"' in pyrunc("state", name).stdout)
    assert pyrunc("delete", name).code == 0


def test_signals_that_come_early_are_forwarded(make_bundle, pyrunc, tmp_path):
    """They are kept while a poststart hook runs."""
    bundle = make_bundle(args=["sh", "-c", "trap 'exit 9' USR1; while :; do sleep 0.01; done"])
    ready = tmp_path / "ready"
    script = f"mkfifo {ready}; cat {ready}"
    bundle.config["hooks"] = {
        "poststart": [{"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/bin"]}]
    }
    bundle.save()
    run = subprocess.Popen(
        [*pyrunc.command, "run", "-b", str(bundle.path), pyrunc.new_id()],
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert soon(ready.exists)
    time.sleep(0.1)
    run.send_signal(signal.SIGUSR1)
    ready.write_text("")
    assert run.wait(120) == 9


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_poststop_hook_that_hangs_after_a_failed_create(make_bundle, pyrunc, number):
    """The signals were ignored while a create was undone, its hooks included."""
    word = str(next(_seconds))
    bundle = make_bundle()
    bundle.config["hooks"] = {
        "createRuntime": [{"path": "/bin/false"}],
        "poststop": [{"path": "/bin/sleep", "args": ["sleep", word]}],
    }
    bundle.save()
    create = subprocess.Popen(
        [*pyrunc.command, "create", "-b", str(bundle.path), pyrunc.new_id()],
        stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert soon(lambda: alive(word))
        create.send_signal(number)
        _, told = create.communicate(timeout=120)
    finally:
        create.kill()
    assert create.returncode == 1
    assert "createRuntime hook #0" in told
    assert soon(lambda: not alive(word))
