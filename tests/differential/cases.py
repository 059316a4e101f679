"""The configs that are run by every runtime: a name and what it changes in a plain bundle."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

SETS = ("bounding", "permitted", "effective", "inheritable", "ambient")


class Case(NamedTuple):
    name: str
    change: Callable[[Any], object]
    options: tuple[str, ...] = ()
    #: The runtimes that know of what the case is about.
    others: tuple[str, ...] = ("runc", "crun")


CASES: list[Case] = []


def case(
    name: str, change: Callable[[Any], object], *options: str, others: str = "runc crun"
) -> None:
    CASES.append(Case(name, change, options, tuple(others.split())))


def process(**members: Any) -> Callable[[Any], object]:
    return lambda bundle: bundle.process.update(members)


def linux(**members: Any) -> Callable[[Any], object]:
    return lambda bundle: bundle.linux.update(members)


def capabilities(**sets: list[str]) -> dict[str, list[str]]:
    return {name: [f"CAP_{one}" for one in sets.get(name, [])] for name in SETS}


def mount(kind: str, *options: str) -> Callable[[Any], object]:
    return lambda bundle: bundle.mount("/volume", kind, kind, *options)


def bind(*options: str) -> Callable[[Any], object]:
    def change(bundle: Any) -> None:
        source = bundle.path / "source"
        source.mkdir()
        bundle.mount("/volume", "bind", source, *options)

    return change


def in_bundle(
    name: str, make: Callable[[Any], object], relative: bool = False
) -> Callable[[Any], object]:
    def change(bundle: Any) -> None:
        make(bundle.path / name)
        bundle.bind(name if relative else bundle.path / name, f"/volume/{name}")

    return change


def overlay(bundle: Any) -> None:
    for name in ("one", "two", "upper", "work"):
        (bundle.path / name).mkdir()
    at = bundle.path
    options = (f"lowerdir={at}/one:{at}/two", f"upperdir={at}/upper", f"workdir={at}/work")
    bundle.mount("/volume", "overlay", "overlay", *options)


def idmapped(option: str) -> Callable[[Any], object]:
    def change(bundle: Any) -> None:
        bind("rbind", option)(bundle)
        mapping = [{"containerID": 0, "hostID": 4000, "size": 10}]
        bundle.config["mounts"][-1].update(uidMappings=mapping, gidMappings=mapping)

    return change


def hook(kind: str) -> Callable[[Any], object]:
    """A directory that a hook makes in the root file system, or in a mount of the container."""

    def change(bundle: Any) -> None:
        bundle.mount("/volume", "tmpfs", "tmpfs", "mode=0711")
        where = "real" if kind != "createContainer" else "volume/inner"
        args = ["mkdir", "-m", "0701", f"{bundle.rootfs}/{where}"]
        bundle.config["hooks"] = {kind: [{"path": "/bin/mkdir", "args": args}]}

    return change


def both(*changes: Callable[[Any], object]) -> Callable[[Any], object]:
    def change(bundle: Any) -> None:
        for one in changes:
            one(bundle)

    return change


def without_dev(bundle: Any) -> None:
    kept = [m for m in bundle.config["mounts"] if not m["destination"].startswith("/dev")]
    bundle.config["mounts"] = kept


def in_root(path: str, what: str = "directory", **how: Any) -> Callable[[Any], object]:
    def change(bundle: Any) -> None:
        place = bundle.rootfs / path
        place.parent.mkdir(parents=True, exist_ok=True)
        if what == "directory":
            place.mkdir(exist_ok=True)
            place.chmod(how.get("mode", 0o755))
        elif what == "link":
            place.symlink_to(how["to"])
        else:
            place.write_text(how.get("text", ""))

    return change


def without(*kinds: str) -> Callable[[Any], object]:
    def change(bundle: Any) -> None:
        bundle.without_namespace(*kinds)
        if "uts" in kinds:
            del bundle.config["hostname"]

    return change


def user_namespace(bundle: Any) -> None:
    bundle.give_to(100000)
    bundle.user_namespace(host=100000)


def remove(section: str, member: str) -> Callable[[Any], object]:
    return lambda bundle: getattr(bundle, section).pop(member)


case("plain", lambda bundle: None)

# Who the process is, and what it may do
case("user", process(user={"uid": 1000, "gid": 1001}))
case("user with groups", process(user={"uid": 1000, "gid": 1001, "additionalGids": [5, 10, 1001]}))
case("root with groups", process(user={"uid": 0, "gid": 0, "additionalGids": [5, 10]}))
case("group alone", process(user={"uid": 0, "gid": 7}))
case("umask 027", process(user={"uid": 0, "gid": 0, "umask": 0o027}))
case("umask 0", process(user={"uid": 0, "gid": 0, "umask": 0}))
case("no capabilities", process(capabilities=capabilities()))
case("capabilities left out", remove("process", "capabilities"))
case("bounding only", process(capabilities=capabilities(bounding=["KILL", "CHOWN"])))
case(
    "permitted, not effective",
    process(capabilities=capabilities(bounding=["KILL"], permitted=["KILL"])),
)
case(
    "ambient for a user",
    process(
        capabilities={name: ["CAP_NET_BIND_SERVICE", "CAP_KILL"] for name in SETS},
        user={"uid": 1000, "gid": 1000},
    ),
)
case(
    "capabilities of a user without ambient",
    process(
        capabilities=capabilities(**{name: ["KILL"] for name in SETS[:3]}),
        user={"uid": 1000, "gid": 1000},
    ),
)
case(
    "inheritable only",
    process(capabilities=capabilities(bounding=["KILL"], inheritable=["KILL"])),
)
case("new privileges allowed", process(noNewPrivileges=False))
case("new privileges left out", remove("process", "noNewPrivileges"))
SECCOMP = {
    "defaultAction": "SCMP_ACT_ALLOW",
    "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"],
    "syscalls": [{"names": ["getcwd_not", "swapon"], "action": "SCMP_ACT_ERRNO"}],
}
case("seccomp", linux(seccomp=SECCOMP))
case("seccomp without no_new_privs", both(linux(seccomp=SECCOMP), process(noNewPrivileges=False)))

# What the process finds
case("environment", process(env=["PATH=/bin", "A=1", "B= x=y ", "LANG=C"]))
case("environment with HOME", process(env=["PATH=/bin", "HOME=/elsewhere"]))
case("HOME of a user", process(user={"uid": 33, "gid": 33}))
case("a variable twice", process(env=["PATH=/bin", "A=1", "A=2"]))
case("cwd", process(cwd="/bin"))
case("cwd to be made", process(cwd="/new/directory"))
case("cwd behind a link", both(in_root("link", "link", to="/bin"), process(cwd="/link")))
case(
    "limits",
    process(
        rlimits=[
            {"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200},
            {"type": "RLIMIT_CORE", "soft": 0, "hard": 0},
            {"type": "RLIMIT_STACK", "soft": 1 << 20, "hard": (1 << 64) - 1},
            {"type": "RLIMIT_NPROC", "soft": 500, "hard": 500},
        ]
    ),
)
case("no limits", process(rlimits=[]))
LIMITS = {
    "AS": 1 << 40, "CORE": 12345, "CPU": 1000, "DATA": 1 << 39, "FSIZE": 1 << 21, "LOCKS": 4,
    "MEMLOCK": 4096, "MSGQUEUE": 20, "NICE": 0, "NOFILE": 99, "NPROC": 600, "RSS": 1 << 31,
    "RTPRIO": 0, "RTTIME": 1 << 30, "SIGPENDING": 6, "STACK": 1 << 23,
}  # fmt: skip
case(
    "every limit",
    process(
        rlimits=[
            {"type": f"RLIMIT_{name}", "soft": value // 2, "hard": value}
            for name, value in LIMITS.items()
        ]
    ),
)
case(
    "the last ids that there are",
    process(user={"uid": 4294967294, "gid": 4294967294, "additionalGids": [65536]}),
    others="crun",
)
case("user with a umask", process(user={"uid": 1000, "gid": 1000, "umask": 0o777}))
case(
    "unknown capability",
    process(capabilities={name: ["CAP_KILL", "CAP_NO_SUCH"] for name in SETS}),
    others="runc",
)
case("cwd of a user to be made", process(user={"uid": 9, "gid": 9}, cwd="/real/own"))
case("console size without a terminal", process(consoleSize={"height": 9, "width": 99}))
case("annotations", lambda bundle: bundle.config.update(annotations={"a.b": "c"}))
case("unknown properties", process(notInTheSpecification=[1]))
case("oom score", process(oomScoreAdj=500))
case("oom score 0", process(oomScoreAdj=0))
case("no hostname", lambda bundle: bundle.config.pop("hostname"))
case("domain name", lambda bundle: bundle.config.update(domainname="example.org"), others="crun")
case("personality", linux(personality={"domain": "LINUX32"}), others="crun")

# The root file system
case("read-only root", lambda bundle: bundle.config["root"].update(readonly=True))
case("no pivot", lambda bundle: None, "--no-pivot")
for value in (
    "private", "rprivate", "slave", "rslave", "shared", "rshared", "unbindable",
):  # fmt: skip
    case(f"root propagation {value}", linux(rootfsPropagation=value))
case("nothing protected", linux(maskedPaths=[], readonlyPaths=[]))
case(
    "protected in the root",
    both(
        in_root("file", "file"),
        in_root("directory/inner"),
        linux(maskedPaths=["/file", "/none"], readonlyPaths=["/directory", "/bin", "/none"]),
    ),
)

# Mounts
for option in ("ro", "nosuid", "nodev", "noexec", "noatime", "nodiratime", "strictatime", "sync"):
    case(f"tmpfs {option}", mount("tmpfs", option))
case("tmpfs with many options", mount("tmpfs", "nosuid", "nodev", "mode=0711", "size=1m", "uid=9"))
case("tmpfs over a directory", both(in_root("volume", mode=0o1777), mount("tmpfs")))
case("tmpfs with a copy", both(in_root("volume/a", "file"), mount("tmpfs", "tmpcopyup")))
for options in (
    "bind", "rbind", "bind ro", "bind nosuid nodev noexec", "rbind ro nosuid", "bind noatime",
    "rbind private", "rbind rprivate", "rbind slave", "rbind rslave", "bind ro rw",
):  # fmt: skip
    case(f"mount {options}", bind(*options.split()))
case("mount rbind rshared", both(bind("rbind", "rshared"), linux(rootfsPropagation="shared")))
case("recursive ro", bind("rbind", "rro"))
case("nosymfollow", bind("bind", "nosymfollow"), others="runc")
case("bind of a file", lambda bundle: bundle.bind("/dev/null", "/volume/file"))
case(
    "target behind a link",
    both(in_root("volume", "link", to="/real/place"), bind("bind")),
    others="runc",
)
case("mqueue", lambda bundle: bundle.mount("/dev/mqueue", "mqueue", "mqueue", "nosuid", "noexec"))
case("proc with options", lambda bundle: bundle.config["mounts"][0].update(options=["nosuid"]))
CGROUP = ("/sys/fs/cgroup", "cgroup", "cgroup", "nosuid", "noexec", "nodev", "relatime")
case("cgroups", lambda bundle: bundle.mount(*CGROUP, "ro"))
case("writable cgroups", lambda bundle: bundle.mount(*CGROUP))
case(
    "cgroups in a cgroup namespace",
    lambda bundle: (bundle.namespace("cgroup"), bundle.mount(*CGROUP, "ro")),
)
case("read-only dev", lambda bundle: bundle.config["mounts"][1]["options"].append("ro"))

for options in ("norelatime", "lazytime", "dirsync", "nr_inodes=100 size=1m mode=0"):
    case(f"tmpfs {options}", mount("tmpfs", *options.split()))
# crun 1.8 leaves what a later option undoes as it was, and knows fewer recursive options.
for options in (
    "noexec exec", "nosuid suid nodev dev", "noatime atime", "strictatime nostrictatime",
    "nodiratime diratime", "sync async", "ro rw", "unbindable", "silent loud",
):  # fmt: skip
    case(f"tmpfs {options}", mount("tmpfs", *options.split()), others="runc")
for options in (
    "rbind rnoatime", "rbind rnodiratime", "rbind rstrictatime", "rbind runbindable",
    "bind unbindable",
):  # fmt: skip
    case(f"mount {options}", bind(*options.split()), others="runc")
for options in ("rbind rnosuid rnodev rnoexec", "bind strictatime nosuid"):
    case(f"mount {options}", bind(*options.split()))
case("bind of a fifo", in_bundle("fifo", os.mkfifo))
case("bind of a file of the bundle", in_bundle("file", lambda path: path.write_text("x")))
case("relative source", in_bundle("file", lambda path: path.write_text("x"), relative=True))
# crun makes missing directories with a sticky bit.
case(
    "relative destination",
    lambda bundle: bundle.mount("volume/here", "tmpfs", "tmpfs"),
    others="runc",
)
case(
    "mounts in mounts",
    both(mount("tmpfs"), lambda b: b.mount("/volume/a/b", "tmpfs", "inner")),
    others="runc",
)
case("one mount over another", both(mount("tmpfs"), lambda b: b.mount("/volume", "tmpfs", "upper")))
case(
    "remount of a bind",
    both(bind("bind"), lambda b: b.mount("/volume", "none", "", "remount", "bind", "ro", "nosuid")),
    others="runc",
)
case(
    "remount of a tmpfs",
    both(
        mount("tmpfs", "size=1m"),
        lambda b: b.mount("/volume", "tmpfs", "tmpfs", "remount", "size=2m", "noexec"),
    ),
)
case("overlay", overlay)
case("idmapped", idmapped("idmap"), others="crun")
case(
    "read-only root with new places",
    both(mount("tmpfs"), lambda bundle: bundle.config["root"].update(readonly=True)),
)

# Hooks
for kind in ("prestart", "createRuntime", "createContainer"):
    case(f"{kind} hook", hook(kind))

# Devices
DEVICE = {"path": "/dev/fuse", "type": "c", "major": 10, "minor": 229}
case("a device", linux(devices=[DEVICE | {"fileMode": 0o600, "uid": 5, "gid": 6}]))
case("a block device", linux(devices=[DEVICE | {"type": "b", "fileMode": 0o660}]))
case("a fifo", linux(devices=[{"path": "/dev/pipe", "type": "p", "fileMode": 0o622}]))
case("a device in a directory", linux(devices=[DEVICE | {"path": "/dev/net/x", "fileMode": 0o666}]))
case("no dev", without_dev)
case(
    "dev of the host",
    both(without_dev, lambda bundle: bundle.mount("/dev", "bind", "/dev", "rbind", "rslave")),
)

# Namespaces
for kind in ("network", "ipc", "uts", "pid"):
    case(f"{kind} of the host", without(kind))
case("all of the host", without("network", "ipc", "uts", "pid"))
case("cgroup namespace", lambda bundle: bundle.namespace("cgroup"))
case("network by path", lambda bundle: bundle.namespace("network", f"/proc/{os.getpid()}/ns/net"))
case("user namespace", user_namespace)
case("user of a user namespace", both(user_namespace, process(user={"uid": 7, "gid": 8})))
case(
    "user namespace, network of the host",
    both(user_namespace, without("network")),
    others="crun",
)
case(
    "several mappings",
    both(
        user_namespace,
        lambda bundle: bundle.linux.update(
            uidMappings=[
                {"containerID": 0, "hostID": 100000, "size": 10},
                {"containerID": 10, "hostID": 200000, "size": 1000},
            ]
        ),
    ),
)
case("sysctl", linux(sysctl={"net.ipv4.ip_forward": "1", "kernel.msgmax": "4096"}))
