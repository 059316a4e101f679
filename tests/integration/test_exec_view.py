"""What a process of `exec` is and sees: its user, rights, namespaces, limits."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import pytest
from exec_fixtures import box, status_of

from bundles import own

__all__ = ["box"]


def test_a_user_without_a_group_keeps_the_container_s(box, pyrunc):
    container = box(process={"user": {"uid": 7, "gid": 8}})
    assert pyrunc("exec", "-u", "9", container.id, "id").stdout.startswith("uid=9 gid=8")


def test_home_is_looked_up_in_the_container(box, make_bundle, pyrunc):
    container = box()
    (container.bundle.rootfs / "etc/passwd").write_text(
        "root:x:0:0::/root:/bin/sh\nann:x:33:33::/home/ann:/bin/sh\n"
    )
    home = ["sh", "-c", "echo $HOME"]
    assert pyrunc.exec(container, *home).stdout == "/root\n"
    assert pyrunc("exec", "-u", "33", container.id, *home).stdout == "/home/ann\n"
    assert pyrunc("exec", "-u", "44", container.id, *home).stdout == "/\n"
    assert pyrunc("exec", "-e", "HOME=/h", container.id, *home).stdout == "/h\n"
    # Empty is as good as unset.
    assert pyrunc("exec", "-e", "HOME=", container.id, *home).stdout == "/root\n"
    both = pyrunc("exec", "-e", "HOME=/h", "-e", "HOME=", container.id, "env").stdout
    assert [line for line in both.splitlines() if line.startswith("HOME")] == ["HOME=/root"]
    empty = make_bundle(args=home, process={"env": ["PATH=/bin", "HOME="]})
    assert pyrunc.run(empty).stdout == "/root\n"


@pytest.mark.parametrize("passwd", ["link", "fifo", "directory", "garbage"])
def test_home_survives_a_strange_passwd(box, pyrunc, passwd):
    container = box()
    path = container.bundle.rootfs / "etc/passwd"
    path.unlink()
    if passwd == "link":
        # Outside there is such a file; inside there is not.
        path.symlink_to(f"../../../../../../../{__file__}")
    elif passwd == "fifo":
        os.mkfifo(path)
    elif passwd == "directory":
        path.mkdir()
    else:
        path.write_bytes(os.urandom(5000) + b"\n:::::\nx:x:0:0:")
    assert pyrunc.exec(container, "sh", "-c", "echo $HOME").stdout == "/\n"


def test_capabilities_are_the_container_s_and_those_asked_for(box, pyrunc):
    container = box()
    plain = status_of(pyrunc.exec(container, "cat", "/proc/self/status").stdout)
    assert plain["CapEff"] == plain["CapBnd"] == plain["CapPrm"] == "0000000020000420"
    assert plain["CapInh"] == plain["CapAmb"] == "0000000000000000"
    more = pyrunc("exec", "--cap", "CAP_NET_ADMIN", container.id, "cat", "/proc/self/status")
    assert status_of(more.stdout)["CapEff"] == "0000000020001420"
    assert status_of(more.stdout)["CapInh"] == "0000000000000000"
    user = pyrunc("exec", "-u", "5", container.id, "cat", "/proc/self/status")
    assert status_of(user.stdout)["CapEff"] == "0000000000000000"


def test_a_capability_asked_for_is_ambient_if_it_is_inheritable(box, pyrunc):
    """So that a user other than root has it, too; what is not inheritable cannot be ambient."""
    held = ["CAP_KILL", "CAP_NET_ADMIN"]
    sets = dict.fromkeys(("bounding", "effective", "permitted", "inheritable"), held)
    container = box(process={"capabilities": {**sets, "ambient": ["CAP_KILL"]}})
    look = ["cat", "/proc/self/status"]
    caps = ["--cap", "CAP_NET_ADMIN", "--cap", "CAP_NET_BIND_SERVICE"]
    done = pyrunc("exec", "-u", "5", *caps, container.id, *look)
    assert done.stderr == ""
    found = status_of(done.stdout)
    assert found["CapAmb"] == found["CapEff"] == found["CapInh"] == "0000000000001020"
    assert found["CapBnd"] == "0000000000001420"
    plain = status_of(pyrunc("exec", "-u", "5", container.id, *look).stdout)
    assert plain["CapAmb"] == "0000000000000020"


def test_no_new_privileges_on_demand(box, pyrunc):
    container = box(process={"noNewPrivileges": False})
    look = ["grep", "NoNewPrivs", "/proc/self/status"]
    assert pyrunc.exec(container, *look).stdout == "NoNewPrivs:\t0\n"
    done = pyrunc("exec", "--no-new-privs", container.id, *look)
    assert done.stdout == "NoNewPrivs:\t1\n"


@pytest.mark.parametrize("no_new_privileges", [True, False])
@pytest.mark.parametrize("ptrace", [True, False])
def test_it_is_under_the_container_s_seccomp_filter(box, pyrunc, no_new_privileges, ptrace):
    capabilities = ["CAP_SYS_PTRACE", "CAP_KILL"] if ptrace else ["CAP_KILL"]
    container = box(
        process={
            "noNewPrivileges": no_new_privileges,
            "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), capabilities),
        },
        linux={
            "seccomp": {
                "defaultAction": "SCMP_ACT_ALLOW",
                "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"],
                "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}],
            }
        },
    )
    done = pyrunc.exec(container, "sh", "-c", "grep Seccomp: /proc/self/status; mkdir /tmp/d")
    assert done.stdout == "Seccomp:\t2\n", done
    assert "Operation not permitted" in done.stderr


def test_it_is_in_all_namespaces_and_cgroups(make_bundle, pyrunc):
    bundle = make_bundle(args=["sleep", "1000"])
    bundle.namespace("cgroup")
    bundle.namespace("time")
    container = pyrunc.start(bundle)
    pid = pyrunc.state(container)["pid"]
    names = ["ipc", "mnt", "net", "pid", "uts", "cgroup", "time"]
    done = pyrunc.exec(
        container, "sh", "-c", "; ".join(f"readlink /proc/self/ns/{n}" for n in names)
    )
    assert done.stdout.split() == [os.readlink(f"/proc/{pid}/ns/{n}") for n in names]
    pyrunc("exec", "-d", "--pid-file", bundle.path / "pid", container.id, "sleep", "1000")
    other = (bundle.path / "pid").read_text()
    assert Path(f"/proc/{other}/cgroup").read_text() == Path(f"/proc/{pid}/cgroup").read_text()


@pytest.mark.parametrize(
    "kinds", [("pid",), ("network", "uts"), ("pid", "ipc"), ("pid", "network", "ipc", "uts")]
)
def test_namespaces_that_are_the_host_s_are_no_obstacle(make_bundle, pyrunc, kinds):
    bundle = make_bundle(args=["sleep", "1000"])
    bundle.without_namespace(*kinds)
    if "network" in kinds:
        # sysfs belongs to whoever owns the network namespace.
        bundle.config["mounts"] = [m for m in bundle.config["mounts"] if m["type"] != "sysfs"]
        del bundle.linux["maskedPaths"], bundle.linux["readonlyPaths"]
    if "uts" in kinds:
        del bundle.config["hostname"]
    container = pyrunc.start(bundle)
    done = pyrunc.exec(container, "sh", "-c", "echo in; exit 3")
    assert (done.code, done.stdout) == (3, "in\n"), done


@pytest.fixture
def mapped(make_bundle, pyrunc):
    bundle = make_bundle(args=["sleep", "1000"])
    bundle.namespace("user")
    bundle.linux["uidMappings"] = [{"containerID": 0, "hostID": 100000, "size": 5000}]
    bundle.linux["gidMappings"] = [{"containerID": 0, "hostID": 200000, "size": 5000}]
    for directory, _, names in os.walk(bundle.path):
        for name in [".", *names]:
            own(Path(directory, name))
            os.chown(f"{directory}/{name}", 100000, 200000, follow_symlinks=False)
    for parent in bundle.path.parents[:4]:
        if parent != Path("/tmp") and parent.stat().st_mode & 0o11 != 0o11:
            parent.chmod(parent.stat().st_mode | 0o11)
    container = pyrunc.start(bundle)
    container.bundle = bundle
    return container


def test_user_namespace(mapped, pyrunc):
    pid = pyrunc.state(mapped)["pid"]
    script = "id -u; id -g; readlink /proc/self/ns/user; cat /proc/self/uid_map"
    done = pyrunc.exec(mapped, "sh", "-c", script)
    assert done.stdout.split() == [
        "0", "0", os.readlink(f"/proc/{pid}/ns/user"), "0", "100000", "5000",
    ]  # fmt: skip
    done = pyrunc("exec", "-u", "12:13", "-g", "14", mapped.id, "id", "-G")
    assert done.stdout == "13 14\n", done


def may_raise_limits():
    held = status_of(Path("/proc/self/status").read_text())["CapEff"]
    return int(held, 16) >> 24 & 1


@pytest.mark.skipif(not may_raise_limits(), reason="this machine's root lacks CAP_SYS_RESOURCE")
def test_user_namespace_limits_may_be_raised(mapped, pyrunc):
    process = {
        "args": ["grep", "msgqueue", "/proc/self/limits"],
        "cwd": "/",
        "env": ["PATH=/bin"],
        "rlimits": [{"type": "RLIMIT_MSGQUEUE", "soft": 10, "hard": 900000}],
    }
    path = mapped.bundle.path / "process.json"
    path.write_text(json.dumps(process))
    done = pyrunc("exec", "--process", path, mapped.id)
    assert done.stdout.split()[3:5] == ["10", "900000"], done


def test_user_namespace_terminal_belongs_to_the_user(mapped, pyrunc):
    done = pyrunc(
        "exec",
        "-t",
        "-u",
        "12:13",
        mapped.id,
        "sh",
        "-c",
        'stat -c %u "$(readlink /proc/self/fd/0)"',
    )
    assert done.stdout == "12\n", done


def test_nothing_of_ours_shows_in_the_container(box, pyrunc):
    """Neither Python nor init: every process that a look from inside finds is the user's."""
    container = box()
    watch = (
        "i=0; while [ $i -lt 400 ]; do for p in /proc/[0-9]*; do readlink $p/exe; done; "
        "i=$((i+1)); done | sort | uniq -c"
    )
    results = []
    thread = threading.Thread(
        target=lambda: results.append(pyrunc.exec(container, "sh", "-c", watch))
    )
    thread.start()
    while not results:
        assert pyrunc.exec(container, "true").code == 0
    thread.join()
    seen = [line.split()[1] for line in results[0].stdout.splitlines()]
    assert all(name == "/bin/busybox" or "pyrunc-init" in name for name in seen), seen
