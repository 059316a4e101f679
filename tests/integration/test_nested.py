"""pyrunc in a container with CAP_SYS_ADMIN and the seccomp filter of Docker, or of Podman.

The outer container is pyrunc's as well; its root is the host's, so that Python is there.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from pathlib import Path

import pytest

CONFIGS = Path(__file__).resolve().parents[2] / "benchmarks/configs"
CAPABILITIES = [
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FSETID", "CAP_FOWNER", "CAP_MKNOD", "CAP_NET_RAW",
    "CAP_SETGID", "CAP_SETUID", "CAP_SETFCAP", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT", "CAP_KILL", "CAP_AUDIT_WRITE", "CAP_SYS_ADMIN",
]  # fmt: skip
#: What both profiles let through with CAP_SYS_ADMIN.
WITH_SYS_ADMIN = {
    "bpf", "clone", "clone3", "fanotify_init", "fsconfig", "fsmount", "fsopen", "fspick",
    "lookup_dcookie", "mount", "mount_setattr", "move_mount", "open_tree", "perf_event_open",
    "pivot_root", "quotactl", "setdomainname", "sethostname", "setns", "syslog", "umount",
    "umount2", "unshare",
}  # fmt: skip
#: What an engine of before Linux 5 has never heard of.
NEWER = {
    "clone3", "close_range", "faccessat2", "fsconfig", "fsmount", "fsopen", "fspick",
    "mount_setattr", "move_mount", "open_tree", "openat2", "pidfd_getfd", "pidfd_open",
    "pidfd_send_signal",
}  # fmt: skip


def profile(engine, unknown):
    """Return the seccomp section of an engine's config as it is with CAP_SYS_ADMIN."""
    seccomp = json.loads((CONFIGS / f"{engine}.json").read_text())["linux"]["seccomp"]
    for entry in seccomp["syscalls"]:
        gone = set(unknown)
        if entry["action"] != "SCMP_ACT_ALLOW" or set(entry["names"]) <= {"clone", "clone3"}:
            gone |= WITH_SYS_ADMIN
        entry["names"] = [name for name in entry["names"] if name not in gone]
    entries = [entry for entry in seccomp["syscalls"] if entry["names"]]
    allowed = {"names": sorted(WITH_SYS_ADMIN - set(unknown)), "action": "SCMP_ACT_ALLOW"}
    seccomp["syscalls"] = [*entries, allowed]
    return seccomp


@pytest.fixture
def outside(make_bundle, pyrunc):
    """A running container with the host's root; ``outside(seccomp)`` returns it."""
    mounted = []

    def start(seccomp):
        bundle = make_bundle(args=["sleep", "1000"])
        shutil.rmtree(bundle.rootfs)
        bundle.rootfs.mkdir()
        subprocess.run(["mount", "--bind", "/", bundle.rootfs], check=True)
        mounted.append(bundle.rootfs)
        kinds = ("bounding", "effective", "permitted")
        bundle.process["capabilities"] = dict.fromkeys(kinds, CAPABILITIES)
        bundle.process["env"] = ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]
        bundle.process["noNewPrivileges"] = False
        bundle.bind("/sys/fs/cgroup", "/sys/fs/cgroup", "rbind")
        bundle.mount("/run", "tmpfs", "tmpfs", "mode=755")
        bundle.linux.update(seccomp=seccomp, maskedPaths=[], readonlyPaths=[])
        bundle.linux["resources"] = {"devices": [{"allow": True, "access": "rwm"}]}
        container = pyrunc.start(bundle)
        # Everything on the machine has this root: it tells nothing of what is left.
        pyrunc.roots.clear()
        return container

    yield start
    pyrunc.remove_all()
    for root in mounted:
        subprocess.run(["umount", root], check=True)


@pytest.mark.parametrize("unknown", [(), NEWER], ids=["newest", "of before Linux 5"])
@pytest.mark.parametrize("engine", ["docker", "podman"])
def test_a_whole_life(make_bundle, pyrunc, outside, engine, unknown):
    inner = make_bundle(linux={"maskedPaths": [], "readonlyPaths": []})
    container = outside(profile(engine, unknown))
    command = [*pyrunc.command[: pyrunc.command.index("--root")], "--root", "/run/inner"]

    def within(name, *arguments):
        inner.save()
        where = ("--bundle", str(inner.path)) if name in ("run", "create") else ()
        return pyrunc.exec(container, *command, name, *where, *arguments)

    inner.shell("echo inside; exit 5")
    done = within("run", "a")
    assert (done.code, done.stdout) == (5, "inside\n"), done
    assert "loopback interface stays down" in done.stderr
    inner.process.update(args=["tty"], terminal=True)
    done = within("run", "b")
    assert (done.code, done.stdout) == (0, "/dev/pts/0\n"), done
    inner.process.update(args=["sleep", "1000"], terminal=False)
    assert within("create", "c").code == 0
    assert within("start", "c").code == 0
    done = within("exec", "c", "sh", "-c", "echo inside; exit 6")
    assert (done.code, done.stdout, done.stderr) == (6, "inside\n", "")
    done = within("exec", "--tty", "c", "tty")
    assert (done.code, done.stdout, done.stderr) == (0, "/dev/pts/0\n", "")
    assert within("kill", "c", "KILL").code == 0
    end = time.monotonic() + 10
    while json.loads(within("state", "c").stdout)["status"] != "stopped":
        assert time.monotonic() < end
    done = within("delete", "c")
    assert (done.code, done.stderr) == (0, "")
