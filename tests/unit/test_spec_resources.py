"""Mistakes in linux.resources, which `update` takes alone."""

from __future__ import annotations

import copy

import pytest
from spec_changes import changed

from pyrunc.spec.load import check, check_resources

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
