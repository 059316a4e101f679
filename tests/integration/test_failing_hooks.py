"""Hooks that fail, hang, misbehave or are not there."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from hook_fixtures import hook, out

__all__ = ["hook", "out"]


@pytest.mark.parametrize("kind", ["prestart", "createRuntime", "createContainer"])
def test_a_failing_hook_of_create_undoes_it(make_bundle, pyrunc, hook, out, kind):
    bundle = make_bundle()
    bundle.config["hooks"] = {
        kind: [hook("true"), hook("echo first; echo why >&2; exit 3"), hook(f"echo > {out}/next")],
        "poststop": [hook(f"cat > {out}/poststop")],
    }
    container = pyrunc.create(bundle)
    assert container.code == 1
    assert f"error running {kind} hook #1: " in container.stderr
    assert "exit status 3, output: first; why" in container.stderr
    assert container.stderr.count("\n") == 1
    assert not (out / "next").exists()
    assert json.loads((out / "poststop").read_text())["status"] == "stopped"
    assert pyrunc("state", container.id).code == 1


def test_a_failing_start_hook_ends_the_container(make_bundle, pyrunc, hook, out):
    """runtime.md, "Lifecycle", step 7: the error, then destroyed, then the poststop hooks."""
    bundle = make_bundle()
    bundle.shell("echo > /tmp/ran")
    bundle.config["hooks"] = {
        "startContainer": [hook("exit 4", bundle)],
        "poststop": [hook(f"cat > {out}/poststop")],
    }
    container = pyrunc.create(bundle)
    started = pyrunc("start", container.id)
    assert started.code == 1
    assert "error running startContainer hook #0: /bin/sh: exit status 4" in started.stderr
    assert "container does not exist" in pyrunc("state", container.id).stderr
    assert json.loads((out / "poststop").read_text())["status"] == "stopped"
    assert not (bundle.rootfs / "tmp/ran").exists()


def test_a_failing_poststart_hook_ends_the_container(make_bundle, pyrunc, hook, out):
    """As the one before, by step 9; the first hook has seen the program run."""
    bundle = make_bundle(args=["sleep", "100"])
    bundle.config["hooks"] = {
        "poststart": [hook(f"cat > {out}/poststart"), hook("exit 5"), hook(f"echo > {out}/third")],
        "poststop": [hook("exit 6"), hook(f"cat > {out}/poststop")],
    }
    container = pyrunc.create(bundle)
    pid = pyrunc.state(container)["pid"]
    started = pyrunc("start", container.id)
    assert started.code == 1
    assert "error running poststart hook #1: " in started.stderr
    assert "error running poststop hook #0: " in started.stderr
    assert "container does not exist" in pyrunc("state", container.id).stderr
    assert json.loads((out / "poststart").read_text())["pid"] == pid
    assert not Path(f"/proc/{pid}/exe").exists()
    assert (out / "poststop").exists()
    assert not (out / "third").exists()


def test_a_program_that_cannot_be_executed_leaves_the_container_stopped(make_bundle, pyrunc, hook):
    """No hook has failed then: what becomes of the container is the caller's to say."""
    bundle = make_bundle(args=["/bin/script"])
    (bundle.rootfs / "bin/script").write_text("#!/no/such/interpreter\n")
    (bundle.rootfs / "bin/script").chmod(0o755)
    container = pyrunc.create(bundle)
    assert pyrunc("start", container.id).code == 1
    pyrunc.wait(container)


def test_a_failing_poststop_hook_only_warns(make_bundle, pyrunc, hook, out):
    bundle = make_bundle()
    bundle.config["hooks"] = {"poststop": [hook("exit 6"), hook(f"cat > {out}/second")]}
    container = pyrunc.create(bundle)
    deleted = pyrunc("delete", container.id)
    assert deleted.code == 0
    assert "level=warning" in deleted.stderr
    assert "error running poststop hook #0: " in deleted.stderr
    assert (out / "second").exists()


@pytest.mark.parametrize("kind", ["createRuntime", "createContainer", "startContainer"])
def test_timeout_kills_the_whole_group(make_bundle, pyrunc, hook, out, kind):
    bundle = make_bundle()
    bundle.bind(out, "/out")
    inside = kind == "startContainer"
    where = "/out" if inside else out
    script = f"(sleep 2; echo > {where}/survived) & sleep 1000"
    bundle.config["hooks"] = {kind: [hook(script, bundle if inside else None, timeout=1)]}
    before = time.monotonic()
    container = pyrunc.create(bundle)
    failed = pyrunc("start", container.id) if inside else container
    assert failed.code == 1
    assert f"error running {kind} hook #0: " in failed.stderr
    assert "timed out" in failed.stderr
    assert time.monotonic() - before < 8
    time.sleep(1.5)
    assert not (out / "survived").exists()


def test_hooks_that_misbehave_do_not_block(make_bundle, pyrunc, hook, out):
    bundle = make_bundle()
    bundle.config["annotations"] = {f"k{i}": "x" * 1000 for i in range(200)}
    bundle.config["hooks"] = {
        "createRuntime": [
            # A state larger than a pipe that nobody reads; more output than a pipe holds.
            hook("exit 0"),
            hook("head -c 1000000 /dev/zero; exit 0"),
            # A daemon that keeps the output open.
            hook("(sleep 3; true) & exit 0"),
        ]
    }
    before = time.monotonic()
    assert pyrunc.create(bundle).code == 0
    assert time.monotonic() - before < 2.5


def test_a_missing_hook_is_named(make_bundle, pyrunc):
    bundle = make_bundle()
    bundle.config["hooks"] = {"createRuntime": [{"path": "/nonexistent/hook"}]}
    container = pyrunc.create(bundle)
    assert container.code == 1
    words = "error running createRuntime hook #0: /nonexistent/hook: no such file or directory"
    assert words in container.stderr


def test_what_a_start_container_hook_says_is_in_the_error(make_bundle, pyrunc):
    bundle = make_bundle()
    entry = {"path": "/bin/sh", "args": ["sh", "-c", "echo this; echo and that >&2; exit 4"]}
    bundle.config["hooks"] = {"startContainer": [entry]}
    created = pyrunc.create(bundle)
    started = pyrunc("start", created.id)
    assert started.code == 1
    assert "#0: /bin/sh: exit status 4, output: this; and that" in started.stderr
