"""Checkpoints and restores that fail: what is said, what is left, and what a kill leaves."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path

import pytest
from checkpoints import counter, goes_on, images, restore, save, wait_for

from runtimes import leftovers

__all__ = ["images", "restore"]


def test_without_criu_it_says_what_is_missing(make_bundle, pyrunc, tmp_path, monkeypatch):
    container = pyrunc.start(make_bundle(["sleep", "1000"]))
    monkeypatch.setenv("PATH", "/nonexistent")
    refused = pyrunc("checkpoint", "--image-path", tmp_path / "images", container.id)
    assert refused.code == 1
    assert "criu is not in $PATH (/nonexistent)" in refused.stderr
    assert pyrunc.state(container)["status"] == "running"


@pytest.mark.parametrize("answer", ["exit 1", "echo hello", "sleep 0.1; kill -9 $$"])
def test_a_criu_that_is_none(make_bundle, pyrunc, tmp_path, monkeypatch, answer):
    (tmp_path / "criu").write_text(f"#!/bin/sh\n{answer}\n")
    (tmp_path / "criu").chmod(0o755)
    container = pyrunc.start(make_bundle(["sleep", "1000"]))
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    refused = pyrunc("checkpoint", "--image-path", tmp_path / "images", container.id)
    assert refused.code == 1
    assert f"{tmp_path}/criu died" in refused.stderr
    assert pyrunc.state(container)["status"] == "running"


def test_only_what_runs_can_be_saved(make_bundle, pyrunc, images):
    bundle = make_bundle()
    container = pyrunc.create(bundle)
    refused = pyrunc("checkpoint", "--image-path", images, container.id)
    assert "cannot checkpoint a container that is created" in refused.stderr
    assert pyrunc("start", container.id).code == 0
    pyrunc.wait(container)
    refused = pyrunc("checkpoint", "--image-path", images, container.id)
    assert "cannot checkpoint a container that is stopped" in refused.stderr
    assert "container does not exist" in pyrunc("checkpoint", "nobody").stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--manage-cgroups-mode", "hard"], "invalid manage-cgroups-mode value: hard"),
        (["--parent-path", "/absolute"], "must be relative to --image-path"),
        (["--parent-path", "../none"], "no such file or directory"),
        (["--page-server", "nowhere"], "'nowhere' is not ADDRESS:PORT"),
        (["--page-server", "::1:99999"], "is not ADDRESS:PORT"),
        (["--empty-ns", "pid"], "namespace pid is not supported by --empty-ns"),
    ],
)
def test_a_flag_that_makes_no_sense(make_bundle, pyrunc, images, options, words):
    container = pyrunc.start(make_bundle(["sleep", "1000"]))
    refused = pyrunc("checkpoint", "--image-path", images, *options, container.id)
    assert refused.code == 1
    assert words in refused.stderr
    assert pyrunc.state(container)["status"] == "running"


def change_manifest(images, **changes):
    path = images / "pyrunc.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"machine": "s390x"}, "it was saved on s390x, this is"),
        ({"criu": [99, 0, 0]}, "it was saved by CRIU 99.0, here is the older"),
        ({"terminal": True}, "had a terminal; by the config it has no terminal"),
        ({"format": 99}, "is not one that this version can read"),
        ({"mounts": "x"}, "is damaged: 'mounts'"),
        ({"mounts": {"/x": ["bind", "/gone", ""]}}, "had a bind mount on /gone"),
        ({"mounts": {"/x": ["device", "/etc/passwd", ""]}}, "the host's device /etc/passwd"),
        ({"mounts": {"/x": ["bind", "/vol", "/../../etc"]}}, "is damaged: 'mounts'"),
        ({"stdio": ["", 1, ""]}, "is damaged: 'stdio'"),
        ({"config": {"process.user": 5}}, "is damaged: 'config'"),
    ],
)
def test_images_that_do_not_fit_are_refused(
    make_bundle, pyrunc, images, restore, changes, words, tmp_path
):
    bundle, container = counter(make_bundle, pyrunc)
    save(pyrunc, container, images)
    change_manifest(images, **changes)
    refused = restore(bundle, images, fails=True)
    assert words in refused.stderr
    assert leftovers(pyrunc, tmp_path) == []


@pytest.mark.parametrize("cut", ["last byte", "all", "file"])
def test_memory_that_is_cut_off(make_bundle, pyrunc, images, restore, cut, tmp_path):
    """Seen: CRIU 4.2 filled its log for ever."""
    bundle, container = counter(make_bundle, pyrunc)
    save(pyrunc, container, images)
    pages = images / "pages-1.img"
    whole = pages.read_bytes()
    if cut == "file":
        pages.unlink()
        words = f"{pages}: no such file or directory"
    else:
        there = len(whole) - 1 if cut == "last byte" else 0
        os.truncate(pages, there)
        words = f"{pages} has {there} bytes of {len(whole)}"
    refused = restore(bundle, images, fails=True)
    assert len(refused.stderr.splitlines()) == 1
    assert f"the images are not whole: {words}" in refused.stderr
    assert leftovers(pyrunc, tmp_path) == []
    pages.write_bytes(whole)
    restore(bundle, images)
    assert goes_on(bundle, 3)


def test_what_an_earlier_checkpoint_has_left_is_no_lack(make_bundle, pyrunc, images, restore):
    """The images of a program that has ended name a file that another's memory is in now."""
    bundle = make_bundle()
    bundle.shell(
        """
        (while :; do sleep 0.02; done) & larger=$!
        sleep 1001 &
        echo ready >/tmp/ready
        until test -e /tmp/end; do sleep 0.02; done
        kill -9 $larger; wait $larger
        sleep 1002 &
        echo ended >/tmp/ended
        wait
        """
    )
    container = pyrunc.start(bundle)
    wait_for((bundle.rootfs / "tmp/ready").exists)
    save(pyrunc, container, images, "--leave-running")
    (bundle.rootfs / "tmp/end").touch()
    wait_for((bundle.rootfs / "tmp/ended").exists)
    save(pyrunc, container, images)
    restore(bundle, images)


def test_a_config_that_does_not_fit_is_refused(make_bundle, pyrunc, images, restore):
    bundle, container = counter(make_bundle, pyrunc)
    save(pyrunc, container, images)
    bundle.namespace("cgroup")
    refused = restore(bundle, images, fails=True)
    assert (
        "the saved container had the namespaces ipc, mount, network, pid, uts; " in refused.stderr
    )


def say_otherwise(bundle, section):
    match section:
        case "process.user":
            bundle.process["user"] = {"uid": 5, "gid": 5}
        case "process.capabilities":
            bundle.process["capabilities"] = {}
        case "process.noNewPrivileges":
            bundle.process["noNewPrivileges"] = not bundle.process.get("noNewPrivileges")
        case "process.rlimits":
            bundle.process["rlimits"] = [{"type": "RLIMIT_CORE", "hard": 7, "soft": 7}]
        case "linux.seccomp":
            bundle.linux["seccomp"] = {"defaultAction": "SCMP_ACT_ALLOW"}


@pytest.mark.parametrize(
    "section",
    [
        "process.user",
        "process.capabilities",
        "process.noNewPrivileges",
        "process.rlimits",
        "linux.seccomp",
    ],
)
def test_what_a_restore_would_not_enforce_is_refused(
    make_bundle, pyrunc, images, restore, section, tmp_path
):
    bundle, container = counter(make_bundle, pyrunc)
    save(pyrunc, container, images)
    say_otherwise(bundle, section)
    refused = restore(bundle, images, fails=True)
    assert f"the saved container had another {section} than the config has" in refused.stderr
    assert leftovers(pyrunc, tmp_path) == []


def test_order_does_not_matter(make_bundle, pyrunc, images, restore):
    bundle, container = counter(make_bundle, pyrunc)
    save(pyrunc, container, images)
    sets = bundle.process["capabilities"]
    bundle.process["capabilities"] = {name: sets[name][::-1] for name in reversed(sets)}
    restore(bundle, images)
    assert goes_on(bundle, 1)


def test_the_id_must_be_free_and_the_images_there(make_bundle, pyrunc, images, restore):
    bundle, container = counter(make_bundle, pyrunc)
    save(pyrunc, container, images, "--leave-running")
    words = ["restore", "-d", "--bundle", bundle.path, "--image-path", images, container.id]
    refused = pyrunc(*words)
    assert "container with given ID already exists" in refused.stderr
    assert pyrunc.state(container)["status"] == "running"
    refused = restore(bundle, images / "none", fails=True)
    assert f"cannot use image path {images}/none: no such file or directory" in refused.stderr
    images.joinpath("empty").mkdir()
    refused = restore(bundle, images / "empty", fails=True)
    assert "CRIU: " in refused.stderr


class Background:
    """A command that is under way."""

    def __init__(self, pyrunc, *words):
        self.process = subprocess.Popen(
            [*pyrunc.command, *map(str, words)],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def kill(self, number):
        self.process.send_signal(number)
        return self.process.wait()


def seconds_of(pyrunc, *words):
    begun = time.monotonic()
    assert pyrunc(*words).code == 0
    return time.monotonic() - begun


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_checkpoint_that_is_killed_leaves_the_container_running_or_saved(
    make_bundle, pyrunc, images, restore, number, tmp_path
):
    """Whatever the moment: the container counts on, or its images are whole.

    Seen failing: interrupted in CRIU's last moments it removed the images of what was gone by then.
    """
    bundle, container = counter(make_bundle, pyrunc)
    words = ["checkpoint", "--image-path", images]
    whole = seconds_of(pyrunc, *words, "--leave-running", container.id)
    generator = random.Random(number)
    for attempt in range(10):
        images = tmp_path / f"images{attempt}"
        dump = Background(pyrunc, "checkpoint", "--image-path", images, container.id)
        time.sleep(generator.uniform(whole / 4, whole))
        ended = dump.kill(number)
        wait_for(lambda: not processes_of_criu())
        alive = pyrunc("state", container.id)
        if alive.code == 0 and json.loads(alive.stdout)["status"] == "running":
            assert ended != 0
            assert goes_on(bundle, 0)
            continue
        assert pyrunc("delete", "--force", container.id).code == 0
        container = restore(bundle, images)
        assert goes_on(bundle, 0)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_restore_that_is_killed_leaves_nothing_that_delete_does_not_remove(
    make_bundle, pyrunc, images, tmp_path, number
):
    """With SIGTERM nothing at all is left; killed, what is left is removed by `delete --force`.

    A signal may come when all is done, before the command has ended: it is restored then.
    """
    bundle, container = counter(make_bundle, pyrunc)
    save(pyrunc, container, images)
    count = bundle.rootfs / "tmp/count"
    words = ["restore", "-d", "--bundle", bundle.path, "--image-path", images]
    whole = seconds_of(pyrunc, *words, pyrunc.new_id())
    assert pyrunc("delete", "--force", pyrunc.ids[-1]).code == 0
    generator = random.Random(number)
    for _ in range(12):
        name = pyrunc.new_id()
        attempt = Background(pyrunc, *words, name)
        time.sleep(generator.uniform(whole / 5, whole))
        ended = attempt.kill(number)
        wait_for(lambda: not processes_of_criu())
        if number != signal.SIGKILL and ended != 0:
            state = pyrunc("state", name)
            done = ended == -number and state.code == 0
            assert done or "does not exist" in state.stderr
            assert not done or json.loads(state.stdout)["status"] == "running"
        assert pyrunc("delete", "--force", name).code == 0
        assert leftovers(pyrunc, tmp_path) == []
        count.unlink(missing_ok=True)
        time.sleep(0.1)
        assert not count.exists(), "a process of it lives"


def test_delete_by_force_while_it_is_saved_or_restored(make_bundle, pyrunc, images, tmp_path):
    generator = random.Random(1)
    for _ in range(5):
        bundle, container = counter(make_bundle, pyrunc)
        dump = Background(pyrunc, "checkpoint", "--image-path", images, container.id)
        time.sleep(generator.uniform(0, 0.2))
        assert pyrunc("delete", "--force", container.id).code == 0
        dump.process.wait()
        assert leftovers(pyrunc, tmp_path) == []
    bundle, container = counter(make_bundle, pyrunc)
    save(pyrunc, container, images)
    for _ in range(8):
        name = pyrunc.new_id()
        words = ["restore", "-d", "--bundle", bundle.path, "--image-path", images]
        attempt = Background(pyrunc, *words, name)
        time.sleep(generator.uniform(0, 0.3))
        assert pyrunc("delete", "--force", name).code == 0
        attempt.process.wait()
        pyrunc("delete", "--force", name)
        assert leftovers(pyrunc, tmp_path) == []


def test_an_init_that_is_killed_while_it_is_saved(make_bundle, pyrunc, tmp_path):
    """Seen failing: CRIU waited for init, and init for a process that CRIU traced, for ever."""
    generator = random.Random(3)
    for attempt in range(12):
        _, container = counter(make_bundle, pyrunc)
        init = pyrunc.state(container)["pid"]
        images = tmp_path / f"images{attempt}"
        dump = Background(pyrunc, "checkpoint", "--image-path", images, container.id)
        time.sleep(generator.uniform(0, 0.2))
        try:
            os.kill(init, signal.SIGKILL)
        except ProcessLookupError:
            # It is saved.
            pass
        dump.process.wait(timeout=60)
        assert pyrunc("delete", "--force", container.id).code == 0
        assert leftovers(pyrunc, tmp_path) == []


def processes_of_criu():
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            words = (directory / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if words[:2] == [b"criu", b"swrk"]:
            found.append(directory.name)
    return found
