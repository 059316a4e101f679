"""Configs that are good, strange as they look, and those that lack only a namespace."""

from __future__ import annotations

import pytest
from spec_changes import MAPPING, argument, call, changed, seccomp

from pyrunc.spec.default import default_spec, rootless_spec
from pyrunc.spec.load import check, check_process


def without_namespace(*types):
    spec = default_spec(cgroup_v2=False)
    namespaces = spec["linux"]["namespaces"]
    spec["linux"]["namespaces"] = [n for n in namespaces if n["type"] not in types]
    if "uts" in types:
        del spec["hostname"]
    if "mount" in types:
        del spec["linux"]["maskedPaths"], spec["linux"]["readonlyPaths"]
    return spec


NEEDS_NAMESPACE = [
    ("uts", "hostname", "a", "hostname", "unable to set hostname without a private UTS namespace"),
    ("uts", "domainname", "a", "domainname", "unable to set domainname without a private UTS"),
    ("mount", "linux.maskedPaths", ["/a"], "linux.maskedPaths", "unable to restrict sys entries"),
    ("mount", "linux.readonlyPaths", ["/a"], "linux.readonlyPaths", "without a private MNT"),
    ("network", "linux.netDevices", {"a": {}}, "linux.netDevices", "no network namespace"),
    (
        "network",
        "linux.sysctl",
        {"net.ipv4.ip_forward": "1"},
        'linux.sysctl["net.ipv4.ip_forward"]',
        'sysctl "net.ipv4.ip_forward" not allowed in host network namespace',
    ),
    ("network", "linux.sysctl", {"net/a": "1"}, 'linux.sysctl["net/a"]', "host network"),
    ("ipc", "linux.sysctl", {"fs.mqueue.a": "1"}, 'linux.sysctl["fs.mqueue.a"]', "hosts ipc"),
    (
        "ipc",
        "linux.sysctl",
        {"kernel.sem": "1"},
        'linux.sysctl["kernel.sem"]',
        'sysctl "kernel.sem" is not allowed in the hosts ipc namespace',
    ),
    (
        "uts",
        "linux.sysctl",
        {"kernel.domainname": "a"},
        'linux.sysctl["kernel.domainname"]',
        "is not in a separate kernel namespace",
    ),
]


@pytest.mark.parametrize(("namespace", "path", "value", "where", "words"), NEEDS_NAMESPACE)
def test_what_needs_a_namespace_is_refused_without_it(namespace, path, value, where, words):
    assert check(changed(path, value)) == []
    found = check(changed(path, value, without_namespace(namespace)))
    assert [mistake[0] for mistake in found] == [where]
    assert words in found[0][2]


GOOD = [
    *[("ociVersion", v) for v in ("1.0.0", "1.0.2-dev", "1.1.0+dev", "1.0.0-rc5", "1.99.0-a.1+b")],
    ("process", ...),
    ("linux", {"namespaces": [{"type": "uts"}]}),
    ("hooks", {"prestart": [{"path": "/bin/true", "args": None, "timeout": None}], "x": 1}),
    ("hooks", None),
    ("annotations", {"a": "", "org.opencontainers.x": "\x00\n"}),
    ("domainname", ""),
    ("mounts", [{"destination": "relative", "type": "bind", "source": "x", "options": None}]),
    ("mounts", [{"destination": "/a", "uidMappings": [MAPPING], "gidMappings": [MAPPING]}]),
    ("process.user", {"username": "ContainerAdministrator"}),
    ("process.user", None),
    ("process.user.additionalGids", [0, 10]),
    ("process.env", ["A=1", "NOEQUALS", "=x"]),
    ("process.args", [""]),
    ("process.consoleSize", {"height": 24, "width": 80}),
    ("process.capabilities", None),
    ("process.capabilities", {"bounding": ["CAP_OF_TOMORROW"], "elsewhere": ["X"]}),
    ("process.oomScoreAdj", -1000),
    ("process.rlimits", [{"type": "RLIMIT_CORE", "soft": 0, "hard": 2**64 - 1}]),
    ("process.scheduler", {"policy": "SCHED_DEADLINE", "runtime": 1, "deadline": 2, "period": 3}),
    ("process.scheduler", {"policy": "SCHED_FIFO", "priority": 10, "nice": 0, "runtime": 0}),
    ("process.ioPriority", {"class": "IOPRIO_CLASS_IDLE", "priority": 0}),
    ("process.ioPriority", {"class": "IOPRIO_CLASS_IDLE"}),
    ("process.execCPUAffinity", {"initial": "0-3, 7", "final": ""}),
    ("linux.seccomp", {"defaultAction": "SCMP_ACT_ALLOW", "architectures": [], "syscalls": None}),
    ("linux.seccomp", call(args=None, errnoRet=38, comment="", includes={})),
    ("linux.seccomp", argument(op="SCMP_CMP_MASKED_EQ", valueTwo=2**64 - 1)),
    ("linux.seccomp", call(action="SCMP_ACT_NOTIFY", names=["mknod"])),
    ("linux.seccomp", seccomp(listenerPath="/run/a.sock", listenerMetadata="x")),
    ("linux.cgroupsPath", "/libpod_parent/libpod-abc"),
    ("linux.cgroupsPath", "system.slice:docker:abc"),
    ("linux.cgroupsPath", "a..b"),
    ("linux.cgroupsPath", ""),
    ("linux.rootfsPropagation", "rslave"),
    ("linux.rootfsPropagation", "unbindable"),
    ("linux.mountLabel", "system_u:object_r:container_file_t:s0:c1,c2"),
    ("linux.devices", [{"type": "p", "path": "/dev/fifo"}]),
    (
        "linux.devices",
        [{"type": "c", "path": "/dev/fuse", "major": 10, "minor": 229, "fileMode": 0o20666}],
    ),
    ("linux.netDevices", {"eth0": {"name": "eth%d"}, "eth1": {"name": ""}, "eth2": {}}),
    ("linux.sysctl", {"net/ipv4/conf/eth0.1/forwarding": "1", "kernel.shmmax": "1"}),
    ("linux.personality", {"domain": "LINUX32", "flags": []}),
    ("linux.intelRdt", {"closID": "/", "memBwSchema": "MB:0=20", "schemata": ["L3:0=f"]}),
    ("linux.memoryPolicy", {"mode": "MPOL_PREFERRED", "nodes": ""}),
    (
        "linux.memoryPolicy",
        {
            "mode": "MPOL_BIND",
            "nodes": "0-3,7",
            "flags": ["MPOL_F_STATIC_NODES", "MPOL_F_NUMA_BALANCING"],
        },
    ),
    (
        "linux.resources",
        {
            "devices": [
                {"allow": False, "access": "rwm", "type": "a", "major": -1, "minor": -1},
                {"allow": True, "type": "c", "major": None, "minor": None, "access": ""},
                {"allow": True, "type": ""},
            ],
            "memory": {"limit": -1, "kernel": None, "swappiness": 0, "useHierarchy": True},
            "cpu": {"shares": 2, "quota": -1, "burst": 5, "cpus": "0-1", "mems": "", "idle": 1},
            "pids": {"limit": 0},
            "blockIO": {
                "weight": 10,
                "weightDevice": [{"major": 8, "minor": 0, "leafWeight": 1}],
                "throttleWriteIOPSDevice": [{"major": 8, "minor": 0, "rate": 2**64 - 1}],
            },
            "hugepageLimits": [{"pageSize": "1GB", "limit": 0}],
            "network": {"classID": 1, "priorities": [{"name": "eth0", "priority": 1}]},
            "rdma": {"mlx5_1": {"hcaObjects": 10}},
            "unified": {"io.max": "259:0 rbps=1\n253:0 rbps=2"},
        },
    ),
    ("linux.resources", {"pids": {}}),
]


@pytest.mark.parametrize(("path", "value"), GOOD)
def test_what_engines_and_the_specification_write_is_good(path, value):
    assert check(changed(path, value)) == []


def test_a_user_namespace_may_have_no_mappings():
    spec = default_spec()
    spec["linux"]["namespaces"].append({"type": "user", "path": ""})
    assert check(spec) == []


def test_an_idmapped_mount_may_take_the_mappings_of_the_user_namespace():
    spec = rootless_spec()
    spec["mounts"].append({"destination": "/a", "source": "/a", "options": ["bind", "idmap"]})
    assert check(spec) == []


def test_mistakes_around_a_rule_do_not_make_it_speak():
    spec = default_spec(cgroup_v2=False)
    spec["linux"]["namespaces"][3]["type"] = "tus"  # then who knows whether there is a uts one
    assert [path for path, _, _ in check(spec)] == ["linux.namespaces[3].type"]
    spec = default_spec(cgroup_v2=False)
    spec["linux"]["resources"] = 1  # but this has no say in host names
    spec["linux"]["namespaces"] = [{"type": "mount"}]
    assert [path for path, _, _ in check(spec)] == ["linux.resources", "hostname"]


def test_a_process_is_checked_alone():
    assert check_process({"args": ["a"], "cwd": "/", "capabilities": None}) == []
    assert [path for path, _, _ in check_process({"user": {"uid": -1}})] == [
        "user.uid",
        "args",
        "cwd",
    ]
