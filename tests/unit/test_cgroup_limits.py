"""Resources of config.json as values for cgroup files: tables, no kernel."""

import pytest
from ebpf import run

from pyrunc.cgroups import systemd_properties, v1_limits, v2_limits
from pyrunc.cgroups.device_filter import fold, program
from pyrunc.cgroups.devices import ALWAYS_ALLOWED, rules_for, v1_writes
from pyrunc.cgroups.host import Layout
from pyrunc.cgroups.paths import paths_for
from pyrunc.container import update
from pyrunc.errors import Error


@pytest.mark.parametrize(
    ("resources", "writes"),
    [
        ({}, []),
        ({"memory": {"limit": 1048576}}, [("memory", "memory.limit_in_bytes", "1048576")]),
        (
            {"memory": {"limit": -1}},
            [
                ("memory", "memory.limit_in_bytes", "-1"),
                ("memory", "memory.memsw.limit_in_bytes", "-1"),
            ],
        ),
        ({"memory": {"swappiness": 0}}, [("memory", "memory.swappiness", "0")]),
        ({"memory": {"disableOOMKiller": True}}, [("memory", "memory.oom_control", "1")]),
        ({"memory": {"disableOOMKiller": False}}, []),
        ({"pids": {"limit": -1}}, [("pids", "pids.max", "max")]),
        ({"pids": {"limit": 0}}, [("pids", "pids.max", "0")]),
        (
            {"cpu": {"quota": 5000, "period": 10000, "shares": 2}},
            [
                ("cpu", "cpu.shares", "2"),
                ("cpu", "cpu.cfs_period_us", "10000"),
                ("cpu", "cpu.cfs_quota_us", "5000"),
            ],
        ),
    ],
)
def test_v1_late_writes(resources, writes):
    assert v1_limits.late_writes(resources) == writes


def test_v1_refuses_unified():
    with pytest.raises(Error, match="needs cgroup v2"):
        v1_limits.early_writes({"unified": {"memory.high": "1"}})


@pytest.mark.parametrize(
    ("resources", "writes"),
    [
        (
            {"memory": {"limit": 100, "swap": 150}},
            [("memory.swap.max", "50"), ("memory.max", "100")],
        ),
        (
            {"memory": {"limit": 100, "swap": 100}},
            [("memory.swap.max", "0"), ("memory.max", "100")],
        ),
        (
            {"memory": {"limit": 100, "swap": -1}},
            [("memory.swap.max", "max"), ("memory.max", "100")],
        ),
        ({"memory": {"limit": -1}}, [("memory.swap.max", "max"), ("memory.max", "max")]),
        ({"memory": {"reservation": 7}}, [("memory.low", "7")]),
        ({"cpu": {"quota": 5000}}, [("cpu.max", "5000 100000")]),
        ({"cpu": {"quota": -1, "period": 1000}}, [("cpu.max", "max 1000")]),
        ({"cpu": {"idle": 1, "shares": 1024}}, [("cpu.idle", "1")]),
        ({"pids": {"limit": -1}}, [("pids.max", "max")]),
        (
            {"unified": {"memory.high": "9", "io.max": "8:0 rbps=1"}},
            [("memory.high", "9")],
        ),
    ],
)
def test_v2_late_writes(resources, writes):
    assert v2_limits.late_writes(resources) == writes


def test_v2_writes_each_line_of_a_unified_value():
    value = "259:0 rbps=1\n253:0 rbps=2"
    assert v2_limits.early_writes({"unified": {"io.max": value}}) == [
        ("io.max", "259:0 rbps=1"),
        ("io.max", "253:0 rbps=2"),
    ]


@pytest.mark.parametrize("name", ["../memory.max", "a/b", "..", ""])
def test_v2_unified_names_are_files_of_the_cgroup(name):
    with pytest.raises(Error, match="not the name of a cgroup file"):
        v2_limits.early_writes({"unified": {name: "1"}})


@pytest.mark.parametrize(
    "memory", [{"limit": 100, "swap": 50}, {"swap": 50}, {"limit": -1, "swap": 5}]
)
def test_v2_swap_that_cannot_be(memory):
    with pytest.raises(Error, match="swap"):
        v2_limits.late_writes({"memory": memory})


@pytest.mark.parametrize(
    ("member", "resources"),
    [
        ("memory.kernel", {"memory": {"kernel": 4096}}),
        ("memory.kernelTCP", {"memory": {"kernelTCP": 4096}}),
        ("memory.swappiness", {"memory": {"swappiness": 60}}),
        ("memory.disableOOMKiller", {"memory": {"disableOOMKiller": True}}),
        ("cpu.realtimeRuntime", {"cpu": {"realtimeRuntime": 1000}}),
        ("cpu.realtimePeriod", {"cpu": {"realtimePeriod": 1000}}),
        ("blockIO.leafWeight", {"blockIO": {"leafWeight": 10}}),
        (
            "blockIO.weightDevice[1].leafWeight",
            {"blockIO": {"weightDevice": [{"weight": 9}, {"leafWeight": 10}]}},
        ),
        ("network.classID", {"network": {"classID": 1}}),
        ("network.priorities", {"network": {"priorities": [{"name": "lo", "priority": 1}]}}),
    ],
)
def test_v2_refuses_what_it_has_no_equivalent_for(member, resources):
    with pytest.raises(Error) as refused:
        v2_limits.early_writes(resources)
    assert f"linux.resources.{member} has no equivalent on cgroup v2" in str(refused.value)


def test_v2_misses_nothing_where_nothing_is_asked_for():
    nothing = {
        "memory": {"kernel": -1, "kernelTCP": -1, "swappiness": 0, "disableOOMKiller": False},
        "cpu": {"realtimeRuntime": 0, "realtimePeriod": 0},
        "blockIO": {"leafWeight": 0},
        "network": {"classID": 0, "priorities": []},
    }
    assert v2_limits.early_writes(nothing) == []


@pytest.mark.parametrize(
    ("shares", "weight"),
    [(2, 1), (3, 2), (102, 17), (512, 59), (1024, 100), (2048, 174), (262144, 10000)],
)
def test_weight_of_shares(shares, weight):
    assert v2_limits.weight_of_shares(shares) == weight


@pytest.mark.parametrize("shares", [1, 262145])
def test_shares_that_the_kernel_has_not(shares):
    with pytest.raises(Error, match="shares from 2 to 262144"):
        v2_limits.late_writes({"cpu": {"shares": shares}})
    with pytest.raises(Error, match="shares from 2 to 262144"):
        v1_limits.late_writes({"cpu": {"shares": shares}})


def test_update_of_memory_alone_keeps_the_limit_on_both_on_v1_and_the_one_on_swap_on_v2():
    before = {"memory": {"limit": 100, "swap": 150, "swappiness": 3}}
    wanted = {"memory": {"limit": 70, "swap": 0}}
    both = {"limit": 70, "swap": 150, "swappiness": 3}
    assert update.merge(before, wanted, version=1) == {"memory": both}
    assert update.merge(before, wanted, version=2) == {"memory": both | {"swap": 120}}


def test_update_that_takes_the_memory_limit_away_takes_that_on_swap_as_well():
    before = {"memory": {"limit": 100, "swap": 150}}
    none = {"memory": {"limit": -1, "swap": -1}}
    assert update.merge(before, {"memory": {"limit": -1}}) == none


def test_update_with_zeros_keeps_what_there_was():
    before = {"memory": {"limit": 100}, "cpu": {"shares": 5, "idle": 1, "cpus": "0"}}
    zeros = {
        "memory": {"limit": 0, "reservation": 0, "swappiness": 0},
        "cpu": {"shares": 0, "quota": 0, "idle": 0, "cpus": ""},
        "pids": {"limit": 0},
    }
    assert update.merge({**before, "pids": {"limit": 7}}, zeros) == {
        "memory": {"limit": 100, "swappiness": 0},
        "cpu": {"shares": 5, "idle": 0, "cpus": "0"},
        "pids": {"limit": 7},
    }


def test_systemd_is_told_of_idle_in_place_of_the_weight():
    resources = {"cpu": {"idle": 1, "shares": 512}}
    assert systemd_properties.from_resources(resources, 2) == [("CPUWeight", "t", 0)]
    assert systemd_properties.from_resources(resources, 1) == []


def test_systemd_is_told_of_unified():
    resources = {
        "memory": {"limit": 5},
        "unified": {
            "memory.max": "4M", "memory.high": "max", "pids.max": "7", "cpu.max": "5000 20000",
            "cpuset.cpus": "0-1,3", "cpu.weight": "nonsense", "memory.oom.group": "1",
        },
    }  # fmt: skip
    assert sorted(systemd_properties.from_resources(resources, 2)) == [
        ("AllowedCPUs", "ay", [0b1011]),
        ("CPUQuotaPerSecUSec", "t", 250_000),
        ("CPUQuotaPeriodUSec", "t", 20_000),
        ("MemoryHigh", "t", (1 << 64) - 1),
        ("MemoryMax", "t", 4 << 20),
        ("TasksMax", "t", 7),
    ]


@pytest.mark.parametrize(("weight", "converted"), [(10, 1), (1000, 10000)])
def test_io_weight(weight, converted):
    assert v2_limits.io_weight_of(weight) == converted


def layout(own="/user/me"):
    return Layout(1, {"cpu": "/cg/cpu", "name=systemd": "/cg/systemd"}, "", {"cpu": own})


def test_absolute_paths_lie_below_the_mount_point():
    assert paths_for(layout(), "/a/b", "id")["cpu"] == "/cg/cpu/a/b"


@pytest.mark.parametrize(("wanted", "last"), [("", "id"), ("x/y", "x/y")])
def test_relative_paths_lie_below_the_callers_cgroup(wanted, last):
    paths = paths_for(layout(), wanted, "id")
    assert paths == {"cpu": f"/cg/cpu/user/me/{last}", "name=systemd": f"/cg/systemd/{last}"}


def test_a_path_that_leads_upwards_is_refused():
    with pytest.raises(Error, match="must not contain"):
        paths_for(layout(), "/a/../../b", "id")


def test_every_container_starts_with_nothing_allowed():
    lines = v1_writes(rules_for([]))
    assert lines[0] == ("devices.deny", "a")
    assert len(lines) == 1 + len(ALWAYS_ALLOWED)


@pytest.mark.parametrize("access", ["mwr", "rwmrwm", "wwrrmm"])
def test_the_letters_of_an_access_are_in_the_kernel_s_order_and_once(access):
    entry = {"allow": True, "type": "c", "major": 1, "minor": 9, "access": access}
    assert ("devices.allow", "c 1:9 rwm") in v1_writes(rules_for([entry]))


def verdict(entries, kind, major, minor, access):
    return run(program(fold(rules_for(entries))), kind, major, minor, access)


def test_the_null_device_is_allowed_and_others_are_not():
    assert verdict(None, "c", 1, 3, "rw") == 1
    assert verdict(None, "c", 1, 1, "r") == 0
    assert verdict(None, "b", 8, 0, "r") == 0
    assert verdict(None, "b", 8, 0, "m") == 1


def test_allow_everything_and_deny_one():
    entries = [
        {"allow": True},
        {"allow": False, "type": "b", "major": 8, "minor": 0, "access": "w"},
    ]
    assert verdict(entries, "b", 8, 0, "r") == 1
    assert verdict(entries, "b", 8, 0, "rw") == 0
    assert verdict(entries, "b", 8, 1, "rw") == 1


def test_a_later_rule_for_all_forgets_the_earlier_ones():
    entries = [
        {"allow": True, "type": "b", "major": 8, "minor": 0, "access": "rw"},
        {"allow": False, "access": "rwm"},
    ]
    assert verdict(entries, "b", 8, 0, "r") == 0


@pytest.mark.parametrize("cpus", ["a", "-1", "0-99999999999", "1,b"])
def test_cpus_that_systemd_cannot_be_told(cpus):
    """Found by `make fuzz`: an internal error, and for a large number no memory."""
    with pytest.raises(Error, match="is no list of CPUs"):
        systemd_properties.from_resources({"cpu": {"cpus": cpus}}, 2)
