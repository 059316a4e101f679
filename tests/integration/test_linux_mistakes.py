"""A bad value of any member of ``linux`` is refused by its JSON path, and nothing is left of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

SCHEMA = Path(__file__).resolve().parents[1] / "data/oci-schema/config-linux.json"

#: Member of linux, a value that it cannot have, where in it the mistake is.
MISTAKES: list[tuple[str, Any, str]] = [
    ("namespaces", [{"type": "ram"}], "[0].type"),
    ("namespaces", [{"type": "mount"}, {"type": "mount"}], "[1].type"),
    ("namespaces", [{"type": "mount", "path": "proc/1/ns/mnt"}], "[0].path"),
    ("uidMappings", [{"containerID": 0, "hostID": 0}], "[0].size"),
    ("gidMappings", [{"containerID": 0, "hostID": -1, "size": 1}], "[0].hostID"),
    ("timeOffsets", {"realtime": {"secs": 1}}, '["realtime"]'),
    ("timeOffsets", {"boottime": {"nanosecs": 10**9}}, '["boottime"].nanosecs'),
    ("devices", [{"type": "c", "path": "/dev/a", "major": 1}], "[0].minor"),
    ("devices", [{"type": "x", "path": "/dev/a"}], "[0].type"),
    ("netDevices", {"eth0": {"name": "a/b"}}, '["eth0"].name'),
    ("cgroupsPath", "/a/../b", ""),
    ("resources", {"memory": {"limit": "64m"}}, ".memory.limit"),
    ("resources", {"cpu": {"quota": 1000, "burst": 2000}}, ".cpu.burst"),
    ("resources", {"pids": {"limit": None, "other": 1}, "unified": []}, ".unified"),
    ("resources", {"devices": [{"access": "rwx", "allow": True}]}, ".devices[0].access"),
    ("rootfsPropagation", "both", ""),
    ("seccomp", {"defaultAction": "SCMP_ACT_PANIC"}, ".defaultAction"),
    ("sysctl", {"vm.overcommit_memory": "1"}, '["vm.overcommit_memory"]'),
    ("maskedPaths", ["/proc/kcore", "proc/keys"], "[1]"),
    ("readonlyPaths", ["/proc/sys", 1], "[1]"),
    ("mountLabel", 1, ""),
    ("personality", {"domain": "LINUX16"}, ".domain"),
    ("personality", {"domain": "LINUX", "flags": ["ADDR_NO_RANDOMIZE"]}, ".flags"),
    ("intelRdt", {"closID": "../x"}, ".closID"),
    ("intelRdt", {"memBwSchema": "L3:0=f"}, ".memBwSchema"),
    ("intelRdt", {"schemata": ["MB:0=1\nL3:0=f"]}, ".schemata[0]"),
    ("memoryPolicy", {"mode": "MPOL_BIND"}, ".nodes"),
    ("memoryPolicy", {"mode": "MPOL_BEND", "nodes": "0"}, ".mode"),
]


@pytest.mark.parametrize(("member", "value", "where"), MISTAKES, ids=lambda value: str(value)[:40])
def test_a_bad_value_is_refused_by_its_path(make_bundle, pyrunc, member, value, where):
    result = pyrunc.create(make_bundle(linux={member: value}))
    assert result.code == 1
    # The text of a log entry is quoted, and so are the quotes in it.
    lines = result.stderr.replace('\\"', '"').splitlines()
    assert any(f"linux.{member}{where}: expected " in line for line in lines), result
    assert not any("Traceback" in line for line in lines)
    assert pyrunc("state", result.id).code == 1
    assert pyrunc("list", "--quiet").stdout == ""


def test_every_member_of_the_schema_is_in_the_table():
    schema = json.loads(SCHEMA.read_text())
    assert {m[0] for m in MISTAKES} == set(schema["linux"]["properties"])
