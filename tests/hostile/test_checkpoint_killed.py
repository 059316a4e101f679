"""kill -9 of `checkpoint` and `restore` after a system call of theirs, and `delete --force` then.

CRIU and what it restores cannot be traced by another, so only the command itself is run from call
to call (stepper.c).
"""

from __future__ import annotations

import json
import os
import shlex
import time
from pathlib import Path

import pytest
from checkpoints import counter, goes_on, images, number_in, restore, save, wait_for
from stepping import chosen, left_of

__all__ = ["images", "restore"]

MANY = 6


@pytest.fixture
def marked(monkeypatch, tmp_path):
    """Mark the processes of CRIU that are ours; return what tells whether there are any."""
    mark = f"PYRUNC_TEST={tmp_path}"
    monkeypatch.setenv(*mark.split("=", 1))

    def there():
        found = []
        for directory in Path("/proc").glob("[0-9]*"):
            try:
                words = (directory / "cmdline").read_bytes().split(b"\0")
                environment = (directory / "environ").read_bytes()
            except OSError:
                continue
            if words[:2] == [b"criu", b"swrk"] and mark.encode() in environment:
                found.append(directory.name)
        return found

    return there


def inside(bundle):
    """Return the processes that have the bundle's root file system mounted, but for ours."""
    ours = os.readlink("/proc/self/ns/mnt")
    found = []
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            if (
                os.readlink(directory / "ns/mnt") != ours
                and str(bundle.rootfs) in (directory / "mountinfo").read_text()
            ):
                found.append(f"process {directory.name} lives on")
        except OSError:
            continue
    return found


def judge_checkpoint(pyrunc, restore, bundle, container, directory):
    """Return what is wrong after a checkpoint that was killed, and the container as it is now."""
    told = pyrunc("state", container.id)
    if told.code == 0 and json.loads(told.stdout)["status"] != "stopped":
        if (status := json.loads(told.stdout)["status"]) != "running":
            return [f"it is {status}"], container
        return [] if goes_on(bundle, 0) else ["it does not go on"], container
    wrong = []
    if pyrunc("delete", "--force", container.id).code:
        wrong.append("it cannot be deleted")
    wrong += left_of(pyrunc, container.id)
    restored = restore(bundle, directory)
    return wrong + ([] if goes_on(bundle, 0) else ["it was not saved whole"]), restored


def test_a_killed_checkpoint(
    make_bundle, pyrunc, stepper, tally, factor, images, restore, marked, public_path
):
    """The container goes on, or it is saved, and its images are whole."""
    bundle, container = counter(make_bundle, pyrunc, at=public_path / "bundle")
    words = [*pyrunc.command, "checkpoint", "--image-path"]
    counted = stepper.run("count-alone", 0, *words, str(images), container.id)
    assert counted.status == 0, counted.stderr
    container = restore(bundle, images)
    for number in chosen(counted.calls, MANY * factor):
        directory = images.parent / f"images{number}"
        outcome = stepper.run("kill-alone", number, *words, str(directory), container.id)
        wait_for(lambda: not marked(), seconds=30)
        wrong, container = judge_checkpoint(pyrunc, restore, bundle, container, directory)
        tally(f"killed at {number} ({outcome.number})", wrong)


def test_a_killed_restore(make_bundle, pyrunc, stepper, tally, factor, images, marked, public_path):
    """`delete --force` removes all that there is of it."""
    bundle, container = counter(make_bundle, pyrunc, at=public_path / "bundle")
    save(pyrunc, container, images)
    words = [*pyrunc.command, "restore", "-d", "--bundle", str(bundle.path)]
    words += ["--image-path", str(images)]
    name = pyrunc.new_id()
    counted = stepper.run("count-alone", 0, *words, name)
    assert counted.status == 0, counted.stderr
    assert pyrunc("delete", "--force", name).code == 0
    for number in chosen(counted.calls, MANY * factor):
        name = pyrunc.new_id()
        outcome = stepper.run("kill-alone", number, *words, name)
        wait_for(lambda: not marked(), seconds=30)
        wrong = [] if pyrunc("state", name).code in (0, 1) else ["state fails"]
        deleted = pyrunc("delete", "--force", name)
        if deleted.code or deleted.stderr:
            wrong.append(f"delete --force: {deleted}")
        wrong += left_of(pyrunc, name) + inside(bundle)
        pyrunc.ids.remove(name)
        tally(f"killed at {number} ({outcome.number})", wrong)


@pytest.mark.parametrize("command", ["checkpoint", "restore"])
def test_deleted_by_force_meanwhile(
    make_bundle, pyrunc, stepper, tally, factor, images, marked, public_path, monkeypatch, command
):
    """Whatever the moment, `delete --force` works, and with the command's end nothing is left."""
    bundle, container = counter(make_bundle, pyrunc, at=public_path / "bundle")
    save(pyrunc, container, images, "--leave-running")
    assert pyrunc("delete", "--force", container.id).code == 0

    def prepare(directory):
        """Return the command's words, and the container's id."""
        name = pyrunc.new_id()
        words = ["restore", "-d", "--bundle", str(bundle.path), "--image-path", str(images), name]
        if command == "checkpoint":
            assert pyrunc(*words).code == 0
            words = ["checkpoint", "--image-path", str(directory), name]
        delete = shlex.join([*pyrunc.command, "delete", "--force", name])
        monkeypatch.setenv("STEPPER_CALL", delete)
        return [*pyrunc.command, *words], name

    words, name = prepare(images.parent / "counted")
    counted = stepper.run("count-alone", 0, *words)
    assert counted.status == 0, counted.stderr
    assert pyrunc("delete", "--force", name).code == 0
    for number in chosen(counted.calls, MANY * factor):
        words, name = prepare(images.parent / f"images{number}")
        outcome = stepper.run("call-alone", number, *words)
        wait_for(lambda: not marked(), seconds=30)
        wrong = ["it hung"] if outcome.hung else []
        if outcome.hit and outcome.called != 0:
            wrong.append(f"delete --force: {outcome.called}, {outcome.stderr}")
        if command == "restore" and outcome.status == 0:
            # It came before there was anything; then the container is there, and whole.
            wrong += [] if pyrunc("delete", "--force", name).code == 0 else ["not whole"]
        wrong += left_of(pyrunc, name) + inside(bundle)
        pyrunc.ids.remove(name)
        tally(f"{command}, deleted at {number} ({outcome.number})", wrong)
    time.sleep(0.05)
    (bundle.rootfs / "tmp/count").unlink(missing_ok=True)
    time.sleep(0.1)
    assert number_in(bundle.rootfs / "tmp/count") == 0
