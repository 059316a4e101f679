"""Damaged records: each command ends with a clear line, and `delete --force` removes all."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import time
from pathlib import Path

from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from strange import JUNK, TEXTS, changed

from cgroup_tree import cgroups_named

#: Of processes that are none; another one's number would be told by its start time.
NOT_A_PROCESS = st.sampled_from([0, -1, 2**22 + 1, 2**31, 2**63, "1", None, 1.5, True, [], {}])


def damage(draw, directory: Path) -> str:
    """Do something to a container's directory; say what."""
    way = draw(st.integers(0, 9))
    record = directory / "state.json"
    if way <= 4:
        document = json.loads(record.read_text())
        document = draw(changed(lambda: document, JUNK))
        if isinstance(document, dict):
            # Cgroups of others would be removed, if they were empty.
            document.pop("intelRdt", None)
            if isinstance(document.get("cgroup"), dict):
                # A record that names other cgroups, or fewer, is believed.
                document["cgroup"] = json.loads(record.read_text())["cgroup"]
            if "pid" in document and draw(st.booleans()):
                document["pid"] = draw(NOT_A_PROCESS)
        record.write_bytes(json.dumps(document).encode("utf-8", "replace"))
        return f"state.json: {document}"
    victim = draw(st.sampled_from(["state.json", "config.json", "exec.fifo", "result.fifo"]))
    path = directory / victim
    path.unlink(missing_ok=True)
    if way == 5:
        return f"no {victim}"
    if way == 6:
        path.write_bytes(draw(st.binary(max_size=30)))
        return f"{victim} of other bytes"
    if way == 7:
        path.mkdir()
        return f"a directory {victim}"
    if way == 8:
        path.symlink_to(draw(st.sampled_from(["/etc/hostname", "nowhere", ".", victim])))
        return f"a link {victim}"
    os.mkfifo(path)
    return f"a fifo {victim}"


def judge(result, what):
    assert "internal error" not in result.stderr, (what, result)
    assert "Traceback" not in result.stderr, (what, result)


#: Without making failing examples smaller: each costs half a second.
RECORDS = settings(max_examples=max(settings().max_examples // 6, 1), phases=[Phase.generate])


@RECORDS
@given(st.data())
def test_damaged_records(make_bundle, pyrunc, data):
    if pyrunc not in BUNDLES:
        BUNDLES.clear()
        BUNDLES[pyrunc] = make_bundle(args=["sleep", "1000"])
    bundle = BUNDLES[pyrunc]
    name = pyrunc.new_id()
    pyrunc.ids.remove(name)
    bundle.save()
    assert pyrunc("create", "--bundle", bundle.path, name).code == 0
    if data.draw(st.booleans()):
        assert pyrunc("start", name).code == 0
    pid = json.loads(pyrunc("state", name).stdout)["pid"]
    directory = Path(pyrunc.command[-1], name)
    try:
        what = damage(data.draw, directory)
        command = data.draw(
            st.sampled_from(["start", "kill", "pause", "ps", "exec", "update", "delete", "state"])
        )
        words = {
            "exec": [name, "true"],
            "kill": [name, "CONT"],
            "update": ["--pids-limit", "9", name],
        }
        judge(pyrunc(command, *words.get(command, [name]), timeout=20), (command, what))
        listed = pyrunc("list", "--format", "json", timeout=20)
        judge(listed, ("list", what))
        assert listed.code == 0, (what, listed)
        removed = pyrunc("delete", "--force", name, timeout=20)
        judge(removed, ("delete", what))
        assert removed.code == 0, (what, removed)
        assert not directory.exists()
        assert not is_running(pid), what
        assert cgroups_named(name) == [], what
    finally:
        clear(name, pid, directory)


def clear(name, pid, directory):
    """Remove what a failing command has left."""
    cgroups = cgroups_named(name)
    if is_running(pid) and cgroups:
        os.kill(pid, signal.SIGKILL)
    for path in cgroups:
        with contextlib.suppress(OSError):
            Path(path, "freezer.state").write_text("THAWED")
    end = time.monotonic() + 5
    while cgroups_named(name) and time.monotonic() < end:
        for path in cgroups:
            with contextlib.suppress(OSError):
                os.rmdir(path)
        time.sleep(0.01)
    shutil.rmtree(directory, ignore_errors=True)


BUNDLES: dict = {}


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False


@given(TEXTS, st.sampled_from(["file", "directory", "link"]))
def test_strange_names_in_the_state_root(pyrunc, name, kind):
    """`list` passes over what is no container, or shows it as damaged; it never fails."""
    root = Path(pyrunc.command[-1])
    root.mkdir(exist_ok=True, mode=0o700)
    try:
        path = root / name
        if path.parent != root or path.exists():
            return
        if kind == "file":
            path.touch()
        elif kind == "directory":
            path.mkdir()
        else:
            path.symlink_to("/etc")
    except (OSError, ValueError):
        return
    try:
        result = pyrunc("list")
        judge(result, (name, kind))
        assert result.code == 0, result
    finally:
        path.rmdir() if kind == "directory" else path.unlink()
