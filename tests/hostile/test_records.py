"""Records that hold anything: one is never more than one, and `delete --force` gets rid of it."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from cgroup_tree import cgroups_named
from pyrunc.container.record.record import first_wrong, salvaged
from pyrunc.container.record.store import Store
from pyrunc.errors import Error

#: In place of every member, one after the other.
VALUES = (
    None, True, -1, 0, 1, 2**70, 1.5, "", "x", "/", "a\0b", "\ud800", [], [1], ["/"], {}, {"a": 1},
    {"": "/"}, {"version": 2, "paths": []}, {"version": 1, "paths": {"memory": 1}},
    {"version": 2, "paths": {"": "relative"}}, {"poststop": [{"path": 1}]}, {"poststop": 1},
    {"path": [], "created": "x"}, [[[[]]]],
)  # fmt: skip
OTHERS = ("state", "start", "pause", "resume", "events", "ps", "delete", "kill", "exec", "update")


@pytest.fixture
def root(pyrunc) -> Path:
    return Path(pyrunc.command[pyrunc.command.index("--root") + 1])


def words_for(command: str, name: str) -> list[str]:
    extra = {"events": ["--stats"], "update": ["--pids-limit", "77"]}.get(command, [])
    return [command, *extra, name, *{"kill": ["0"], "exec": ["true"]}.get(command, [])]


def members(record: dict) -> list[tuple[str, ...]]:
    """Return the paths of all members of a record, and of those of its cgroup."""
    return [(name,) for name in record] + [("cgroup", name) for name in record["cgroup"]]


def changed(record: dict, path: tuple[str, ...], value: object) -> dict:
    copy = json.loads(json.dumps(record))
    place = copy
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    return copy


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def test_a_record_with_any_value_in_any_place(make_bundle, pyrunc, root):
    """Read in this process: each is refused in one line, or well-formed; never another exception.

    Seen: TypeError, KeyError and AttributeError came out of `list`, for all containers.
    """
    container = pyrunc.start(make_bundle(args=["sleep", "1000"]))
    path = root / container.id / "state.json"
    record = json.loads(path.read_text())
    good = path.read_text()
    from pyrunc.container.record import state

    refused = fine = 0
    for where in members(record):
        for value in VALUES:
            path.write_text(json.dumps(changed(record, where, value)))
            entry = Store(str(root)).open(container.id)
            try:
                state.describe(entry, entry.load())
                fine += 1
            except Error as error:
                assert "\n" not in str(error)
                refused += 1
            finally:
                entry.close()
    path.write_text(good)
    assert refused > 300
    assert fine


def test_what_is_salvaged_has_its_type():
    for value in VALUES:
        record = dict.fromkeys(("pid", "startTime", "cgroup", "hooks", "intelRdt"), value)
        kept = salvaged(record)
        assert first_wrong({**kept}, "x")
        for name in ("pid", "startTime"):
            assert type(kept.get(name, 0)) is int
        assert all(type(kept.get(n, {})) is dict for n in ("cgroup", "hooks", "intelRdt"))


@pytest.mark.parametrize(
    ("paths", "good"),
    [
        ({}, True), ({"a": "/x", "": "/y", "b": "/"}, True), ({"a": "", "b": "/x"}, True),
        ({"a": "x"}, False), ({"a": "/x", "b": "x"}, False), ({"a": "/x", "b": 1}, False),
        ({"a": "/x\0/y"}, False), ({"a": "/x\0y", "b": ""}, False),
        ({"a": "/x\0/y", "b": "z"}, False),
        ({"a\0": "/x", "b": "/y"}, False), ({"a": None}, False), ([], False), ("/", False),
    ],
    ids=str,
)  # fmt: skip
def test_paths_of_cgroups_are_paths_each(paths, good):
    """They are checked all at once; no zero byte in one may stand for the border of two."""
    cgroup = {"version": 1, "paths": paths}
    record = {
        "ociVersion": "1.0.2", "bundle": "/", "rootfs": "/", "created": "", "pid": 1,
        "startTime": 1, "id": "x", "phase": "created", "cgroup": cgroup,
    }  # fmt: skip
    assert first_wrong(record, "x") == ("" if good else "cgroup")


@pytest.mark.parametrize(
    ("where", "value"),
    [
        (("cgroup",), 7), (("cgroup", "paths"), 3), (("cgroup", "version"), []), (("pid",), "many"),
        (("hooks",), [1]), (("annotations",), "x"), (("created",), None), (("startTime",), -1),
        (("pid",), 2**70), (("bundle",), {}),
    ],
    ids=str,
)  # fmt: skip
def test_one_bad_record_is_one(make_bundle, pyrunc, root, where, value):
    """`list` shows it as such and the others as ever; every command says so; force removes it."""
    good = pyrunc.start(make_bundle(args=["sleep", "1000"]))
    bad = pyrunc.start(make_bundle(args=["sleep", "1000"]))
    pid = pyrunc.state(bad)["pid"]
    path = root / bad.id / "state.json"
    path.write_text(json.dumps(changed(json.loads(path.read_text()), where, value)))
    listed = pyrunc("list", "--format", "json")
    assert listed.code == 0
    found = {state["id"]: state["status"] for state in json.loads(listed.stdout)}
    assert found == {good.id: "running", bad.id: "damaged"}
    assert "damaged" in pyrunc("list").stdout
    for command in OTHERS:
        result = pyrunc(*words_for(command, bad.id), timeout=20)
        assert result.code != 0, (command, result)
        assert "internal error" not in result.stderr, (command, result)
        assert "delete --force removes it" in result.stderr, (command, result)
    deleted = pyrunc("delete", "--force", bad.id)
    assert (deleted.code, deleted.stderr) == (0, ""), deleted
    assert not is_alive(pid)
    assert not (root / bad.id).exists()
    assert pyrunc.state(good)["status"] == "running"


def fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def link(path: Path) -> None:
    path.rename(path.with_name("notify"))
    path.symlink_to("notify")


FILES = {
    "missing": Path.unlink,
    "a fifo": fifo,
    "a directory": lambda path: (path.unlink(), path.mkdir()),
    "a link": link,
    "empty": lambda path: path.write_text(""),
    "a file": lambda path: (path.unlink(), path.write_text("x")),
    "huge": lambda path: os.truncate(path, 1 << 40),
}


def damages():
    """When started there are no fifos any more, and a fifo has no size."""
    for name, damage in itertools.product(("state.json", "config.json"), FILES):
        yield from ((name, damage, False), (name, damage, True))
    sizes = ("huge", "empty")
    for name, damage in itertools.product(("exec.fifo", "result.fifo"), FILES.keys() - sizes):
        yield name, damage, False


@pytest.mark.parametrize(("name", "damage", "started"), sorted(damages()))
def test_a_file_that_is_something_else(make_bundle, pyrunc, root, name, damage, started):
    """No command hangs or breaks; the processes and cgroups die with `delete --force`.

    Seen: without state.json they lived on; `start` waited for ever when exec.fifo was a file; a
    fifo in place of state.json stopped `list`.
    """
    other = pyrunc.start(make_bundle(args=["sleep", "1000"]))
    bundle = make_bundle(args=["sh", "-c", "sleep 1000 & sleep 1000"])
    container = (pyrunc.start if started else pyrunc.create)(bundle)
    pid = pyrunc.state(container)["pid"]
    FILES[damage](root / container.id / name)
    for command in ("list", *OTHERS):
        if command in ("delete", "kill") or (command == "start" and started):
            continue
        words = ["list"] if command == "list" else words_for(command, container.id)
        result = pyrunc(*words, timeout=20)
        assert "internal error" not in result.stderr, (command, result)
        assert "Traceback" not in result.stderr, (command, result)
        assert command != "list" or other.id in result.stdout
    deleted = pyrunc("delete", "--force", container.id, timeout=20)
    assert deleted.code == 0, deleted
    assert not is_alive(pid)
    assert not (root / container.id).exists()


def test_a_dead_container_has_stopped_whatever_its_fifo_is(make_bundle, pyrunc, root):
    container = pyrunc.create(make_bundle(args=["sleep", "1000"]))
    pid = pyrunc.state(container)["pid"]
    FILES["a file"](root / container.id / "exec.fifo")
    assert "cannot tell the state" in pyrunc("state", container.id).stderr
    os.kill(pid, signal.SIGKILL)
    while is_alive(pid):
        time.sleep(0.01)
    assert pyrunc.state(container)["status"] == "stopped"
    assert pyrunc("delete", container.id).code == 0


def test_without_a_record_the_poststop_hooks_run(make_bundle, pyrunc, root, tmp_path):
    bundle = make_bundle(args=["sleep", "1000"])
    seen = tmp_path / "seen"
    bundle.config["hooks"] = {
        "poststop": [{"path": "/bin/sh", "args": ["sh", "-c", f"cat >{seen}"]}]
    }
    container = pyrunc.start(bundle)
    (root / container.id / "state.json").unlink()
    assert pyrunc("delete", "--force", container.id).code == 0
    assert json.loads(seen.read_text())["id"] == container.id


def test_a_container_of_this_name_elsewhere_lives_on(make_bundle, pyrunc, root):
    """A directory with nothing in it tells nothing of a cgroup that has the same name."""
    container = pyrunc.start(make_bundle(args=["sleep", "1000"]))
    pid = pyrunc.state(container)["pid"]
    second = root.with_name("second-root")
    (second / container.id).mkdir(parents=True, mode=0o700)
    second.chmod(0o700)
    words = [str(second) if word == str(root) else word for word in pyrunc.command]
    done = subprocess.run([*words, "delete", "--force", container.id], check=False)
    assert done.returncode == 0
    assert is_alive(pid)


def lose_both(root, name):
    for file in ("state.json", "config.json"):
        (root / name / file).unlink()


@pytest.mark.parametrize("path", [None, "/pyrunc-lost/{}"], ids=["its id", "another path"])
def test_a_created_one_without_both_records_is_ended(make_bundle, pyrunc, root, path):
    """Who waits for the start is known by the fifo that it holds. Seen: it lived on, for ever."""
    bundle = make_bundle(args=["sleep", "1000"])
    name = pyrunc.new_id()
    if path:
        bundle.linux["cgroupsPath"] = path.format(name)
    bundle.save()
    assert pyrunc("create", "-b", bundle.path, name).code == 0
    pid = json.loads(pyrunc("state", name).stdout)["pid"]
    cgroups = [line for line in cgroups_of(pid) if name in line]
    assert cgroups
    lose_both(root, name)
    try:
        deleted = pyrunc("delete", "--force", name)
        assert (deleted.code, deleted.stderr) == (0, "")
        assert not is_alive(pid)
        assert not (root / name).exists()
        if not path:
            assert cgroups_named(name) == []
    finally:
        for found in reversed(cgroups_named(name, "pyrunc-lost")):
            os.rmdir(found)


def test_a_running_one_without_both_records_is_told_of(make_bundle, pyrunc, root):
    """Whose the processes in the cgroup of its name are cannot be told. Seen: not a word."""
    container = pyrunc.start(make_bundle(args=["sleep", "1000"]))
    pid = pyrunc.state(container)["pid"]
    kept = {n: (root / container.id / n).read_text() for n in ("state.json", "config.json")}
    lose_both(root, container.id)
    deleted = pyrunc("delete", "--force", container.id)
    assert deleted.code == 0
    assert "has neither state.json nor config.json any more" in deleted.stderr
    assert deleted.stderr.rstrip().endswith(f'kill them: {pid}"')
    assert is_alive(pid)
    # For whoever cleans up after the test.
    (root / container.id).mkdir(mode=0o700)
    for name, text in kept.items():
        (root / container.id / name).write_text(text)


def cgroups_of(pid):
    return Path(f"/proc/{pid}/cgroup").read_text().splitlines()


def test_reserving_leaves_no_directory_when_it_fails_half_way(tmp_path):
    """No descriptor is left for the directory just made. Seen: the directory stayed."""
    store = Store(str(tmp_path / "root"))
    store.reserve("first").close()
    taken = []
    try:
        while True:
            taken.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        pass
    try:
        with pytest.raises(Error, match=r"state directory .*: too many open files"):
            store.reserve("second")
    finally:
        for descriptor in taken:
            os.close(descriptor)
    assert os.listdir(tmp_path / "root") == ["first"]


@pytest.fixture
def small_root(pyrunc, root):
    """A state root that is a file system of 128 KiB."""
    root.mkdir(mode=0o700)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k,mode=700", "t", root], check=True)
    yield root
    pyrunc.remove_all()
    subprocess.run(["umount", root], check=True)


def test_an_update_that_cannot_be_saved_changes_nothing(make_bundle, pyrunc, small_root):
    """Seen: the limit was in force, but not on record, and the message was an internal error."""
    bundle = make_bundle(args=["sleep", "1000"])
    bundle.linux["resources"]["pids"] = {"limit": 50}
    container = pyrunc.start(bundle)
    saved = json.loads((small_root / container.id / "state.json").read_text())
    directory = Path(saved["cgroup"]["paths"].get("pids") or saved["cgroup"]["paths"][""])
    files = {n: (small_root / container.id / n).read_text() for n in ("state.json", "config.json")}
    full = os.open(small_root / "full", os.O_WRONLY | os.O_CREAT)
    try:
        while True:
            os.write(full, b"x" * 512)
    except OSError:
        os.close(full)
    result = pyrunc("update", "--pids-limit", "77", container.id)
    assert result.code == 1
    assert "cannot save the state of container" in result.stderr
    assert "no space left on device" in result.stderr
    assert "internal error" not in result.stderr
    assert (directory / "pids.max").read_text() == "50\n"
    for name, text in files.items():
        assert (small_root / container.id / name).read_text() == text
    assert not [n for n in os.listdir(small_root / container.id) if n.endswith(".new")]
    (small_root / "full").unlink()
    assert pyrunc("update", "--pids-limit", "77", container.id).code == 0
    assert (directory / "pids.max").read_text() == "77\n"
