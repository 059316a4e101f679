"""Our checker against the specification's own JSON schema.

What the schema refuses we refuse too, with the few exceptions that are listed
with their reason; and no JSON whatever gives anything but a list of mistakes.
"""

from __future__ import annotations

import copy
import functools
import json
from pathlib import Path

import jsonschema
import pytest
import referencing
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from referencing.jsonschema import DRAFT4

from pyrunc.spec.default import default_spec, rootless_spec
from pyrunc.spec.features import features
from pyrunc.spec.load import check, check_process, check_resources

SCHEMA = Path(__file__).parents[1] / "data" / "oci-schema"
CONFIGS = Path(__file__).parents[1] / "data" / "spec"


@functools.cache
def retrieve(uri):
    path = SCHEMA / uri.rpartition("/")[2]
    # Sections of other platforms are not in the copy: anything goes there.
    contents = json.loads(path.read_text()) if path.exists() else {name: {} for name in PLATFORMS}
    return referencing.Resource.from_contents(contents, default_specification=DRAFT4)


PLATFORMS = ("solaris", "windows", "vm", "zos", "freebsd")


def validator(name):
    schema = json.loads((SCHEMA / name).read_text())
    schema["id"] = f"https://schema.test/{name}"
    return jsonschema.Draft4Validator(schema, registry=referencing.Registry(retrieve=retrieve))


CONFIG = validator("config-schema.json")
FEATURES = validator("features-schema.json")

FULL = {
    **default_spec(cgroup_v2=True),
    "domainname": "example.test",
    "annotations": {"a": "b"},
    "hooks": {"prestart": [{"path": "/a", "args": ["a"], "env": ["A=1"], "timeout": 1}]},
}
FULL["process"] = {
    **FULL["process"],
    "user": {"uid": 1, "gid": 1, "umask": 18, "additionalGids": [5]},
    "consoleSize": {"height": 1, "width": 1},
    "oomScoreAdj": 1,
    "apparmorProfile": "a",
    "selinuxLabel": "b",
    "scheduler": {
        "policy": "SCHED_DEADLINE",
        "nice": 0,
        "priority": 0,
        "flags": ["SCHED_FLAG_RECLAIM"],
        "runtime": 1,
        "deadline": 1,
        "period": 1,
    },
    "ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 1},
    "execCPUAffinity": {"initial": "0", "final": "0-1"},
}
FULL["process"]["capabilities"] = {
    name: ["CAP_KILL"] for name in ("bounding", "effective", "inheritable", "permitted", "ambient")
}
FULL["mounts"] = [
    {
        "destination": "/a",
        "type": "none",
        "source": "/a",
        "options": ["bind", "idmap"],
        "uidMappings": [{"containerID": 0, "hostID": 1, "size": 1}],
        "gidMappings": [{"containerID": 0, "hostID": 1, "size": 1}],
    },
]
FULL["linux"] = {
    **FULL["linux"],
    "namespaces": [{"type": name} for name in ("user", "time", "uts", "mount", "network")],
    "maskedPaths": ["/a"],
    "readonlyPaths": ["/a"],
    "uidMappings": [{"containerID": 0, "hostID": 1, "size": 1}],
    "gidMappings": [{"containerID": 0, "hostID": 1, "size": 1}],
    "timeOffsets": {"monotonic": {"secs": 1, "nanosecs": 1}, "boottime": {"secs": -1}},
    "devices": [
        {
            "type": "c",
            "path": "/dev/a",
            "major": 1,
            "minor": 1,
            "fileMode": 438,
            "uid": 1,
            "gid": 1,
        }
    ],
    "netDevices": {"eth0": {"name": "eth1"}},
    "cgroupsPath": "/a",
    "resources": {
        "unified": {"memory.high": "1"},
        "devices": [{"allow": True, "type": "c", "major": 1, "minor": 1, "access": "r"}],
        "pids": {"limit": 1},
        "blockIO": {
            "weight": 10,
            "leafWeight": 10,
            "weightDevice": [{"major": 1, "minor": 1, "weight": 1, "leafWeight": 1}],
            "throttleReadBpsDevice": [{"major": 1, "minor": 1, "rate": 1}],
            "throttleWriteBpsDevice": [{"major": 1, "minor": 1, "rate": 1}],
            "throttleReadIOPSDevice": [{"major": 1, "minor": 1, "rate": 1}],
            "throttleWriteIOPSDevice": [{"major": 1, "minor": 1, "rate": 1}],
        },
        "cpu": {
            "shares": 1,
            "quota": 2,
            "burst": 1,
            "period": 1,
            "realtimeRuntime": 1,
            "realtimePeriod": 1,
            "cpus": "0",
            "mems": "0",
            "idle": 0,
        },
        "hugepageLimits": [{"pageSize": "2MB", "limit": 1}],
        "memory": {
            "limit": 1,
            "reservation": 1,
            "swap": 1,
            "kernel": 1,
            "kernelTCP": 1,
            "swappiness": 1,
            "disableOOMKiller": True,
            "useHierarchy": True,
            "checkBeforeUpdate": True,
        },
        "network": {"classID": 1, "priorities": [{"name": "a", "priority": 1}]},
        "rdma": {"a": {"hcaHandles": 1, "hcaObjects": 1}},
    },
    "rootfsPropagation": "slave",
    "seccomp": {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": 1,
        "architectures": ["SCMP_ARCH_X86_64"],
        "flags": ["SECCOMP_FILTER_FLAG_LOG"],
        "listenerPath": "/a",
        "listenerMetadata": "a",
        "syscalls": [
            {
                "names": ["read"],
                "action": "SCMP_ACT_ERRNO",
                "errnoRet": 1,
                "args": [{"index": 0, "value": 1, "valueTwo": 1, "op": "SCMP_CMP_EQ"}],
            }
        ],
    },
    "sysctl": {"net.a": "1"},
    "mountLabel": "a",
    "personality": {"domain": "LINUX", "flags": []},
    "intelRdt": {
        "closID": "a",
        "schemata": ["L3:0=f"],
        "l3CacheSchema": "L3:0=f",
        "memBwSchema": "MB:0=1",
        "enableMonitoring": True,
    },
    "memoryPolicy": {"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]},
}

#: Where we take what the schema refuses, and why.
LOOSER = {
    ("linux", "devices", 0, "fileMode"): "engines pass st_mode with its type bits",
    ("linux", "rootfsPropagation"): "Docker writes rslave; an empty string is Go's absent",
    ("linux", "resources", "pids"): "its limit is OPTIONAL in config-linux.md",
    ("linux", "resources", "pids", "limit"): "OPTIONAL in config-linux.md since 1.3",
}


def paths(value, way=()):
    """Yield the way to every value below ``value``."""
    yield way
    children = enumerate(value) if isinstance(value, list) else ()
    children = value.items() if isinstance(value, dict) else children
    for name, child in children:
        yield from paths(child, (*way, name))


def replaced(way, value):
    spec = copy.deepcopy(FULL)
    *parents, last = way
    at = spec
    for name in parents:
        at = at[name]
    if value is ...:
        del at[last]
    else:
        at[last] = value
    return spec


MUTANTS = [..., True, "", "bogus", -1, 1.5, 2**16, 2**32, 2**63, 2**64, -(2**63) - 1, [], {}, [1]]
#: Of arrays the first element stands for all.
EVERYWHERE = sorted(
    (way for way in paths(FULL) if way and not any(name in way for name in range(1, 20))), key=str
)


def test_the_full_example_is_good_for_both():
    CONFIG.validate(FULL)
    assert check(copy.deepcopy(FULL)) == []


@pytest.mark.parametrize("way", [w for w in EVERYWHERE if len(w) <= 2], ids=str)
def test_what_the_schema_refuses_is_refused(way):
    """Each member below this one is replaced by each mutant in turn."""
    for deeper in EVERYWHERE:
        if deeper[: len(way)] != way or (len(way) < 2 and deeper != way):
            continue
        for value in MUTANTS:
            spec = replaced(deeper, value)
            ours = check(copy.deepcopy(spec))
            if not ours and deeper not in LOOSER:
                assert CONFIG.is_valid(spec), (deeper, value)


@pytest.mark.parametrize("way", LOOSER, ids=str)
def test_the_exceptions_are_still_needed(way):
    assert any(
        not check(replaced(way, value)) and not CONFIG.is_valid(replaced(way, value))
        for value in MUTANTS
    )


@pytest.mark.parametrize("cgroup_v2", [False, True])
def test_what_we_write_validates(cgroup_v2):
    CONFIG.validate(default_spec(cgroup_v2))
    CONFIG.validate(rootless_spec(1000, 1000, cgroup_v2))
    FEATURES.validate(features(["CAP_CHOWN"], annotations={"a": "b"}))


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**65), 2**65)
    | st.floats(allow_nan=False)
    | st.text(max_size=5)
    | st.sampled_from(["/a", "idmap", "SCMP_ACT_NOTIFY", "uts", "p", "net.a", "1.0.0", "0-1"])
)
JSON = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)


def assert_mistakes(found):
    for path, expected, what in found:
        assert all(isinstance(part, str) and part for part in (path, expected, what))
        assert "\n" not in path + expected + what


@settings(max_examples=60, deadline=None)
@given(JSON)
def test_no_json_at_all_makes_the_checker_fail(value):
    for checker in (check, check_process, check_resources):
        assert_mistakes(checker(copy.deepcopy(value)))


@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.lists(st.tuples(st.sampled_from(EVERYWHERE), JSON), min_size=1, max_size=4))
def test_no_damage_to_a_good_config_makes_the_checker_fail(damages):
    spec = copy.deepcopy(FULL)
    for way, value in damages:
        at = spec
        try:
            for name in way[:-1]:
                at = at[name]
            at[way[-1]] = value
        except (TypeError, KeyError, IndexError):
            continue  # an earlier damage took the way there
    found = check(spec)
    assert_mistakes(found)
    if not found:
        assert check(spec) == []  # and checking again changes nothing


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.json")), ids=lambda path: path.stem)
def test_engines_keep_to_the_schema_but_for_the_exceptions(path):
    for error in CONFIG.iter_errors(json.loads(path.read_text())):
        way = tuple(0 if isinstance(name, int) else name for name in error.absolute_path)
        assert way in LOOSER, error.message
