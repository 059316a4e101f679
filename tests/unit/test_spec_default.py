"""The default configs and the features structure."""

from __future__ import annotations

import json
import shutil
import subprocess

import pytest

from pyrunc.rootfs.options import RECOGNIZED
from pyrunc.security.capabilities import NAMES
from pyrunc.spec.default import default_spec, rootless_spec
from pyrunc.spec.features import features
from pyrunc.spec.json_text import encode_indented
from pyrunc.spec.load import check

RUNC = shutil.which("runc")


@pytest.mark.skipif(RUNC is None, reason="runc is not installed")
@pytest.mark.parametrize("rootless", [False, True])
def test_only_version_and_ambient_differ_from_what_runc_writes(tmp_path, rootless):
    """Ambient capabilities that are not inheritable have no effect, and get a warning here."""
    subprocess.run([RUNC, "spec", *(["--rootless"] if rootless else [])], cwd=tmp_path, check=True)
    written = json.loads((tmp_path / "config.json").read_text())
    written["process"]["capabilities"].pop("ambient", None)
    theirs = encode_indented(written, "\t").splitlines()
    ours = encode_indented(rootless_spec() if rootless else default_spec(), "\t").splitlines()
    assert len(ours) == len(theirs)
    different = [line for line, other in zip(ours, theirs, strict=True) if line != other]
    assert different == ['\t"ociVersion": "1.3.0",']


@pytest.mark.parametrize("cgroup_v2", [False, True])
def test_the_defaults_have_no_mistakes(cgroup_v2):
    for spec in (default_spec(cgroup_v2), rootless_spec(1000, 1000, cgroup_v2)):
        assert check(spec) == []
        types = [namespace["type"] for namespace in spec["linux"]["namespaces"]]
        assert ("cgroup" in types) == cgroup_v2


def test_rootless_maps_root_to_the_user():
    linux = rootless_spec(1000, 100)["linux"]
    assert linux["uidMappings"] == [{"containerID": 0, "hostID": 1000, "size": 1}]
    assert linux["gidMappings"] == [{"containerID": 0, "hostID": 100, "size": 1}]
    assert {"type": "user"} in linux["namespaces"]
    assert {"type": "network"} not in linux["namespaces"]


def test_a_default_can_be_changed_without_changing_the_next():
    default_spec()["mounts"][1]["options"].clear()
    default_spec()["process"]["capabilities"]["bounding"].clear()
    assert default_spec()["mounts"][1]["options"]
    assert default_spec()["process"]["capabilities"]["bounding"]


def test_features_has_the_mount_options_that_are_recognised():
    assert features(NAMES)["mountOptions"] == sorted(RECOGNIZED)


def test_features_takes_what_others_know():
    found = features(["CAP_X"], seccomp_flags=(), annotations={"a": "b"})
    assert found["linux"]["capabilities"] == ["CAP_X"]
    assert found["linux"]["seccomp"]["supportedFlags"] == []
    assert found["annotations"] == {"a": "b"}
    assert features(NAMES)["linux"]["capabilities"] == list(NAMES)


@pytest.mark.skipif(RUNC is None, reason="runc is not installed")
def test_features_has_all_that_runc_has():
    theirs = json.loads(subprocess.run([RUNC, "features"], capture_output=True, check=True).stdout)
    ours = features(NAMES)
    del theirs["annotations"], theirs["ociVersionMax"]

    def contained(their, our):
        if isinstance(their, dict):
            return all(contained(value, our[name]) for name, value in their.items())
        if isinstance(their, list):
            return set(their) <= set(our)
        return their == our

    assert contained(theirs, ours)
