"""Configs made from the specification's JSON schema, each given to the real command.

Whatever a config says, the command ends with 0 or with a readable error, and when the container
is deleted nothing of it is left: no record, no cgroup, no mount, no process.

`PYRUNC_GENERATED_CONFIGS=1000` tries so many instead of the few of `make test`. Each run makes
other ones, where $CI is set always the same; what fails is printed as an example to repeat.
"""

from __future__ import annotations

import copy
import functools
import json
import os
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from cgroup_tree import cgroups_named
from pyrunc.linux.processes import PR_SET_CHILD_SUBREAPER, prctl

SCHEMA = Path(__file__).parents[1] / "data" / "oci-schema"

#: What of the schema is put into a config, in its place.
SECTIONS = (
    *(("process", name) for name in (
        "user", "rlimits", "capabilities", "ioPriority", "execCPUAffinity", "consoleSize", "cwd",
        "env", "oomScoreAdj", "noNewPrivileges", "apparmorProfile", "selinuxLabel", "scheduler",
        "terminal",
    )),
    *(("linux", name) for name in (
        "devices", "rootfsPropagation", "seccomp", "sysctl", "maskedPaths", "readonlyPaths",
        "mountLabel", "personality", "intelRdt", "memoryPolicy", "timeOffsets", "uidMappings",
        "gidMappings", "netDevices",
    )),
    *(("linux", "resources", name) for name in (
        "devices", "memory", "cpu", "pids", "blockIO", "hugepageLimits", "network", "rdma",
        "unified",
    )),
    ("annotations",), ("domainname",), ("hooks",), ("hostname",), ("mounts",), ("root", "readonly"),
)  # fmt: skip

#: By member, where the schema allows what would do something to this machine.
HARMLESS = {
    "listenerPath": st.just("/nonexistent/listener"),
    "netDevices": st.dictionaries(
        st.sampled_from(["none0", "lo"]), st.fixed_dictionaries({}, optional={"name": st.just("a")})
    ),
    # A process that the deadline scheduler holds back cannot even be killed.
    "policy": st.sampled_from(["SCHED_OTHER", "SCHED_BATCH", "SCHED_IDLE", "SCHED_FIFO", "x"]),
    # The program would hang instead of being killed.
    "disableOOMKiller": st.just(False),
    "timeout": st.integers(-1, 1),
    "source": st.sampled_from(["tmpfs", "proc", "/etc/hostname", "/nonexistent", "", "volume"]),
}
#: The program of a hook.
HOOK_PATHS = st.sampled_from(["/bin/true", "/bin/false", "/nonexistent", "relative"])
WORDS = st.sampled_from(
    [
        "", "a", "/a", "/etc/x", "/dev/x", "../../x", "/../..", "/proc/self", "0", "0-1", "ro",
        "bind", "rbind", "rw", "noexec", "size=1m", "tmpcopyup", "shared", "idmap", "tmpfs",
        "proc", "sysfs", "cgroup", "mqueue", "net.ipv4.ip_forward", "1", "A=b", "RLIMIT_NOFILE",
        "CAP_CHOWN", "read", "2MB", "memory.max", "x" * 300, "ü", "\0", "\n", "%s", "-1",
    ]
)  # fmt: skip
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**65), 2**65) | st.floats() | WORDS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(WORDS, inner, max_size=2),
    max_leaves=3,
)


@functools.cache
def contents(name):
    return json.loads((SCHEMA / name).read_text())


def resolve(schema, file):
    """Follow a $ref; return what it leads to and the file that it is in."""
    while "$ref" in schema:
        where, _, way = schema["$ref"].partition("#")
        file = where or file
        schema = contents(file)
        for name in way.strip("/").split("/"):
            schema = schema[name] if name else schema
    return schema, file


def value_of(schema, file, name=""):
    """Return a strategy for values that the schema allows, and for others now and then."""
    allowed = _value_of(schema, file, name)
    return st.integers(1, 25).flatmap(lambda chance: JUNK if chance == 1 else allowed)


def _value_of(schema, file, name):
    schema, file = resolve(schema, file)
    if name in HARMLESS:
        return HARMLESS[name]
    for both in ("allOf", "anyOf", "oneOf"):
        if both in schema:
            return st.one_of(*(value_of(part, file, name) for part in schema[both]))
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    kind = schema.get("type", "string")
    if kind == "boolean":
        return st.booleans()
    if kind == "integer":
        low, high = int(schema.get("minimum", -(2**63))), int(schema.get("maximum", 2**64))
        small = st.integers(max(low, -1), min(high, 5))
        return small | st.integers(low, high)
    if kind == "array":
        return st.lists(value_of(schema.get("items", {}), file), max_size=3)
    if kind == "object":
        if "properties" not in schema:
            [inner] = list(schema.get("patternProperties", {"": {}}).values()) or [{}]
            return st.dictionaries(WORDS, value_of(inner, file), max_size=2)
        members = {n: member(n, s, file, schema) for n, s in schema["properties"].items()}
        needed = {n: members.pop(n) for n in schema.get("required", ()) if n in members}
        return st.fixed_dictionaries(needed, optional=members)
    return WORDS


def member(name, schema, file, parent):
    """Return the strategy for a member; a hook's program is one of a few."""
    if name == "path" and "timeout" in parent["properties"]:
        return HOOK_PATHS
    return value_of(schema, file, name)


@functools.cache
def section(way):
    """Return the strategy for a section of the config."""
    schema, file = contents("config-schema.json"), "config-schema.json"
    for name in way:
        schema, file = resolve(schema, file)
        schema = schema["properties"][name]
    return value_of(schema, file, way[-1])


CHANGES = st.lists(
    st.sampled_from(SECTIONS).flatmap(lambda way: st.tuples(st.just(way), section(way))),
    min_size=1,
    max_size=4,
)
#: What the whole file says, with a few bytes of it changed.
DAMAGE = st.tuples(st.integers(0, 4000), st.binary(max_size=3))
#: A filter that lets nothing through: init cannot even end by itself.
NOTHING_ALLOWED = {"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 4}


def how(examples):
    return settings(
        max_examples=int(os.environ.get("PYRUNC_GENERATED_CONFIGS", examples)),
        deadline=None,
        derandomize="CI" in os.environ,
        print_blob=True,
        # Making a failing config smaller takes minutes of starting containers.
        phases=(Phase.explicit, Phase.reuse, Phase.generate),
        suppress_health_check=[*HealthCheck],
    )


@pytest.fixture
def orphans():
    """Return which processes the commands left: they become children of the test.

    Those of whoever else runs here are not looked for.
    """
    others = children()
    prctl(PR_SET_CHILD_SUBREAPER, 1)

    def left():
        end = time.monotonic() + 5
        while found := children() - others:
            for pid in found:
                os.waitpid(pid, os.WNOHANG)
            if time.monotonic() > end:
                return [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in found]
            time.sleep(0.001)
        return []

    yield left
    prctl(PR_SET_CHILD_SUBREAPER, 0)


def children():
    lists = (path.read_text() for path in Path("/proc/self/task").glob("*/children"))
    return {int(pid) for pids in lists for pid in pids.split()}


@pytest.mark.timeout(3600)
@how(200)
@given(
    changes=CHANGES,
    more=st.sets(st.sampled_from(["user", "cgroup", "time"])),
    fewer=st.sets(st.sampled_from(["pid", "ipc"])),
)
@example(changes=[(("linux", "seccomp"), NOTHING_ALLOWED)], more=set(), fewer=set())
@example(
    changes=[(("linux", "seccomp"), NOTHING_ALLOWED), (("process", "noNewPrivileges"), False)],
    more=set(),
    fewer=set(),
)
def test_any_config(make_bundle, pyrunc, orphans, changes, more, fewer):
    bundle = one_bundle(make_bundle, pyrunc)
    bundle.config = copy.deepcopy(bundle.as_made)
    bundle.without_namespace(*fewer)
    for kind in sorted(more):
        bundle.namespace(kind)
    if "user" in more:
        bundle.user_namespace()
    for way, value in changes:
        at = bundle.config
        for name in way[:-1]:
            at = at.setdefault(name, {}) if isinstance(at, dict) else {}
        at[way[-1]] = value
    bundle.save()
    assert_clean(pyrunc, bundle, orphans)


@pytest.mark.timeout(3600)
@how(40)
@given(damage=DAMAGE)
def test_a_damaged_file(make_bundle, pyrunc, orphans, damage):
    bundle = one_bundle(make_bundle, pyrunc)
    bundle.config = copy.deepcopy(bundle.as_made)
    bundle.save()
    at, what = damage
    text = (bundle.path / "config.json").read_bytes()
    (bundle.path / "config.json").write_bytes(text[:at] + what + text[at + 2 :])
    assert_clean(pyrunc, bundle, orphans)


def one_bundle(make_bundle, pyrunc):
    """Return the bundle that all examples of a test have in common."""
    if not hasattr(pyrunc, "bundle"):
        pyrunc.bundle = make_bundle(args=["sleep", "100"])
        pyrunc.bundle.as_made = copy.deepcopy(pyrunc.bundle.config)
        (pyrunc.bundle.path / "volume").mkdir()
    return pyrunc.bundle


def assert_clean(pyrunc, bundle, orphans):
    """Create, start and delete; look what was said, and what is left."""
    name = pyrunc.new_id()
    results = [pyrunc("create", "--bundle", bundle.path, name)]
    if results[0].code == 0:
        results.append(pyrunc("start", name))
        results.append(pyrunc("state", name))
        results.append(pyrunc("delete", "--force", name))
        assert results[-1].code == 0, results
    for result in results:
        assert result.code in (0, 1), result
        assert (result.code == 0) or result.stderr, result
        assert "Traceback" not in result.stderr, result
        assert "internal error" not in result.stderr, result
        for line in result.stderr.removesuffix("\n").split("\n"):
            # The program, whose words go to the same place, may have got a damaged argument.
            assert not line or line.startswith(('time="', "sleep: ")), result
            assert line.isprintable(), result
    assert orphans() == [], results
    state = pyrunc.directory / "pyrunc-state" / name
    assert not state.exists(), results
    assert str(bundle.rootfs) not in Path("/proc/self/mountinfo").read_text(), results
    assert cgroups_named(name) == [], results
    pyrunc.ids.remove(name)
