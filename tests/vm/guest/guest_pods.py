"""Runs inside the virtual machine, whose kernel has procfs without the option `pidns` (Linux 6.18).

A container of a pod joins the pid namespace of another, and its user namespace, if it has one.
"""

import json

import pytest
from guest_cgroups import ROOT, SUBORDINATE, bundle, pyrunc, run, start  # noqa: F401

USERS = [{"containerID": 0, "hostID": 0, "size": 1}, {**SUBORDINATE, "containerID": 1}]


def join(config, kind, pid):
    others = [n for n in config["linux"]["namespaces"] if n["type"] != kind]
    config["linux"]["namespaces"] = [*others, {"type": kind, "path": f"/proc/{pid}/ns/{kind}"}]


@pytest.mark.parametrize("users", [False, True] if ROOT else [True], ids=lambda x: f"users={x}")
def test_a_neighbour_sees_the_others_processes(bundle, pyrunc, users):  # noqa: F811
    """With a user namespace it was refused: "its pid namespace is not the user namespace's own"."""
    flags = [] if ROOT else ["--systemd-cgroup"]
    path, config = bundle
    if users and ROOT:
        config["linux"]["namespaces"].append({"type": "user"})
        config["linux"] |= {"uidMappings": USERS, "gidMappings": USERS}
    start(bundle, "first", pyrunc, *flags)
    try:
        pid = json.loads(run(pyrunc, "state", "first").stdout)["pid"]
        join(config, "pid", pid)
        if users:
            join(config, "user", pid)
        config["process"]["args"] = ["cat", "/proc/1/cmdline"]
        (path / "config.json").write_text(json.dumps(config))
        done = run(pyrunc, *flags, "run", "--bundle", str(path), "second")
        assert done.stdout == "sleep\0001000\0"
    finally:
        run(pyrunc, "delete", "--force", "first")
        run(pyrunc, "delete", "--force", "second")
