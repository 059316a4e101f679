"""Hooks that call the runtime for the container that waits for them."""

from __future__ import annotations

import json
import shlex

import pytest

#: What must be said, or None for what works then.
ANSWERS = {
    "state NAME": None,
    "list": None,
    "ps NAME": None,
    "ps --format json NAME": None,
    "kill NAME 0": None,
    "start NAME": "cannot start a container that is still being created",
    "pause NAME": "container not running",
    "resume NAME": "container not paused",
    "update --pids-limit 77 NAME": "container not running",
    "exec NAME true": "cannot exec in a container that is still being created",
    "delete NAME": "cannot delete container NAME that is not stopped: creating",
}


@pytest.mark.parametrize("kind", ["prestart", "createRuntime", "createContainer"])
def test_while_it_is_created(make_bundle, pyrunc, tmp_path, kind):
    """All that lock the container waited for `create`, and `create` for them, for ever."""
    bundle = make_bundle(args=["sleep", "1000"])
    name = pyrunc.new_id()
    command = shlex.join(pyrunc.command)
    lines = []
    for number, words in enumerate(ANSWERS):
        told = f"{tmp_path}/{number}"
        lines.append(
            f"timeout -s KILL 20 {command} {words.replace('NAME', name)} >{told} 2>&1; "
            f"echo $? >{told}.code"
        )
    script = "\n".join(lines)
    hook = {"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"]}
    bundle.config["hooks"] = {kind: [hook]}
    bundle.save()
    created = pyrunc("create", "-b", bundle.path, name)
    assert (created.code, created.stderr) == (0, "")
    for number, (words, answer) in enumerate(ANSWERS.items()):
        told = (tmp_path / f"{number}").read_text()
        code = int((tmp_path / f"{number}.code").read_text())
        if kind == "createContainer" and words.startswith("kill"):
            # There the number of init's process is another's, or nobody's.
            assert "container not running" in told
        elif kind == "createContainer" and words == "ps NAME" and code:
            # The same for ps(1), which looks for itself.
            assert "ps failed: exit status 1: " in told
        elif answer is None:
            assert (words, code) == (words, 0), told
        else:
            assert (words, code) == (words, 255 if words.startswith("exec") else 1), told
            assert answer.replace("NAME", name) in told
    assert json.loads((tmp_path / "0").read_text())["status"] == "creating"
    assert pyrunc("start", name).code == 0


def test_delete_by_force_from_a_hook(make_bundle, pyrunc, tmp_path):
    """It ends the create, and with that the hook that it comes from."""
    bundle = make_bundle(args=["sleep", "1000"])
    name = pyrunc.new_id()
    script = f"{shlex.join(pyrunc.command)} delete --force {name}"
    hook = {"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"]}
    bundle.config["hooks"] = {"createRuntime": [hook]}
    bundle.save()
    created = pyrunc("create", "-b", bundle.path, name)
    assert created.code == 1
    assert "the container died meanwhile" in created.stderr
    assert pyrunc("state", name).code == 1


@pytest.mark.parametrize("kind", ["poststart", "poststop"])
def test_before_and_after_its_life(make_bundle, pyrunc, tmp_path, kind):
    """poststart hooks may do everything; for poststop hooks there is no container any more."""
    bundle = make_bundle(args=["sleep", "1000"])
    name = pyrunc.new_id()
    command = shlex.join(pyrunc.command)
    told = tmp_path / "told"
    script = f"{command} pause {name}; {command} resume {name}; {command} state {name} >{told}"
    script += f" 2>&1; {command} update --pids-limit 77 {name}; true"
    hook = {"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"]}
    bundle.config["hooks"] = {kind: [hook]}
    bundle.save()
    assert pyrunc("create", "-b", bundle.path, name).code == 0
    assert pyrunc("start", name).code == 0
    assert pyrunc("delete", "--force", name).code == 0
    expected = '"status": "running"' if kind == "poststart" else "container does not exist"
    assert expected in told.read_text()
