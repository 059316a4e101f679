"""Which kernel parameters a container may set: those of namespaces of its own.

A parameter outside every namespace would change the host, so ``linux.sysctl``
takes the ones that belong to a namespace the container has (the same as
runc's): ``net.*``, the System V and POSIX message queue ones, and
``kernel.domainname``. ``kernel.hostname`` has its own member, ``hostname``.
"""

from __future__ import annotations

from pyrunc.spec.kinds import FINE, show, text, wrong

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Container

    from pyrunc.spec.kinds import Mistakes

_IPC = frozenset(
    [
        "kernel.msgmax",
        "kernel.msgmnb",
        "kernel.msgmni",
        "kernel.sem",
        "kernel.shmall",
        "kernel.shmmax",
        "kernel.shmmni",
        "kernel.shm_rmid_forced",
    ]
)


def with_dots(name: str) -> str:
    """Return the name as ``net.ipv4.conf.eth0/1.forwarding``, whichever way it was written.

    sysctl(8) takes ``net/ipv4/conf/eth0.1/forwarding`` too: the separator that
    comes first is *the* separator, and the other stands for itself.
    """
    for letter in name:
        if letter == ".":
            return name
        if letter == "/":
            return "/".join(part.replace("/", ".") for part in name.split("."))
    return name


def path_of(name: str) -> str:
    """Return the path below /proc/sys of a parameter that passed :func:`sysctl_name`."""
    return ".".join(part.replace(".", "/") for part in with_dots(name).split("/"))


def sysctl_name(name: object) -> Mistakes:
    """Take names whose path stays below /proc/sys."""
    if type(name) is str and not text(name):
        parts = path_of(name).split("/")
        if not any(part in ("", ".", "..") for part in parts):
            return FINE
    return wrong("the name of a kernel parameter such as net.core.somaxconn", name)


def outside_namespaces(name: str, namespaces: Container[str]) -> Mistakes:
    """Return the mistake that setting ``name`` would reach beyond the container, if it does."""
    dotted = with_dots(name)
    if dotted.startswith("net."):
        if "network" in namespaces:
            return FINE
        return _refused("a network", f"{show(name)} not allowed in host network namespace")
    if dotted in _IPC or dotted.startswith("fs.mqueue."):
        if "ipc" in namespaces:
            return FINE
        return _refused("an ipc", f"{show(name)} is not allowed in the hosts ipc namespace")
    if dotted == "kernel.domainname" and "uts" in namespaces:
        return FINE
    if dotted == "kernel.hostname":
        found = f'sysctl {show(name)} is not allowed as it conflicts with the OCI "hostname" field'
        return (("", '"hostname" to be set instead', found),)
    found = f"sysctl {show(name)} is not in a separate kernel namespace"
    return (("", "a kernel parameter of a namespace", found),)


def _refused(namespace: str, found: str) -> Mistakes:
    return (("", f"{namespace} namespace in linux.namespaces", f"sysctl {found}"),)
