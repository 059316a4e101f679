"""The labels of security modules, as /proc shows them, and what a restore makes of them."""

from __future__ import annotations

import os
import subprocess

import pytest

from pyrunc.checkpoint import labels
from pyrunc.errors import Error


@pytest.mark.parametrize(
    ("kind", "file", "content", "label"),
    [
        ("apparmor", "apparmor/current", b"name (enforce)\n", "name"),
        ("apparmor", "current", b"name (complain)\n", "name"),
        ("apparmor", "current", b"unconfined\n", "unconfined"),
        ("apparmor", "current", b"a name (x) (enforce)\n", "a name (x)"),
        ("apparmor", "current", b"crun//&name (mixed)\n", "crun//&name"),
        ("selinux", "current", b"u:r:t:s0:c1,c2\0", "u:r:t:s0:c1,c2"),
    ],
)
def test_a_label(tmp_path, kind, file, content, label):
    (tmp_path / "apparmor").mkdir()
    (tmp_path / file).write_bytes(content)
    assert labels._label(str(tmp_path), kind) == label


def test_what_has_it_not_is_killed(monkeypatch):
    shown = {}
    monkeypatch.setattr(labels, "_label", lambda path, _: shown[path.split("/")[2]])
    sleepers = [subprocess.Popen(["sleep", "1000"]) for _ in range(2)]
    pids = [sleeper.pid for sleeper in sleepers]
    try:
        shown.update(zip(map(str, pids), ("name", "other//&name"), strict=True))
        labels.enforce(pids, "apparmor:name")
        assert [os.waitpid(pid, os.WNOHANG)[0] for pid in pids] == [0, 0]
        shown[str(pids[1])] = "unconfined"
        with pytest.raises(Error, match=f"no effect on process {pids[1]}, which is 'unconfined'"):
            labels.enforce(pids, "apparmor:name")
        assert [sleeper.wait(10) for sleeper in sleepers] == [-9, -9]
    finally:
        for sleeper in sleepers:
            sleeper.kill()
