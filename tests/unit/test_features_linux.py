"""`pyrunc features`, its linux part: whatever it names is recognised (features-linux.md)."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pyrunc.linux.libc import syscall
from pyrunc.linux.numbers import SYS
from pyrunc.rootfs.options import parse_options
from pyrunc.security.capabilities import NAMES, full, wanted
from pyrunc.security.seccomp_compile import FLAGS, compile_filter, supported_flags
from pyrunc.spec.default import default_spec
from pyrunc.spec.load import check

SOURCES = Path(__file__).resolve().parents[2] / "src"


@pytest.fixture(scope="module")
def told() -> dict[str, Any]:
    """What the command prints."""
    boot = f"import sys; sys.path.insert(0, {str(SOURCES)!r}); sys.argv[0] = 'pyrunc'\n"
    boot += "from pyrunc.cli.main import main; main()"
    command = [sys.executable, "-I", "-S", "-c", boot, "features"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def mistakes(linux: dict[str, Any], **more: Any) -> list[str]:
    config: dict[str, Any] = copy.deepcopy(default_spec(cgroup_v2=True))
    config["linux"] |= linux
    config |= more
    return [path for path, _, _ in check(config)]


def test_every_member_of_the_specification_is_there(told):
    assert set(told["linux"]) == {
        "namespaces", "capabilities", "cgroup", "seccomp", "apparmor", "selinux", "intelRdt",
        "memoryPolicy", "mountExtensions", "netDevices",
    }  # fmt: skip
    assert set(told["linux"]["cgroup"]) == {"v1", "v2", "systemd", "systemdUser", "rdma"}
    assert set(told["linux"]["seccomp"]) == {
        "enabled", "actions", "operators", "archs", "knownFlags", "supportedFlags",
    }  # fmt: skip
    assert set(told["linux"]["intelRdt"]) == {"enabled", "schemata", "monitoring"}
    assert set(told["linux"]["memoryPolicy"]) == {"modes", "flags"}


def test_every_namespace_is_recognised(told):
    for kind in told["linux"]["namespaces"]:
        namespaces = [{"type": k} for k in {"mount", "uts", kind}]
        assert mistakes({"namespaces": namespaces}) == []
        assert os.path.exists(
            f"/proc/self/ns/{ {'network': 'net', 'mount': 'mnt'}.get(kind, kind) }"
        )


def test_every_capability_is_recognised(told):
    names = told["linux"]["capabilities"]
    assert names == list(NAMES)
    last = len(names) - 1
    _, warnings = wanted({"bounding": names}, full(last), last)
    assert warnings == []


def test_every_name_of_seccomp_is_recognised(told):
    seccomp = told["linux"]["seccomp"]
    rules = [
        {"names": ["acct"], "action": action, "args": [{"index": 0, "value": n, "op": op}]}
        for n, action in enumerate(seccomp["actions"])
        for op in seccomp["operators"]
    ]
    section = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": seccomp["archs"],
        "flags": seccomp["knownFlags"],
        "listenerPath": "/run/agent",
        "syscalls": rules,
    }
    assert mistakes({"seccomp": section}) == []


def test_the_supported_flags_are_those_that_the_kernel_takes(told):
    """It looks at the flags first, and then finds no filter."""
    seccomp = told["linux"]["seccomp"]
    assert set(seccomp["supportedFlags"]) <= set(seccomp["knownFlags"]) == set(FLAGS)
    assert seccomp["supportedFlags"] == supported_flags()
    for name in seccomp["supportedFlags"]:
        flags = compile_filter({"defaultAction": "SCMP_ACT_ALLOW", "flags": [name]}).flags
        with pytest.raises(OSError, match="Bad address"):
            syscall(SYS["seccomp"], 1, flags, 0)


def test_a_flag_that_the_kernel_does_not_know_is_not_supported(monkeypatch):
    monkeypatch.setitem(FLAGS, "SECCOMP_FILTER_FLAG_OF_ANOTHER_DAY", 1 << 30)
    assert "SECCOMP_FILTER_FLAG_OF_ANOTHER_DAY" not in supported_flags()


def test_every_memory_policy_is_recognised(told):
    policies = told["linux"]["memoryPolicy"]
    for mode in policies["modes"]:
        nodes = {} if mode in ("MPOL_DEFAULT", "MPOL_LOCAL") else {"nodes": "0"}
        assert mistakes({"memoryPolicy": {"mode": mode, **nodes}}) == []
    for flag in policies["flags"]:
        policy = {"mode": "MPOL_BIND", "nodes": "0", "flags": [flag]}
        assert mistakes({"memoryPolicy": policy}) == []


def test_what_is_said_to_be_enabled_is_recognised(told):
    linux = told["linux"]
    enabled = [linux[n]["enabled"] for n in ("seccomp", "apparmor", "selinux", "intelRdt")]
    enabled += [linux["netDevices"]["enabled"], linux["mountExtensions"]["idmap"]["enabled"]]
    enabled += [linux["intelRdt"]["schemata"], linux["intelRdt"]["monitoring"]]
    assert all(enabled)
    schemas = {"schemata": ["L3:0=f"], "enableMonitoring": True}
    assert mistakes({"intelRdt": schemas, "netDevices": {"eth0": {"name": "eth1"}}}) == []
    mapping = [{"containerID": 0, "hostID": 1000, "size": 1}]
    mapped = {"uidMappings": mapping, "gidMappings": mapping}
    mounts = [{"destination": "/a", "source": "/a", "options": ["bind"], **mapped}]
    assert mistakes({}, mounts=mounts) == []
    assert parse_options(["ridmap"]).recursive_idmap
