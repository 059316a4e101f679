"""The hooks: when, where, with what on stdin, and what becomes of the container when one fails."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from pathlib import Path

import pytest
from hook_fixtures import hook, out

__all__ = ["hook", "out"]


KINDS = (
    "prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop",
)  # fmt: skip


def all_kinds(bundle, hook, directory, script):
    """Give the bundle one hook of each kind; ``$OUT`` is a file of the hook's kind."""
    bundle.bind(directory, "/out")
    hooks = {}
    for kind in KINDS:
        inside = kind == "startContainer"
        out = f"/out/{kind}" if inside else f"{directory}/{kind}"
        hooks[kind] = [hook(f"OUT={out}; {script}", bundle if inside else None)]
    bundle.config["hooks"] = hooks


def whole_life(pyrunc, bundle):
    container = pyrunc.create(bundle)
    assert container.code == 0, container
    created = pyrunc.state(container)
    assert pyrunc("start", container.id).code == 0
    pyrunc("kill", container.id, "KILL")
    pyrunc.wait(container)
    deleted = pyrunc("delete", container.id)
    assert (deleted.code, deleted.stderr) == (0, "")
    return container, created


def test_state_on_stdin(make_bundle, pyrunc, hook, out):
    bundle = make_bundle(args=["sleep", "100"], annotations={"x": 'a "quoted" \u00e9'})
    all_kinds(bundle, hook, out, "cat > $OUT")
    container, created = whole_life(pyrunc, bundle)
    states = {kind: json.loads((out / kind).read_text()) for kind in KINDS}
    for state in states.values():
        assert state["ociVersion"] == "1.0.2"
        assert state["id"] == container.id
        assert state["bundle"] == str(bundle.path)
        assert state["annotations"] == {"x": 'a "quoted" \u00e9'}
    assert {kind: state["status"] for kind, state in states.items()} == {
        "prestart": "creating",
        "createRuntime": "creating",
        "createContainer": "creating",
        "startContainer": "created",
        "poststart": "running",
        "poststop": "stopped",
    }
    # The pid is what its reader sees: in the container's pid namespace it is the first.
    assert {kind: state["pid"] for kind, state in states.items()} == {
        "prestart": created["pid"],
        "createRuntime": created["pid"],
        "createContainer": 1,
        "startContainer": 1,
        "poststart": created["pid"],
        "poststop": 0,
    }


def test_a_run_with_all_hooks_says_nothing_of_its_own(make_bundle, pyrunc, hook, out):
    """The last hooks run while every signal is held back, and Python has its opinion on masks."""
    bundle = make_bundle(args=["true"])
    all_kinds(bundle, hook, out, "echo > $OUT")
    done = pyrunc.run(bundle)
    assert (done.code, done.stdout, done.stderr) == (0, "", "")
    assert sorted(path.name for path in out.iterdir()) == sorted(KINDS)


def test_state_follows_the_schema(make_bundle, pyrunc, hook, out):
    schema = Path(__file__).parents[1] / "data/oci-schema"
    jsonschema = pytest.importorskip("jsonschema")
    referencing = pytest.importorskip("referencing")
    if not (schema / "state-schema.json").exists():
        pytest.skip("the schema is not there")
    bundle = make_bundle(args=["sleep", "100"])
    all_kinds(bundle, hook, out, "cat > $OUT")
    whole_life(pyrunc, bundle)
    resources = []
    for file in schema.glob("*.json"):
        contents = json.loads(file.read_text())
        contents.pop("id", None)
        resource = referencing.jsonschema.DRAFT4.create_resource(contents)
        resources.append((file.name, resource))
    registry = referencing.Registry().with_resources(resources)
    state_schema = registry.contents("state-schema.json")
    validator = jsonschema.Draft4Validator(state_schema, registry=registry)
    for kind in KINDS:
        validator.validate(json.loads((out / kind).read_text()))


def test_namespaces_and_roots(make_bundle, pyrunc, hook, out):
    bundle = make_bundle(args=["sleep", "100"])
    # Only visible where the mounts of the container are.
    bundle.mount("/mnt", "tmpfs", "tmpfs", "size=4321k")
    script = (
        "readlink /proc/self/ns/uts > $OUT; hostname >> $OUT; "
        "if test -x /bin/bash || test -d /usr/lib; then echo host; else echo box; fi >> $OUT; "
        "grep -c size=4324k /proc/self/mounts >> $OUT; true"
    )
    all_kinds(bundle, hook, out, script)
    container = pyrunc.create(bundle)
    assert container.code == 0, container
    pid = pyrunc.state(container)["pid"]
    container_uts = os.readlink(f"/proc/{pid}/ns/uts")
    pyrunc("start", container.id)
    pyrunc("delete", "--force", container.id)
    host_uts = os.readlink("/proc/self/ns/uts")
    seen = {}
    for kind in KINDS:
        uts, _, root, mounts = (out / kind).read_text().split()
        seen[kind] = (uts, root, int(mounts) > 0)
    assert seen == {
        "prestart": (host_uts, "host", False),
        "createRuntime": (host_uts, "host", False),
        "createContainer": (container_uts, "host", True),
        "startContainer": (container_uts, "box", True),
        "poststart": (host_uts, "host", False),
        "poststop": (host_uts, "host", False),
    }


def test_create_runtime_hooks_find_the_mounts_and_may_add_some(make_bundle, pyrunc, hook, out):
    """Engines join the container's mount namespace from here, before the pivot."""
    bundle = make_bundle()
    bundle.shell("cat /mnt/added")
    bundle.mount("/mnt", "tmpfs", "tmpfs")
    rootfs = bundle.rootfs
    script = (
        "pid=$(sed 's/.*\"pid\":\\([0-9]*\\).*/\\1/'); "
        f"nsenter -t $pid -m sh -c 'echo from the hook > {rootfs}/mnt/added'"
    )
    bundle.config["hooks"] = {"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", script],
                                                 "env": ["PATH=/usr/bin:/bin"]}]}  # fmt: skip
    done = pyrunc.run(bundle)
    assert (done.code, done.stdout) == (0, "from the hook\n"), done


def test_only_its_own_environment_and_arguments(make_bundle, pyrunc, hook, out, monkeypatch):
    monkeypatch.setenv("SECRET", "of the caller")
    bundle = make_bundle(args=["sleep", "100"])
    all_kinds(bundle, hook, out, "env > $OUT; echo $0 $1 >> $OUT")
    for kind in KINDS:
        entry = bundle.config["hooks"][kind][0]
        entry["env"] = ["PATH=/bin:/usr/bin", "A=1=2", "EMPTY="]
        entry["args"] = [*entry["args"], "zero", "one two"]
    whole_life(pyrunc, bundle)
    for kind in KINDS:
        lines = (out / kind).read_text().splitlines()
        assert lines[-1] == "zero one two"
        names = {line.partition("=")[0] for line in lines[:-1]}
        # The shell itself adds PWD, SHLVL and _.
        assert names - {"PWD", "SHLVL", "OLDPWD", "_"} == {"PATH", "A", "EMPTY"}
        assert "A=1=2" in lines


def test_no_descriptor_leaks_into_hooks(make_bundle, pyrunc, hook, out):
    """Neither ours nor the caller's; taking `_close_on_exec` out makes this fail."""
    bundle = make_bundle(args=["sleep", "100"])
    all_kinds(bundle, hook, out, "ls -l /proc/self/fd > $OUT")
    leaked = os.open("/etc", os.O_RDONLY)
    os.set_inheritable(leaked, True)
    try:
        container = pyrunc.create(bundle, pass_fds=(leaked,))
        assert container.code == 0, container
        pyrunc("start", container.id, pass_fds=(leaked,))
        pyrunc("delete", "--force", container.id, pass_fds=(leaked,))
    finally:
        os.close(leaked)
    for kind in KINDS:
        shown = (out / kind).read_text().splitlines()
        # 0 to 2, and the directory that ls reads.
        numbers = sorted(int(line.split()[8]) for line in shown if line[0] != "t")
        assert numbers == [0, 1, 2, 3], (kind, shown)
        assert not any("/etc" in line for line in shown)


def test_preserved_descriptors_survive_hooks(make_bundle, pyrunc, hook, tmp_path):
    bundle = make_bundle(args=["sh", "-c", "cat <&3"])
    bundle.config["hooks"] = {"createContainer": [hook("true")], "createRuntime": [hook("true")]}
    (tmp_path / "given").write_text("given\n")
    descriptor = os.open(tmp_path / "given", os.O_RDONLY)
    bundle.save()
    words = [*pyrunc.command, "run", "--bundle", str(bundle.path), "--preserve-fds", "1"]
    script = f'exec 3<&{descriptor}; exec "$@"'
    done = subprocess.run(
        ["bash", "-c", script, "bash", *words, pyrunc.new_id()],
        pass_fds=(descriptor,), capture_output=True, text=True, check=False,
    )  # fmt: skip
    os.close(descriptor)
    assert done.stdout == "given\n", done


def test_hooks_are_called_in_the_listed_order(make_bundle, pyrunc, hook, out):
    bundle = make_bundle()
    bundle.shell("echo program >> /out/order; sleep 100")
    all_kinds(bundle, hook, out, "true")
    for kind in KINDS:
        inside = bundle if kind == "startContainer" else None
        where = "/out" if inside else out
        bundle.config["hooks"][kind] = [
            hook(f"echo {kind} {number} >> {where}/order", inside) for number in (1, 2)
        ]
    whole_life(pyrunc, bundle)
    lines = (out / "order").read_text().splitlines()
    assert lines.index("program") > lines.index("startContainer 2")
    lines.remove("program")
    assert lines == [f"{kind} {number}" for kind in KINDS for number in (1, 2)]


def test_poststart_comes_after_the_program_and_poststop_after_the_end(
    make_bundle, pyrunc, hook, out
):
    bundle = make_bundle(args=["sleep", "100"])
    pid = "pid=$(sed 's/.*\"pid\":\\([0-9]*\\).*/\\1/')"
    cgroups = "find /sys/fs/cgroup -name '*test-*' | grep -c"
    bundle.config["hooks"] = {
        "poststart": [hook(f"{pid}; readlink /proc/$pid/exe > {out}/poststart")],
    }
    container = pyrunc.create(bundle)
    state = pyrunc.directory / "pyrunc-state" / container.id
    assert pyrunc("start", container.id).code == 0
    assert (out / "poststart").read_text() == "/bin/busybox\n"
    pyrunc("delete", "--force", container.id)

    look = f"test -e {pyrunc.directory}/pyrunc-state/$ID; echo $? >> {out}/poststop"
    name = 'ID=$(sed \'s/.*"id":"\\([^"]*\\).*/\\1/\')'
    bundle.config["hooks"] = {
        "poststop": [hook(f"{name}; {look}; {cgroups} $ID >> {out}/poststop")]
    }
    bundle.config["hooks"]["poststop"].append(hook("true"))
    container = pyrunc.create(bundle)
    deleted = pyrunc("delete", container.id)
    # Neither record nor cgroup is there any more.
    assert (out / "poststop").read_text().split() == ["1", "0"], deleted
    assert not state.exists()


def test_poststop_hooks_run_after_a_foreground_run(make_bundle, pyrunc, hook, out):
    bundle = make_bundle()
    bundle.config["hooks"] = {"poststop": [hook(f"cat > {out}/poststop")]}
    assert pyrunc.run(bundle).code == 0
    assert json.loads((out / "poststop").read_text())["status"] == "stopped"


def test_hooks_without_arguments_get_their_path(make_bundle, pyrunc, tmp_path):
    script = tmp_path / "hook"
    script.write_text(f'#!/bin/sh\necho "$0 $#" > {tmp_path}/seen\n')
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    bundle = make_bundle()
    bundle.config["hooks"] = {"prestart": [{"path": str(script)}]}
    assert pyrunc.create(bundle).code == 0
    assert (tmp_path / "seen").read_text() == f"{script} 0\n"


@pytest.mark.parametrize(
    ("given", "seen"),
    [(None, "of the process"), (["A=of the hook"], "of the hook"), ([], "nothing")],
)
def test_a_start_container_hook_has_the_environment_of_the_process(
    make_bundle, pyrunc, given, seen
):
    """Unless it has one of its own; a hook on the host without one gets nothing."""
    bundle = make_bundle()
    bundle.process["env"].append("A=of the process")
    entry = {"path": "/bin/sh", "args": ["sh", "-c", 'echo "${A-nothing}" >/out']}
    bundle.config["hooks"] = {
        "startContainer": [entry if given is None else {**entry, "env": given}]
    }
    assert pyrunc.run(bundle).code == 0
    assert (bundle.rootfs / "out").read_text() == f"{seen}\n"
