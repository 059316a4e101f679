"""Every kind of mistake a config can hold, and what engines write that is none."""

from __future__ import annotations

import copy
import re

import pytest

from pyrunc.spec.default import default_spec, rootless_spec
from pyrunc.spec.load import check, check_process, check_resources

NUL = "a\0b"
MAPPING = {"containerID": 0, "hostID": 1000, "size": 10}


def changed(path, value, base=None):
    """Return the default config with the member at the dotted ``path`` set to ``value``."""
    spec = copy.deepcopy(base) if base else default_spec(cgroup_v2=False)
    *way, last = path.split(".")
    at = spec
    for name in way:
        at = at.setdefault(name, {})
    if value is ...:
        del at[last]
    else:
        at[last] = value
    return spec


def without_namespace(*types):
    spec = default_spec(cgroup_v2=False)
    namespaces = spec["linux"]["namespaces"]
    spec["linux"]["namespaces"] = [n for n in namespaces if n["type"] not in types]
    if "uts" in types:
        del spec["hostname"]
    if "mount" in types:
        del spec["linux"]["maskedPaths"], spec["linux"]["readonlyPaths"]
    return spec


def seccomp(**members):
    return {"defaultAction": "SCMP_ACT_ERRNO", **members}


def call(**members):
    return seccomp(syscalls=[{"names": ["read"], "action": "SCMP_ACT_ERRNO", **members}])


def argument(**members):
    return call(args=[{"index": 0, "value": 1, "op": "SCMP_CMP_EQ", **members}])


# (member that is set, to what, where the mistake is, words about it)
MISTAKES = [
    # the top
    ("ociVersion", ..., "ociVersion", "found nothing"),
    ("ociVersion", 1, "ociVersion", "found 1"),
    ("ociVersion", "1.0", "ociVersion", "such as 1.3.0"),
    ("ociVersion", "1.0.01", "ociVersion", "such as 1.3.0"),
    ("ociVersion", "1.0.0-", "ociVersion", "such as 1.3.0"),
    ("ociVersion", "1.0.0-rc.01", "ociVersion", "such as 1.3.0"),
    ("ociVersion", "1.0.0+a_b", "ociVersion", "such as 1.3.0"),
    ("ociVersion", "v1.0.0", "ociVersion", "such as 1.3.0"),
    ("ociVersion", "2.0.0", "ociVersion", 'version 1 of the OCI .* found version "2.0.0"'),
    ("ociVersion", "0.1.0", "ociVersion", "version 1 of the OCI"),
    ("root", ..., "root", "found nothing"),
    ("root", None, "root", "found nothing"),
    ("root", "rootfs", "root", 'an object, found "rootfs"'),
    ("root.path", ..., "root.path", "found nothing"),
    ("root.path", "", "root.path", "a path"),
    ("root.path", NUL, "root.path", "a path"),
    ("root.readonly", 1, "root.readonly", "true or false, found 1"),
    ("hostname", "x" * 65, "hostname", "at most 64 bytes"),
    ("hostname", NUL, "hostname", "at most 64 bytes"),
    ("domainname", "é" * 33, "domainname", "at most 64 bytes"),
    ("mounts", {}, "mounts", "an array"),
    ("mounts", ["/proc"], "mounts[0]", "an object"),
    ("mounts", [{}], "mounts[0].destination", "found nothing"),
    ("mounts", [{"destination": ""}], "mounts[0].destination", "a path"),
    ("mounts", [{"destination": "/", "type": 1}], "mounts[0].type", "a string"),
    ("mounts", [{"destination": "/", "source": NUL}], "mounts[0].source", "without NUL"),
    ("mounts", [{"destination": "/", "options": "ro"}], "mounts[0].options", "an array"),
    ("mounts", [{"destination": "/", "options": ["ro", 1]}], "mounts[0].options[1]", "a string"),
    ("mounts", [{"destination": "/", "options": [None]}], "mounts[0].options[0]", "null"),
    ("mounts", [{"destination": "/", "uidMappings": [MAPPING]}], "mounts[0].gidMappings", "uidM"),
    ("mounts", [{"destination": "/", "gidMappings": [MAPPING]}], "mounts[0].uidMappings", "gidM"),
    ("mounts", [{"destination": "/", "type": "bind"}], "mounts[0].source", "found nothing"),
    (
        "mounts",
        [{"destination": "/", "options": ["rbind"], "source": ""}],
        "mounts[0].source",
        '""',
    ),
    ("mounts", [{"destination": "/", "options": ["idmap"]}], "mounts[0]", "a user namespace"),
    ("mounts", [{"destination": "/", "options": ["ridmap"]}], "mounts[0]", "a user namespace"),
    ("annotations", [], "annotations", "an object"),
    ("annotations", {"a": 1}, 'annotations["a"]', "a string, found 1"),
    ("annotations", {"": "a"}, 'annotations[""]', "a name"),
    ("hooks", [], "hooks", "an object"),
    ("hooks.prestart", {}, "hooks.prestart", "an array"),
    ("hooks.poststop", [{}], "hooks.poststop[0].path", "found nothing"),
    ("hooks.createRuntime", [{"path": "a"}], "hooks.createRuntime[0].path", "an absolute path"),
    ("hooks.poststart", [{"path": "/a", "timeout": 0}], "hooks.poststart[0].timeout", "from 1"),
    ("hooks.poststart", [{"path": "/a", "args": [1]}], "hooks.poststart[0].args[0]", "string"),
    ("hooks.startContainer", [{"path": "/a", "env": 1}], "hooks.startContainer[0].env", "array"),
    ("hooks.createContainer", [{"path": NUL}], "hooks.createContainer[0].path", "absolute"),
    # process
    ("process", [], "process", "an object"),
    ("process.terminal", "yes", "process.terminal", "true or false"),
    ("process.consoleSize", {"height": 1}, "process.consoleSize.width", "found nothing"),
    ("process.consoleSize", {"height": -1, "width": 1}, "process.consoleSize.height", "from 0"),
    ("process.consoleSize", {"height": 1, "width": 70000}, "process.consoleSize.width", "65535"),
    ("process.user", "root", "process.user", "an object"),
    ("process.user.uid", "0", "process.user.uid", "an integer"),
    ("process.user.uid", True, "process.user.uid", "an integer .* found true"),
    ("process.user.uid", 0.0, "process.user.uid", "an integer .* found 0.0"),
    ("process.user.uid", -1, "process.user.uid", "an integer"),
    ("process.user.uid", 2**32 - 1, "process.user.uid", "an integer"),
    ("process.user.gid", 2**32 - 1, "process.user.gid", "an integer"),
    ("process.user.umask", 2**32, "process.user.umask", "an integer"),
    ("process.user.additionalGids", [0, -1], "process.user.additionalGids[1]", "an integer"),
    ("process.args", ..., "process.args", "args must not be empty"),
    ("process.args", [], "process.args", "args must not be empty"),
    ("process.args", None, "process.args", "args must not be empty"),
    ("process.args", ["sh", NUL], "process.args[1]", "without NUL"),
    ("process.env", ["A=1", NUL], "process.env[1]", "without NUL"),
    ("process.env", {"A": "1"}, "process.env", "an array"),
    ("process.cwd", ..., "process.cwd", "an absolute path, found nothing"),
    ("process.cwd", "", "process.cwd", "an absolute path"),
    ("process.cwd", "tmp", "process.cwd", "an absolute path"),
    ("process.capabilities", ["CAP_KILL"], "process.capabilities", "an object"),
    ("process.capabilities.bounding", [1], "process.capabilities.bounding[0]", "a string"),
    ("process.rlimits", [{}], "process.rlimits[0].type", "found nothing"),
    (
        "process.rlimits",
        [{"type": "RLIMIT_X", "soft": 1, "hard": 1}],
        "process.rlimits[0].type",
        'RLIMIT_NOFILE.*found "RLIMIT_X"',
    ),
    (
        "process.rlimits",
        [{"type": "RLIMIT_CPU", "soft": 2, "hard": 1}],
        "process.rlimits[0].soft",
        "no more than the hard limit, 1, found 2",
    ),
    (
        "process.rlimits",
        [{"type": "RLIMIT_CPU", "soft": 2**64, "hard": 1}],
        "process.rlimits[0].soft",
        "an integer",
    ),
    (
        "process.rlimits",
        [{"type": "RLIMIT_CPU", "soft": 1, "hard": 1}] * 2,
        "process.rlimits[1].type",
        "a second time",
    ),
    ("process.noNewPrivileges", 0, "process.noNewPrivileges", "true or false"),
    ("process.apparmorProfile", NUL, "process.apparmorProfile", "without NUL"),
    ("process.selinuxLabel", 1, "process.selinuxLabel", "a string"),
    ("process.oomScoreAdj", 1001, "process.oomScoreAdj", "from -1000 to 1000"),
    ("process.scheduler", {}, "process.scheduler.policy", "found nothing"),
    ("process.scheduler", {"policy": "FIFO"}, "process.scheduler.policy", "SCHED_FIFO"),
    (
        "process.scheduler",
        {"policy": "SCHED_OTHER", "nice": 20},
        "process.scheduler.nice",
        "from -20 to 19",
    ),
    (
        "process.scheduler",
        {"policy": "SCHED_RR", "priority": 100},
        "process.scheduler.priority",
        "from 0 to 99",
    ),
    (
        "process.scheduler",
        {"policy": "SCHED_BATCH", "priority": 1},
        "process.scheduler.priority",
        "no priorities",
    ),
    (
        "process.scheduler",
        {"policy": "SCHED_FIFO", "deadline": 1},
        "process.scheduler.deadline",
        "only SCHED_DEADLINE",
    ),
    (
        "process.scheduler",
        {"policy": "SCHED_FIFO", "flags": ["X"]},
        "process.scheduler.flags[0]",
        "SCHED_FLAG_RECLAIM",
    ),
    ("process.ioPriority", {"priority": 1}, "process.ioPriority.class", "found nothing"),
    ("process.ioPriority", {"class": "IOPRIO_CLASS_RT"}, "process.ioPriority.priority", "nothing"),
    (
        "process.ioPriority",
        {"class": "IOPRIO_CLASS_RT", "priority": 8},
        "process.ioPriority.priority",
        "from 0 to 7",
    ),
    ("process.execCPUAffinity", {"initial": "a"}, "process.execCPUAffinity.initial", "CPUs"),
    ("process.execCPUAffinity", {"final": "3-1"}, "process.execCPUAffinity.final", "CPUs"),
    ("process.execCPUAffinity", {"final": "0-99999"}, "process.execCPUAffinity.final", "8191"),
    ("process.execCPUAffinity", {"final": "1-"}, "process.execCPUAffinity.final", "CPUs"),
    # linux
    ("linux", [], "linux", "an object"),
    ("linux.namespaces", [{}], "linux.namespaces[0].type", "found nothing"),
    ("linux.namespaces", [{"type": "net"}], "linux.namespaces[0].type", "network"),
    ("linux.namespaces", [{"type": "pid", "path": "x"}], "linux.namespaces[0].path", "absolute"),
    (
        "linux.namespaces",
        [{"type": "uts"}, {"type": "mount"}, {"type": "uts"}],
        "linux.namespaces[2].type",
        'each only once, found "uts" a second time',
    ),
    ("linux.uidMappings", [MAPPING], "linux.uidMappings", '"user" in linux.namespaces'),
    ("linux.gidMappings", [MAPPING], "linux.gidMappings", '"user" in linux.namespaces'),
    ("linux.uidMappings", [{**MAPPING, "size": 0}], "linux.uidMappings[0].size", "from 1"),
    ("linux.uidMappings", [{**MAPPING, "hostID": -1}], "linux.uidMappings[0].hostID", "from 0"),
    ("linux.gidMappings", [{"size": 1}], "linux.gidMappings[0].containerID", "found nothing"),
    ("linux.uidMappings", [{**MAPPING, "size": 2**32 - 1}], "linux.uidMappings[0].size", "hostID"),
    ("linux.uidMappings", [MAPPING] * 100_000, "linux.uidMappings", "at most 340"),
    ("linux.timeOffsets", {"monotonic": {"secs": 1}}, "linux.timeOffsets", "no time namespace"),
    ("linux.timeOffsets", {"realtime": {}}, 'linux.timeOffsets["realtime"]', "boottime"),
    (
        "linux.timeOffsets",
        {"boottime": {"nanosecs": 10**9}},
        'linux.timeOffsets["boottime"].nanosecs',
        "999999999",
    ),
    ("linux.devices", [{"path": "/dev/x"}], "linux.devices[0].type", "found nothing"),
    ("linux.devices", [{"type": "p"}], "linux.devices[0].path", "found nothing"),
    ("linux.devices", [{"type": "a", "path": "/x"}], "linux.devices[0].type", "one of c, b, u, p"),
    ("linux.devices", [{"type": "p", "path": "x"}], "linux.devices[0].path", "absolute"),
    ("linux.devices", [{"type": "c", "path": "/x"}], "linux.devices[0].major", "the number"),
    (
        "linux.devices",
        [{"type": "c", "path": "/x", "major": 1}],
        "linux.devices[0].minor",
        "the number",
    ),
    (
        "linux.devices",
        [{"type": "p", "path": "/x", "fileMode": -1}],
        "linux.devices[0].fileMode",
        "an integer",
    ),
    ("linux.netDevices", {"eth0": []}, 'linux.netDevices["eth0"]', "an object"),
    ("linux.netDevices", {"a/b": {}}, 'linux.netDevices["a/b"]', "a network interface"),
    ("linux.netDevices", {"..": {}}, 'linux.netDevices[".."]', "a network interface"),
    ("linux.netDevices", {"x" * 16: {}}, f'linux.netDevices["{"x" * 16}"]', "shorter than 16"),
    ("linux.netDevices", {"eth%d": {}}, 'linux.netDevices["eth%d"]', "a network interface"),
    ("linux.netDevices", {"": {}}, 'linux.netDevices[""]', "a network interface"),
    ("linux.netDevices", {"a": {"name": "%x"}}, 'linux.netDevices["a"].name', "interface"),
    ("linux.netDevices", {"a": {"name": "a b"}}, 'linux.netDevices["a"].name', "interface"),
    (
        "linux.netDevices",
        {"a": {}, "b": {"name": "a"}},
        'linux.netDevices["b"].name',
        'a name of its own, found "a" a second time',
    ),
    ("linux.cgroupsPath", NUL, "linux.cgroupsPath", "a path"),
    ("linux.cgroupsPath", "/a/../../b", "linux.cgroupsPath", "components"),
    ("linux.rootfsPropagation", "bogus", "linux.rootfsPropagation", "unbindable"),
    ("linux.sysctl", {"net.a": 1}, 'linux.sysctl["net.a"]', "a string"),
    ("linux.sysctl", {"net.a": NUL}, 'linux.sysctl["net.a"]', "without NUL"),
    ("linux.sysctl", {"net/../vm/a": "1"}, 'linux.sysctl["net/../vm/a"]', "the name of a kernel"),
    ("linux.sysctl", {"net..vm": "1"}, 'linux.sysctl["net..vm"]', "the name of a kernel"),
    ("linux.sysctl", {"net.//.vm": "1"}, 'linux.sysctl["net.//.vm"]', "the name of a kernel"),
    ("linux.sysctl", {"/net/a": "1"}, 'linux.sysctl["/net/a"]', "the name of a kernel"),
    ("linux.sysctl", {"": "1"}, 'linux.sysctl[""]', "the name of a kernel"),
    (
        "linux.sysctl",
        {"vm.swappiness": "1"},
        'linux.sysctl["vm.swappiness"]',
        'sysctl "vm.swappiness" is not in a separate kernel namespace',
    ),
    (
        "linux.sysctl",
        {"kernel.hostname": "a"},
        'linux.sysctl["kernel.hostname"]',
        'conflicts with the OCI "hostname" field',
    ),
    ("linux.maskedPaths", ["proc"], "linux.maskedPaths[0]", "an absolute path"),
    ("linux.readonlyPaths", ["/a", NUL], "linux.readonlyPaths[1]", "an absolute path"),
    ("linux.maskedPaths", "/a", "linux.maskedPaths", "an array"),
    ("linux.mountLabel", NUL, "linux.mountLabel", "one line"),
    ("linux.mountLabel", "a\nb", "linux.mountLabel", "one line"),
    ("linux.personality", {}, "linux.personality.domain", "found nothing"),
    ("linux.personality", {"domain": "BSD"}, "linux.personality.domain", "LINUX32"),
    (
        "linux.personality",
        {"domain": "LINUX", "flags": ["X"]},
        "linux.personality.flags",
        "no flags",
    ),
    ("linux.intelRdt", {"closID": "a/b"}, "linux.intelRdt.closID", "class of service"),
    ("linux.intelRdt", {"closID": ".."}, "linux.intelRdt.closID", "class of service"),
    ("linux.intelRdt", {"schemata": ["L3:\n"]}, "linux.intelRdt.schemata[0]", "one line"),
    ("linux.intelRdt", {"l3CacheSchema": "L3:\n"}, "linux.intelRdt.l3CacheSchema", "one line"),
    ("linux.intelRdt", {"memBwSchema": "L3:"}, "linux.intelRdt.memBwSchema", "MB:"),
    ("linux.intelRdt", {"memBwSchema": "MB:\n"}, "linux.intelRdt.memBwSchema", "one line"),
    ("linux.intelRdt", {"enableMonitoring": 1}, "linux.intelRdt.enableMonitoring", "true"),
    ("linux.memoryPolicy", {}, "linux.memoryPolicy.mode", "found .*nothing"),
    ("linux.memoryPolicy", {"mode": "X"}, "linux.memoryPolicy.mode", "found invalid memory policy"),
    (
        "linux.memoryPolicy",
        {"mode": "MPOL_BIND", "nodes": "0", "flags": ["X"]},
        "linux.memoryPolicy.flags[0]",
        "found invalid memory policy flag",
    ),
    ("linux.memoryPolicy", {"mode": "MPOL_BIND"}, "linux.memoryPolicy.nodes", "at least one node"),
    (
        "linux.memoryPolicy",
        {"mode": "MPOL_DEFAULT", "nodes": "0"},
        "linux.memoryPolicy.nodes",
        "no nodes with MPOL_DEFAULT, found invalid memory policy",
    ),
    (
        "linux.memoryPolicy",
        {"mode": "MPOL_LOCAL", "flags": ["MPOL_F_STATIC_NODES"]},
        "linux.memoryPolicy.flags",
        "no flags with MPOL_LOCAL",
    ),
    (
        "linux.memoryPolicy",
        {
            "mode": "MPOL_BIND",
            "nodes": "0",
            "flags": ["MPOL_F_STATIC_NODES", "MPOL_F_RELATIVE_NODES"],
        },
        "linux.memoryPolicy.flags",
        "one of",
    ),
    (
        "linux.memoryPolicy",
        {"mode": "MPOL_PREFERRED", "flags": ["MPOL_F_STATIC_NODES"]},
        "linux.memoryPolicy.nodes",
        "at least one node",
    ),
    (
        "linux.memoryPolicy",
        {"mode": "MPOL_INTERLEAVE", "nodes": "0", "flags": ["MPOL_F_NUMA_BALANCING"]},
        "linux.memoryPolicy.flags",
        "other flags with MPOL_INTERLEAVE",
    ),
    (
        "linux.memoryPolicy",
        {"mode": "MPOL_BIND", "nodes": "1024"},
        "linux.memoryPolicy.nodes",
        "memory nodes",
    ),
    # seccomp
    ("linux.seccomp", {}, "linux.seccomp.defaultAction", "found nothing"),
    ("linux.seccomp", {"defaultAction": "ALLOW"}, "linux.seccomp.defaultAction", "SCMP_ACT_ALLOW"),
    (
        "linux.seccomp",
        {"defaultAction": "SCMP_ACT_NOTIFY"},
        "linux.seccomp.defaultAction",
        "SCMP_ACT_NOTIFY cannot be used as default action",
    ),
    (
        "linux.seccomp",
        {"defaultAction": "SCMP_ACT_ALLOW", "defaultErrnoRet": 1},
        "linux.seccomp.defaultErrnoRet",
        "takes no errno",
    ),
    ("linux.seccomp", seccomp(defaultErrnoRet=-1), "linux.seccomp.defaultErrnoRet", "an integer"),
    ("linux.seccomp", seccomp(architectures=["x"]), "linux.seccomp.architectures[0]", "X86_64"),
    ("linux.seccomp", seccomp(flags=["x"]), "linux.seccomp.flags[0]", "FLAG_TSYNC"),
    ("linux.seccomp", seccomp(listenerPath=1), "linux.seccomp.listenerPath", "a string"),
    ("linux.seccomp", seccomp(listenerMetadata="x"), "linux.seccomp.listenerMetadata", "no list"),
    ("linux.seccomp", call(names=[]), "linux.seccomp.syscalls[0].names", "at least one name"),
    ("linux.seccomp", call(names=None), "linux.seccomp.syscalls[0].names", "found nothing"),
    ("linux.seccomp", call(names=[3]), "linux.seccomp.syscalls[0].names[0]", "a string"),
    ("linux.seccomp", call(action="x"), "linux.seccomp.syscalls[0].action", "SCMP_ACT_KILL"),
    ("linux.seccomp", call(action=None), "linux.seccomp.syscalls[0].action", "found nothing"),
    (
        "linux.seccomp",
        call(action="SCMP_ACT_KILL", errnoRet=1),
        "linux.seccomp.syscalls[0].errnoRet",
        "SCMP_ACT_KILL takes no errno",
    ),
    (
        "linux.seccomp",
        call(action="SCMP_ACT_NOTIFY", names=["read", "write"]),
        "linux.seccomp.syscalls[0].action",
        "SCMP_ACT_NOTIFY cannot be used for the write syscall",
    ),
    ("linux.seccomp", argument(index=6), "linux.seccomp.syscalls[0].args[0].index", "to 5"),
    ("linux.seccomp", argument(index=None), "linux.seccomp.syscalls[0].args[0].index", "nothing"),
    ("linux.seccomp", argument(value=2**64), "linux.seccomp.syscalls[0].args[0].value", "integer"),
    ("linux.seccomp", argument(valueTwo=-1), "linux.seccomp.syscalls[0].args[0].valueTwo", "int"),
    ("linux.seccomp", argument(op="=="), "linux.seccomp.syscalls[0].args[0].op", "SCMP_CMP_EQ"),
]


@pytest.mark.parametrize(
    ("path", "value", "where", "words"), MISTAKES, ids=[f"{m[0]}-{m[3]}" for m in MISTAKES]
)
def test_mistake_is_found_where_it_is(path, value, where, words):
    found = check(changed(path, value))
    assert [mistake[0] for mistake in found][:1] == [where]
    _, expected, what = found[0]

    assert re.search(words, f"expected {expected}, found {what}")


RESOURCE_MISTAKES = [
    ({"devices": [{}]}, "devices[0].allow"),
    ({"devices": [{"allow": 1}]}, "devices[0].allow"),
    ({"devices": [{"allow": True, "type": "u"}]}, "devices[0].type"),
    ({"devices": [{"allow": True, "major": -2}]}, "devices[0].major"),
    ({"devices": [{"allow": True, "minor": "*"}]}, "devices[0].minor"),
    ({"devices": [{"allow": True, "access": "rx"}]}, "devices[0].access"),
    ({"memory": {"limit": 2**63}}, "memory.limit"),
    ({"memory": {"swap": 1.5}}, "memory.swap"),
    ({"memory": {"swappiness": 101}}, "memory.swappiness"),
    ({"memory": {"disableOOMKiller": 1}}, "memory.disableOOMKiller"),
    ({"cpu": {"shares": -1}}, "cpu.shares"),
    ({"cpu": {"cpus": 1}}, "cpu.cpus"),
    ({"cpu": {"mems": "0\n1"}}, "cpu.mems"),
    ({"cpu": {"quota": 10, "burst": 11}}, "cpu.burst"),
    ({"pids": {"limit": "max"}}, "pids.limit"),
    ({"blockIO": {"weight": 65536}}, "blockIO.weight"),
    ({"blockIO": {"weightDevice": [{"major": 8, "minor": 0}]}}, "blockIO.weightDevice[0]"),
    ({"blockIO": {"weightDevice": [{"major": 8, "weight": 1}]}}, "blockIO.weightDevice[0].minor"),
    (
        {"blockIO": {"throttleReadBpsDevice": [{"major": 8, "minor": 0}]}},
        "blockIO.throttleReadBpsDevice[0].rate",
    ),
    ({"hugepageLimits": [{"pageSize": "2MB"}]}, "hugepageLimits[0].limit"),
    ({"hugepageLimits": [{"pageSize": "02MB", "limit": 1}]}, "hugepageLimits[0].pageSize"),
    ({"hugepageLimits": [{"pageSize": "2TB", "limit": 1}]}, "hugepageLimits[0].pageSize"),
    ({"hugepageLimits": [{"pageSize": "MB", "limit": 1}]}, "hugepageLimits[0].pageSize"),
    ({"network": {"classID": 2**32}}, "network.classID"),
    ({"network": {"priorities": [{"name": "a"}]}}, "network.priorities[0].priority"),
    ({"network": {"priorities": [{"name": "a\n", "priority": 1}]}}, "network.priorities[0].name"),
    ({"rdma": {"mlx": {}}}, 'rdma["mlx"]'),
    ({"rdma": {"mlx": {"hcaHandles": -1}}}, 'rdma["mlx"].hcaHandles'),
    ({"rdma": {"a\nb": {"hcaHandles": 1}}}, 'rdma["a\\nb"]'),
    ({"unified": {"a/b": "1"}}, 'unified["a/b"]'),
    ({"unified": {"..": "1"}}, 'unified[".."]'),
    ({"unified": {"a": 1}}, 'unified["a"]'),
]


@pytest.mark.parametrize(("resources", "where"), RESOURCE_MISTAKES)
def test_mistake_in_resources_is_found_alone_and_in_a_config(resources, where):
    assert [path for path, _, _ in check_resources(copy.deepcopy(resources))] == [where]
    found = check(changed("linux.resources", resources))
    assert [path for path, _, _ in found] == [f"linux.resources.{where}"]


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
