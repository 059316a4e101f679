"""An id that is taken, deleted and taken again while a `create` is about to take it."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from stepping import left_of


@pytest.mark.skipif(not shutil.which("strace"), reason="needs strace")
def test_a_create_that_comes_late_leaves_the_others_container(make_bundle, pyrunc):
    """Between making its directory and opening it, that is deleted and another's is there.

    Seen failing without the look into the directory in `lock_new`: the late create took the other
    container's directory for its own, and removed it when it met the other's cgroup.
    """
    bundle = make_bundle(args=["sleep", "1000"])
    bundle.save()
    name = pyrunc.new_id()
    directory = Path(pyrunc.command[-1], name)
    directory.parent.mkdir(mode=0o700, exist_ok=True)
    slow = ["strace", "-qq", "-o", "/dev/null", "-P", str(directory), "-e", "trace=mkdir"]
    slow += ["-e", "inject=mkdir:delay_exit=2000000"]
    create = [*pyrunc.command, "create", "--bundle", str(bundle.path), name]
    late = subprocess.Popen([*slow, *create], stderr=subprocess.PIPE, text=True)
    end = time.monotonic() + 20
    while not directory.exists():
        assert time.monotonic() < end
        time.sleep(0.005)
    assert pyrunc("delete", "--force", name).code == 0
    assert not directory.exists(), "the late one was not late enough for a test"
    made = pyrunc("create", "--bundle", bundle.path, name)
    assert made.code == 0, made
    told = late.communicate(timeout=20)[1]
    assert late.returncode == 1
    assert "already exists" in told
    assert json.loads(pyrunc("state", name).stdout)["status"] == "created"
    assert pyrunc("start", name).code == 0
    assert pyrunc("delete", "--force", name).code == 0
    assert left_of(pyrunc, name) == []
