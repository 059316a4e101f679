"""The config as a whole: its version, what is not known, what a bundle has; and `features`."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from public_command import for_everybody


@pytest.fixture
def features(pyrunc):
    """What the command says of itself."""
    done = pyrunc("features")
    assert done.code == 0
    return json.loads(done.stdout)


# ociVersion


@pytest.mark.parametrize("member", ["ociVersionMin", "ociVersionMax"])
def test_both_ends_of_the_versions_in_features_are_taken(make_bundle, pyrunc, features, member):
    bundle = make_bundle(args=["echo", "fine"], ociVersion=features[member])
    assert pyrunc.run(bundle).stdout == "fine\n"


@pytest.mark.parametrize("version", ["1.0", "v1.0.0", "2.0.0", "0.1.0", "", None, 1])
def test_other_versions_are_refused(make_bundle, pyrunc, version):
    done = pyrunc.create(make_bundle(ociVersion=version))
    assert done.code == 1
    assert "ociVersion: expected " in done.stderr


# What is not known


def test_unknown_properties_are_ignored(make_bundle, pyrunc):
    bundle = make_bundle(args=["echo", "fine"])
    for at in (
        bundle.config, bundle.process, bundle.process["user"], bundle.config["root"],
        bundle.config["mounts"][0], bundle.linux, bundle.linux["resources"],
        bundle.linux["namespaces"][0], bundle.process["rlimits"][0],
    ):  # fmt: skip
        at["notInTheSpecification"] = {"at": ["all"]}
    bundle.config |= {"windows": {}, "solaris": 1, "vm": [], "zos": "x", "freebsd": False}
    done = pyrunc.run(bundle)
    assert (done.code, done.stdout) == (0, "fine\n"), done


def test_unknown_annotations_are_kept_and_do_nothing(make_bundle, pyrunc):
    annotations = {"org.opencontainers.image.stopSignal": "SIGKILL", "a.b": "", "é": "\x1b[1m\n"}
    container = pyrunc.create(make_bundle(annotations=annotations))
    assert pyrunc.state(container)["annotations"] == annotations


@pytest.mark.parametrize(
    ("annotations", "where"),
    [({"": "x"}, 'annotations[\\"\\"]'), ({"x": 1}, 'annotations[\\"x\\"]'), ([], "annotations")],
)
def test_annotations_are_strings_with_names(make_bundle, pyrunc, annotations, where):
    bundle = make_bundle()
    bundle.config["annotations"] = annotations
    done = pyrunc.create(bundle)
    assert done.code == 1
    assert f"{where}: expected" in done.stderr


def test_properties_of_null_are_as_if_they_were_not_there(make_bundle, pyrunc):
    bundle = make_bundle(args=["echo", "fine"])
    bundle.config |= {"annotations": None, "hooks": None, "domainname": None}
    bundle.process.update(rlimits=None, oomScoreAdj=None, capabilities=None)
    bundle.linux.update(seccomp=None, sysctl=None, maskedPaths=None)
    assert pyrunc.run(bundle).stdout == "fine\n"


def test_what_is_false_when_it_is_not_there(make_bundle, pyrunc):
    bundle = make_bundle()
    bundle.shell("touch /new && ! test -t 1 && grep NoNewPrivs /proc/self/status")
    del bundle.config["root"]["readonly"]
    del bundle.process["terminal"], bundle.process["noNewPrivileges"]
    done = pyrunc.run(bundle)
    assert (done.code, done.stdout.split()) == (0, ["NoNewPrivs:", "0"]), done


# The bundle


def test_the_config_lies_at_the_top_of_the_bundle(make_bundle, pyrunc):
    bundle = make_bundle()
    bundle.save()
    (bundle.path / "config.json").rename(bundle.path / "rootfs/config.json")
    done = pyrunc("create", "--bundle", bundle.path, pyrunc.new_id())
    assert done.code == 1
    assert f"{bundle.path}/config.json" in done.stderr


@pytest.mark.parametrize("absolute", [True, False])
def test_the_root_is_absolute_or_counts_from_the_bundle(make_bundle, pyrunc, tmp_path, absolute):
    bundle = make_bundle(args=["cat", "/name"])
    shutil.copytree(bundle.rootfs, tmp_path / "elsewhere", symlinks=True)
    (tmp_path / "elsewhere/name").write_text("elsewhere\n")
    bundle.config["root"]["path"] = str(tmp_path / "elsewhere") if absolute else "../elsewhere"
    done = pyrunc.run(bundle, cwd="/")
    assert done.stdout == "elsewhere\n", done


def test_a_container_without_a_process_is_created_and_cannot_be_started(make_bundle, pyrunc):
    bundle = make_bundle()
    del bundle.config["process"]
    container = pyrunc.create(bundle)
    assert container.code == 0, container
    assert pyrunc.state(container)["status"] == "created"
    started = pyrunc("start", container.id)
    assert started.code == 1
    assert "config.json has no process, so there is nothing to start" in started.stderr
    # Engines take these words for a program that is missing (127).
    assert "no such file" not in started.stderr


def test_state_tells_of_the_bundle_as_the_specification_says(make_bundle, pyrunc):
    bundle = make_bundle(args=["sleep", "100"])
    bundle.save()
    name = pyrunc.new_id()
    assert pyrunc("create", "--bundle", bundle.path.name, name, cwd=bundle.path.parent).code == 0
    state = json.loads(pyrunc("state", name).stdout)
    assert state["bundle"] == str(bundle.path)


def test_an_id_may_be_used_again_after_delete(make_bundle, pyrunc):
    bundle = make_bundle(args=["sleep", "100"])
    bundle.save()
    name = pyrunc.new_id()
    for _ in range(2):
        assert pyrunc("create", "--bundle", bundle.path, name).code == 0
        assert pyrunc("delete", name).code == 0


def test_delete_leaves_what_the_container_has_not_made(make_bundle, pyrunc, tmp_path):
    (tmp_path / "volume").mkdir()
    bundle = make_bundle(args=["sh", "-c", "echo > /volume/file; sleep 100"])
    bundle.bind(tmp_path / "volume", "/volume")
    with subprocess.Popen(["unshare", "-n", "sleep", "1000"]) as holder:
        try:
            bundle.namespace("network", f"/proc/{holder.pid}/ns/net")
            container = pyrunc.start(bundle)
            assert pyrunc("delete", "--force", container.id).code == 0
            assert holder.poll() is None
        finally:
            holder.kill()
    assert bundle.rootfs.is_dir()
    assert (tmp_path / "volume").is_dir()


@pytest.mark.parametrize("command", ["start", "kill", "delete", "state", "create"])
def test_every_operation_wants_an_id(pyrunc, command):
    done = pyrunc(command)
    assert done.code == 1
    assert "requires" in done.stderr


# features


def test_every_hook_of_features_is_run(make_bundle, pyrunc, features, tmp_path):
    bundle = make_bundle(args=["sleep", "100"])
    bundle.bind(tmp_path, "/out")
    (bundle.rootfs / "out").mkdir()
    for kind in features["hooks"]:
        where = "/out" if kind == "startContainer" else tmp_path
        args = ["sh", "-c", f"echo > {where}/{kind}"]
        bundle.config.setdefault("hooks", {})[kind] = [{"path": "/bin/sh", "args": args}]
    container = pyrunc.start(bundle)
    assert pyrunc("delete", "--force", container.id).code == 0
    assert all((tmp_path / kind).exists() for kind in features["hooks"])


def test_the_versions_of_features_are_in_order(features):
    minimum, maximum = (
        [int(number) for number in features[name].split(".")]
        for name in ("ociVersionMin", "ociVersionMax")
    )
    assert minimum <= maximum


def test_features_has_no_property_that_its_schema_has_not(features):
    directory = Path(__file__).parents[1] / "data/oci-schema"
    schema = json.loads((directory / "features-schema.json").read_text())
    linux = json.loads((directory / "features-linux.json").read_text())["linux"]

    # The text of features-linux.md defines them, the schema of 1.3.0 has forgotten them.
    policy = {"properties": {"modes": {}, "flags": {}}}
    linux["properties"].setdefault("memoryPolicy", policy)
    for name in ("schemata", "monitoring"):
        linux["properties"]["intelRdt"]["properties"].setdefault(name, {"type": "boolean"})

    def assert_known(value, schema, where):
        if isinstance(value, dict) and "properties" in schema:
            for name, inner in value.items():
                assert name in schema["properties"], f"{where}.{name}"
                assert_known(inner, schema["properties"][name], f"{where}.{name}")

    assert_known(features, schema, "features")
    assert_known(features["linux"], linux, "features.linux")


def test_features_names_the_annotations_that_change_what_is_done(features):
    assert features["potentiallyUnsafeConfigAnnotations"] == [
        "org.criu.config",
        "org.systemd.property.",
        "run.oci.keep_original_groups",
    ]
    assert all(type(value) is str and name for name, value in features["annotations"].items())


def test_features_does_not_depend_on_the_host(pyrunc, features):
    """No privilege, no mount and no environment changes it (features.md).

    Whether this very command has started from a snapshot is not a feature.
    """
    elsewhere = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    script = f'mount -t tmpfs tmpfs /sys; exec {" ".join(elsewhere)} env -i "$@"'
    started = for_everybody(pyrunc.command[: pyrunc.command.index("--root")])
    command = ["unshare", "-m", "sh", "-c", script, "sh", *started, "features"]
    shown = subprocess.run(command, capture_output=True, text=True, check=False)
    found = json.loads(shown.stdout)
    for told in (found, features):
        del told["annotations"]["pyrunc.snapshot"]
    assert found == features, shown


def test_a_name_in_another_case_is_taken_with_a_warning(make_bundle, pyrunc, tmp_path):
    """Decoders in Go take it, so configs that run elsewhere have such."""
    bundle = make_bundle(args=["sleep", "1000"])
    bundle.config["hostName"] = bundle.config.pop("hostname")
    created = pyrunc.create(bundle)
    assert created.code == 0
    assert '["hostName"] is taken for the name "hostname"' in created.stderr.replace("\\", "")
    assert created.stderr.count("level=warning") == 1
    assert pyrunc("start", created.id).code == 0
    process = tmp_path / "process.json"
    process.write_text('{"Args": ["hostname"], "cwd": "/", "env": ["PATH=/bin"]}')
    done = pyrunc("exec", "--process", process, created.id)
    assert (done.code, done.stdout) == (0, "box\n")
    assert '["Args"] is taken for the name "args"' in done.stderr.replace("\\", "")
    resources = tmp_path / "resources.json"
    resources.write_text('{"Pids": {"limit": 77}}')
    done = pyrunc("update", "--resources", resources, created.id)
    assert done.code == 0
    assert '["Pids"] is taken for the name "pids"' in done.stderr.replace("\\", "")
