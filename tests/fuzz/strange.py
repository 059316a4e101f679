"""Values that make parsers stumble, and documents with such values somewhere in them."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import strategies as st

from pyrunc.spec.default import default_spec

WORDS = st.sampled_from(
    [
        "", " ", "a", "/", "//", "/a", ".", "..", "../..", "/proc/self/fd/3", "0", "-1", "00",
        "+1", "1_000", "٣", "4294967295", "4294967296", "18446744073709551616", "0x10", "1e3",
        "1.5", "NaN", "0-1", "0-", "1-0", "0,,1", "0-99999999999", "ro", "rw", "bind", "rbind",
        "size=1m", "mode=9999", "uid=-1", "idmap", "idmap=uids=0-0-1", "tmpcopyup", "shared",
        "remount", "RLIMIT_NOFILE", "CAP_CHOWN", "CAP_", "SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO",
        "SCMP_ACT_NOTIFY", "SCMP_ACT_TRACE", "SCMP_CMP_EQ", "SCMP_CMP_MASKED_EQ",
        "SCMP_ARCH_X86", "SCMP_ARCH_X86_64", "read", "write", "kill", "clone3",
        "net.ipv4.ip_forward", "net/ipv4/ip_forward", "kernel.shm_rmid_forced", "memory.max",
        "cgroup.procs", "2MB", "1GB", "x" * 300, "x" * 5000, "ü", "\udcff", "\0", "a\0b", "\n",
        "a\nb", "\x1b[31m", "%s", "{}", "=", "=x", "A=b", "A", "b 8:0 r", "c", "rwm", "*:*",
        "SIGKILL", "RTMIN+99", "1h", "-1s", "1:2", "1:", ":", "a:b", "1:2:3", "pid", "user",
        "SCHED_DEADLINE", "MPOL_BIND",
    ]
)  # fmt: skip
NUMBERS = st.sampled_from(
    [0, 1, -1, -2, 2, 63, 64, 65, 127, 128, 255, 256, 4095, 4096, 65535, 65536]
    + [sign * (2**power + more) for power in (31, 32, 40, 63, 64, 200)
       for more in (-1, 0, 1) for sign in (1, -1)]
)  # fmt: skip
TEXTS = WORDS | st.text(max_size=12)
JUNK = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)

SECCOMP = {
    "defaultAction": "SCMP_ACT_ERRNO",
    "defaultErrnoRet": 1,
    "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_AARCH64"],
    "flags": ["SECCOMP_FILTER_FLAG_LOG"],
    "listenerPath": "/x",
    "listenerMetadata": "y",
    "syscalls": [
        {"names": ["read", "write"], "action": "SCMP_ACT_ALLOW"},
        {
            "names": ["socket"],
            "action": "SCMP_ACT_ERRNO",
            "errnoRet": 2,
            "args": [
                {"index": 0, "value": 1, "valueTwo": 2, "op": "SCMP_CMP_MASKED_EQ"},
                {"index": 1, "value": 1 << 33, "op": "SCMP_CMP_GE"},
            ],
        },
        {"names": ["acct"], "action": "SCMP_ACT_NOTIFY"},
    ],
}
RESOURCES = {
    "devices": [
        {"allow": False, "access": "rwm"},
        {"allow": True, "type": "c", "major": 1, "minor": 3, "access": "rw"},
    ],
    "memory": {
        "limit": 1 << 26,
        "reservation": 1 << 25,
        "swap": 1 << 27,
        "kernel": -1,
        "kernelTCP": -1,
        "swappiness": 60,
        "disableOOMKiller": False,
        "useHierarchy": True,
        "checkBeforeUpdate": True,
    },
    "cpu": {
        "shares": 1024,
        "quota": 50000,
        "burst": 0,
        "period": 100000,
        "realtimeRuntime": 0,
        "realtimePeriod": 1000000,
        "cpus": "0-1",
        "mems": "0",
        "idle": 0,
    },
    "pids": {"limit": 100},
    "blockIO": {
        "weight": 100,
        "leafWeight": 100,
        "weightDevice": [{"major": 8, "minor": 0, "weight": 10, "leafWeight": 10}],
        "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 100}],
    },
    "hugepageLimits": [{"pageSize": "2MB", "limit": 0}],
    "network": {"classID": 1, "priorities": [{"name": "lo", "priority": 1}]},
    "rdma": {"mlx5_1": {"hcaHandles": 3, "hcaObjects": 100}},
    "unified": {"memory.high": "100000"},
}
FURTHER: dict[str, Any] = {
    "hooks": {
        "createRuntime": [{"path": "/bin/true", "args": ["true"], "env": ["A=b"], "timeout": 3}]
    },
    "annotations": {"org.systemd.property.CollectMode": "'inactive-or-failed'", "a.b": "c"},
    "domainname": "example",
}
FURTHER_LINUX: dict[str, Any] = {
    "resources": RESOURCES,
    "seccomp": SECCOMP,
    "uidMappings": [{"containerID": 0, "hostID": 1000, "size": 10}],
    "gidMappings": [{"containerID": 0, "hostID": 1000, "size": 10}],
    "sysctl": {"net.ipv4.ip_forward": "1"},
    "devices": [
        {"path": "/dev/x", "type": "c", "major": 1, "minor": 3, "fileMode": 438, "uid": 0, "gid": 0}
    ],
    "cgroupsPath": "/a/b",
    "rootfsPropagation": "private",
    "mountLabel": "x",
    "personality": {"domain": "LINUX", "flags": []},
    "timeOffsets": {"monotonic": {"secs": 1, "nanosecs": 1}},
    "intelRdt": {"closID": "x", "l3CacheSchema": "L3:0=1", "memBwSchema": "MB:0=10"},
    "memoryPolicy": {"mode": "MPOL_BIND", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]},
    "netDevices": {"none0": {"name": "a"}},
}
FURTHER_PROCESS: dict[str, Any] = {
    "user": {"uid": 1, "gid": 1, "umask": 18, "additionalGids": [1, 2], "username": "x"},
    "ioPriority": {"class": "IOPRIO_CLASS_IDLE", "priority": 0},
    "scheduler": {"policy": "SCHED_BATCH", "nice": 1, "flags": []},
    "execCPUAffinity": {"initial": "0", "final": "0-1"},
    "oomScoreAdj": 10,
    "consoleSize": {"height": 1, "width": 1},
    "apparmorProfile": "x",
    "selinuxLabel": "x",
}


def config() -> dict[str, Any]:
    """A config in which every member is used."""
    spec: dict[str, Any] = copy.deepcopy(dict(default_spec(False)))
    spec.update(copy.deepcopy(FURTHER))
    spec["linux"].update(copy.deepcopy(FURTHER_LINUX))
    spec["linux"]["namespaces"] += [{"type": "user"}, {"type": "time"}]
    spec["process"].update(copy.deepcopy(FURTHER_PROCESS))
    return spec


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Name each place in a document, by the keys and numbers that lead there."""
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    found = [path] if path else []
    if isinstance(value, dict | list):
        for name, below in inner:
            found += (
                places(below, (*path, name)) if isinstance(below, dict | list) else [(*path, name)]
            )
    return found


@st.composite
def changed(draw, make, junk=JUNK):
    """A document in which one to three things are replaced, left out, added or repeated."""
    document = make()
    for _ in range(draw(st.integers(1, 3))):
        everywhere = places(document)
        if not everywhere:
            break
        *path, last = draw(st.sampled_from(everywhere))
        holder = document
        for step in path:
            holder = holder[step]
        way = draw(st.integers(0, 5))
        if way == 0:
            del holder[last]
        elif way == 1 and isinstance(holder, dict):
            holder[draw(TEXTS)] = draw(junk)
        elif way == 2 and isinstance(holder, list):
            holder.append(copy.deepcopy(holder[last]))
        else:
            holder[last] = draw(junk)
    return document
