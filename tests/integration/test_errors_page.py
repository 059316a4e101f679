"""docs/errors.md: every message on it is really said, in the case that it is explained for."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from pyrunc.cgroups.refusals import without_controller

PAGE = Path(__file__).resolve().parents[2] / "docs/errors.md"
MESSAGES = re.findall(r"^\| `([^`]+)`(?: \(library\))? \|", PAGE.read_text(), re.MULTILINE)


# Each makes one message: (make_bundle, pyrunc) -> what the command said


def without_config(make, pyrunc):
    return pyrunc("run", "--bundle", make().path, "x")


def no_json(make, pyrunc):
    bundle = make()
    (bundle.path / "config.json").write_text("{'a': 1}")
    return pyrunc("run", "--bundle", bundle.path, "x")


def relative_cwd(make, pyrunc):
    return pyrunc.run(make(process={"cwd": "tmp"}))


def mapped(make, mappings, user=None):
    bundle = make(process={"user": user or {"uid": 0, "gid": 0}})
    bundle.namespace("user")
    for name in ("uidMappings", "gidMappings"):
        keys = ("containerID", "hostID", "size")
        bundle.linux[name] = [dict(zip(keys, each, strict=True)) for each in mappings]
    return bundle


def no_root(make, pyrunc):
    return pyrunc.run(mapped(make, [(1, 100000, 10)]))


def unmapped_user(make, pyrunc):
    return pyrunc.run(mapped(make, [(0, 100000, 10)], {"uid": 1000, "gid": 0}))


def overlapping(make, pyrunc):
    return pyrunc.run(mapped(make, [(0, 100000, 10), (10, 100005, 10)]))


def id_taken(make, pyrunc):
    container = pyrunc.create(make(args=["sleep", "1000"]))
    bundle = make()
    bundle.save()
    return pyrunc("create", "--bundle", bundle.path, container.id)


def program(name, content=None):
    def provoke(make, pyrunc):
        bundle = make(args=[name])
        if content is not None:
            path = bundle.rootfs / name[1:]
            path.write_text(content)
            path.chmod(0o755)
        return pyrunc.run(bundle)

    return provoke


def mounting(target, kind, source):
    def provoke(make, pyrunc):
        bundle = make()
        bundle.mount(target, kind, source)
        return pyrunc.run(bundle)

    return provoke


def terminal_without_a_socket(make, pyrunc):
    return pyrunc.run(make(process={"terminal": True}), "--detach")


def cgroup_of_others(make, pyrunc):
    first, second = make(args=["sleep", "1000"]), make()
    first.linux["cgroupsPath"] = second.linux["cgroupsPath"] = f"/errors-page-{os.getpid()}"
    pyrunc.start(first)
    return pyrunc.run(second)


def open_root(make, pyrunc):
    root = pyrunc.directory / "open"
    root.mkdir()
    root.chmod(0o777)
    return pyrunc("--root", root, "list")


def on_running(*words):
    def provoke(make, pyrunc):
        container = pyrunc.start(make(args=["sleep", "1000"]))
        return pyrunc(*(container.id if word == "ID" else word for word in words))

    return provoke


def on_stopped(*words):
    def provoke(make, pyrunc):
        container = pyrunc.start(make(args=["true"]))
        pyrunc.wait(container)
        return pyrunc(*(container.id if word == "ID" else word for word in words))

    return provoke


def no_process(make, pyrunc):
    bundle = make()
    del bundle.config["process"]
    return pyrunc("start", pyrunc.create(bundle).id)


def paused(make, pyrunc):
    container = pyrunc.start(make(args=["sleep", "1000"]))
    assert pyrunc("pause", container.id).code == 0
    return pyrunc("exec", container.id, "true")


def not_ours(make, pyrunc):
    root = pyrunc.directory / "other"
    (root / "theirs").mkdir(parents=True, mode=0o755)
    root.chmod(0o700)
    return pyrunc("--root", root, "delete", "--force", "theirs")


#: How each message is brought about; None: another test shows it.
PROVOKED = {
    "config.json not found": without_config,
    "line … column …": no_json,
    "process.cwd": relative_cwd,
    "a new user namespace needs": no_root,
    "process.user.uid": unmapped_user,
    "linux.uidMappings[1].hostID": overlapping,
    "container with given ID": id_taken,
    'exec: "…": executable': program("nope"),
    'exec: "…": stat': program("/bin/nope"),
    "exec …: no such file": program("/script", "#!/no/interpreter\n"),
    "exec …: exec format": program("/data", "\x7fELF nonsense"),
    "cannot bind": None,
    "… does not exist and cannot be made": None,
    "the kernel knows no file system": mounting("/mnt", "tmpf", "tmpf"),
    "cannot allocate tty": terminal_without_a_socket,
    "container's cgroup is not empty": cgroup_of_others,
    # The library's: tests/library/test_subordinate_ids.py.
    "uid …: only 0": None,
    "cannot give … to user": None,
    "has no cgroup of the controller": None,
    "state root": open_root,
    "container does not exist": lambda make, pyrunc: pyrunc("state", "nobody"),
    "cannot start an already": on_running("start", "ID"),
    "config.json has no process": no_process,
    "container not running": on_stopped("kill", "ID"),
    "cannot exec in a stopped": on_stopped("exec", "ID", "true"),
    "cannot exec in a paused": paused,
    "cannot delete container": on_running("delete", "ID"),
    # tests/integration/test_scheduling.py
    "join cgroup": None,
    "device or resource busy": None,
    "… is not the directory": not_ours,
}


def pattern(message):
    return "[^\\n]+".join(re.escape(part) for part in message.split("…"))


def test_the_page_and_this_table_have_the_same_messages():
    assert len(MESSAGES) == len(PROVOKED)
    for message, beginning in zip(MESSAGES, PROVOKED, strict=True):
        assert message.startswith(beginning), (message, beginning)


@pytest.mark.parametrize(
    ("message", "provoke"),
    [(m, p) for m, p in zip(MESSAGES, PROVOKED.values(), strict=False) if p],
)
def test_the_message_is_said(make_bundle, pyrunc, message, provoke):
    done = provoke(make_bundle, pyrunc)
    assert done.code in (1, 255)
    # The log has it as text, in which quotes are escaped.
    said = [line for line in done.stderr.replace('\\"', '"').splitlines() if "level=error" in line]
    assert len(said) == 1, done
    assert re.search(pattern(message), said[0]), done


def test_a_bind_without_a_source(make_bundle, pyrunc):
    bundle = make_bundle()
    bundle.bind("/nonexistent/source", "/mnt")
    assert re.search(pattern(MESSAGES[11]), pyrunc.run(bundle).stderr)


def test_a_limit_without_rights():
    said = without_controller("memory", "memory.limit_in_bytes", "/sys/fs/cgroup/memory")
    (message,) = (m for m in MESSAGES if m.startswith("has no cgroup of the controller"))
    assert re.search(pattern(message), said)
