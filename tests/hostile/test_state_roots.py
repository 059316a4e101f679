"""State roots that are full, read-only, or not there: one clear line, and nothing is left."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from stepping import left_of

COMMANDS = ("create", "run", "start", "exec", "kill", "pause", "update", "state", "list", "delete")


def mount(root: Path, options: str) -> None:
    root.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"mode=700,{options}", "tmpfs", root], check=True)


@pytest.fixture
def root(pyrunc):
    path = Path(pyrunc.command[-1])
    yield path
    while path.is_mount():
        pyrunc.remove_all()
        subprocess.run(["umount", "-l", path], check=True)


def fill(root: Path, kibibytes: int) -> None:
    """Leave that much room."""
    status = os.statvfs(root)
    size = max(status.f_bavail * status.f_frsize - kibibytes * 1024, 0)
    if size:
        (root / ".filler").write_bytes(bytes(size))


def words(command, bundle, name):
    return {
        "create": ["create", "--bundle", bundle.path, name],
        "run": ["run", "--bundle", bundle.path, name],
        "exec": ["exec", name, "true"],
        "kill": ["kill", name, "KILL"],
        "update": ["update", "--pids-limit", "77", name],
        "list": ["list"],
    }.get(command, [command, name])


def judged(result) -> list[str]:
    """Success, or one line that is no fault of ours."""
    wrong = []
    if "internal error" in result.stderr or "Traceback" in result.stderr:
        wrong.append(result.stderr)
    if result.code and result.stderr.count("\n") != 1:
        wrong.append(f"not one line: {result.stderr!r}")
    return wrong


def prepare(pyrunc, bundle, command):
    name = pyrunc.new_id()
    bundle.save()
    if command in ("create", "run"):
        return name
    assert pyrunc("create", "--bundle", bundle.path, name).code == 0
    if command != "start":
        assert pyrunc("start", name).code == 0
    if command == "delete":
        assert pyrunc("kill", name, "KILL").code == 0
        pyrunc.wait(type("", (), {"id": name}))
    return name


@pytest.mark.parametrize("command", COMMANDS)
def test_full(make_bundle, pyrunc, root, tally, factor, command):
    """With ever more room, from none at all; a container from before can be removed in it."""
    bundle = make_bundle(args=["true"] if command == "run" else ["sleep", "1000"])
    rooms = (0, 8) if factor == 1 else (0, 4, 8, 12, 16)
    for room in rooms:
        mount(root, "size=256k")
        name = prepare(pyrunc, bundle, command)
        fill(root, room)
        wrong = judged(pyrunc(*words(command, bundle, name)))
        removed = pyrunc("delete", "--force", name)
        wrong += judged(removed)
        if removed.code:
            wrong.append(f"delete --force: {removed}")
        tally(f"{command} with {room} KiB", wrong + left_of(pyrunc, name))
        subprocess.run(["umount", root], check=True)


@pytest.mark.parametrize("command", ["create", "run", "start", "update"])
def test_without_room_for_names(make_bundle, pyrunc, root, tally, factor, command):
    bundle = make_bundle(args=["true"] if command == "run" else ["sleep", "1000"])
    for names in range(1, 9, 3 if factor == 1 else 1):
        mount(root, f"size=256k,nr_inodes={names if command in ('create', 'run') else 20}")
        name = prepare(pyrunc, bundle, command)
        number = 0
        while command not in ("create", "run"):
            try:
                (root / f".filler{number}").touch()
            except OSError:
                break
            number += 1
        wrong = judged(pyrunc(*words(command, bundle, name)))
        removed = pyrunc("delete", "--force", name)
        if removed.code:
            wrong.append(f"delete --force: {removed}")
        tally(f"{command} with {names} names", wrong + left_of(pyrunc, name))
        subprocess.run(["umount", root], check=True)


@pytest.mark.parametrize("command", COMMANDS)
def test_read_only(make_bundle, pyrunc, root, tally, command):
    """What was made before it became read-only can be looked at, and is removed later."""
    bundle = make_bundle(args=["true"] if command == "run" else ["sleep", "1000"])
    mount(root, "size=256k")
    name = prepare(pyrunc, bundle, command)
    subprocess.run(["mount", "-o", "remount,ro", root], check=True)
    wrong = judged(pyrunc(*words(command, bundle, name)))
    wrong += judged(pyrunc("delete", "--force", name))
    subprocess.run(["mount", "-o", "remount,rw", root], check=True)
    removed = pyrunc("delete", "--force", name)
    if removed.code:
        wrong.append(f"delete --force: {removed}")
    tally(command, wrong + left_of(pyrunc, name))


@pytest.mark.parametrize("what", ["file", "link to a file", "dangling link", "below a file"])
@pytest.mark.parametrize("command", ["create", "state", "list", "delete"])
def test_not_a_directory(make_bundle, pyrunc, tmp_path, command, what, tally):
    bundle = make_bundle()
    bundle.save()
    root = tmp_path / "elsewhere"
    (tmp_path / "file").touch()
    if what == "file":
        root.touch()
    elif what == "link to a file":
        root.symlink_to("file")
    elif what == "dangling link":
        root.symlink_to("nowhere")
    else:
        root = tmp_path / "file/below"
    pyrunc.command[-1] = str(root)
    result = pyrunc(*words(command, bundle, "x"))
    wrong = judged(result)
    if command == "create" and not result.code:
        wrong.append(f"{result}")
        pyrunc("delete", "--force", "x")
    tally(f"{command} in a {what}", wrong)
