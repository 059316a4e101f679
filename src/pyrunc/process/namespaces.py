"""Which namespaces a container gets, and the steps that enter and prepare them."""

from __future__ import annotations

import posix
from _struct import pack

from pyrunc.errors import Error, reason
from pyrunc.linux import files
from pyrunc.linux import processes as p
from pyrunc.linux.libc import cstring, syscall
from pyrunc.linux.numbers import SYS
from pyrunc.process.channel import die_with_runtime
from pyrunc.step import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pyrunc.spec.types import TimeOffset
    from pyrunc.step import Build

#: config.json's names in the kernel's terms.
FLAGS = {
    "user": p.CLONE_NEWUSER,
    "pid": p.CLONE_NEWPID,
    "network": p.CLONE_NEWNET,
    "mount": p.CLONE_NEWNS,
    "ipc": p.CLONE_NEWIPC,
    "uts": p.CLONE_NEWUTS,
    "cgroup": p.CLONE_NEWCGROUP,
    "time": p.CLONE_NEWTIME,
}
#: The same as files of /proc/PID/ns.
FILES = {
    "user": "user",
    "pid": "pid",
    "network": "net",
    "mount": "mnt",
    "ipc": "ipc",
    "uts": "uts",
    "cgroup": "cgroup",
    "time": "time",
}
_NS_GET_USERNS = 0xB701
_NS_GET_NSTYPE = 0xB703


class Namespaces:
    """The namespaces of a container: which are new, which are joined, which stay the host's."""

    __slots__ = ("joined", "new")

    def __init__(self, new: frozenset[str], joined: dict[str, str]) -> None:
        #: Types to make.
        self.new = new
        #: Types to enter, with the path of each.
        self.joined = joined

    def with_one_there(self, kind: str) -> Namespaces:
        """Return them with a new one joined, as it was made before."""
        return Namespaces(self.new - {kind}, {**self.joined, kind: "made before"})

    def private(self, kind: str) -> bool:
        """Tell whether the container has its own (or another's), not the host's, of this type."""
        return kind in self.new or kind in self.joined

    @property
    def entered_by_builder(self) -> bool:
        """Whether the builder enters and makes the namespaces itself, once it is born.

        So it does when a pid namespace is joined. Only a child could be in that, and whoever is
        there already could see a builder: a Python with the rights of the runtime. It is init's
        last act to go there (plan/first_process.py).
        """
        return "pid" in self.joined

    @property
    def needs_stage(self) -> bool:
        """Whether a process between runtime and builder must prepare the ground.

        A user namespace must be entered before what it is to own is made, and the clocks of a
        time namespace are set before the first process is in it.
        """
        return not self.entered_by_builder and (
            "user" in self.joined
            or "time" in self.new
            or ("user" in self.new and bool(self.joined))
        )

    @property
    def is_born_inside(self) -> bool:
        """Whether the builder is born in all new namespaces, and joins the rest in steps."""
        return not self.entered_by_builder and not self.needs_stage

    def clone_flags(self) -> int:
        """Return ``CLONE_NEW*`` for the builder's birth.

        The cgroup namespace comes later: its root is the cgroup that the maker is in.
        """
        return flags_of(self.new - {"cgroup", "time"})


def flags_of(kinds: Iterable[str]) -> int:
    """Return the ``CLONE_NEW*`` flags of ``kinds``."""
    flags = 0
    for kind in kinds:
        flags |= FLAGS[kind]
    return flags


def open_namespace(kind: str, path: str) -> int:
    """Open a namespace file and make sure that it is one, of this type.

    :raises Error: when it is anything else; nothing is entered by mistake.
    """
    doing = f"open {kind} namespace {path}"
    try:
        # O_NONBLOCK: a fifo put there must not hold us.
        descriptor = posix.open(path, posix.O_RDONLY | posix.O_NONBLOCK | files.O_CLOEXEC)
    except OSError as error:
        raise Error(f"cannot {doing}: {reason(error)}") from None
    try:
        if files.filesystem_magic(descriptor) != files.NSFS_MAGIC:
            raise Error(f"cannot {doing}: it is not a namespace")
        if syscall(SYS["ioctl"], descriptor, _NS_GET_NSTYPE) != FLAGS[kind]:
            raise Error(f"cannot {doing}: it is a namespace of another type")
    except BaseException:
        posix.close(descriptor)
        raise
    return descriptor


def owner_of(descriptor: int) -> int:
    """Return the inode of the user namespace that owns one (ioctl_nsfs(2)); 0 if it is not ours."""
    try:
        owner = syscall(SYS["ioctl"], descriptor, _NS_GET_USERNS)
    except OSError:
        return 0
    try:
        return posix.stat(owner).st_ino
    finally:
        posix.close(owner)


def is_current(kind: str, descriptor: int, pid: int | str = "self") -> bool:
    """Tell whether ``descriptor`` is the namespace that this process, or another, is in already."""
    here = posix.stat(f"/proc/{pid}/ns/{FILES[kind]}")
    there = posix.stat(descriptor)
    return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)


class JoinNamespace(Step):
    """Enter a namespace that exists."""

    kind: str
    path: str

    def describe(self) -> str:
        return f"join {self.kind} namespace {self.path}"

    def apply(self, build: Build) -> None:
        p.setns(build.namespaces[self.kind], FLAGS[self.kind])


class UnshareCgroupNamespace(Step):
    """Make the container's cgroup the root of what it sees; it must be in it by now."""

    def describe(self) -> str:
        return "make a cgroup namespace"

    def apply(self, build: Build) -> None:
        p.unshare(p.CLONE_NEWCGROUP)


class BecomeRoot(Step):
    """Become uid and gid 0 of the user namespace, which the mappings have just defined."""

    rootless: bool

    def describe(self) -> str:
        return "become root of the user namespace"

    def apply(self, build: Build) -> None:
        become_root(visible=False)
        die_with_runtime(build.down)


def become_root(*, visible: bool) -> None:
    """Take uid and gid 0 where they are mapped; the capabilities are there already.

    :param visible: whether somebody else may be in the user namespace: with CAP_SYS_PTRACE
        there he could trace this process if it were dumpable (ptrace(2)).
    """
    for call, arguments in (("setresgid", (0, 0, 0)), ("setresuid", (0, 0, 0))):
        try:
            syscall(SYS[call], *arguments)
        except OSError as error:
            if error.errno != 22:  # EINVAL: 0 is not mapped.
                raise
    # The change of ids made this process undumpable, and its /proc files root's: a runtime
    # without root could no longer reach them, nor the hooks that it runs.
    p.prctl(p.PR_SET_DUMPABLE, 0 if visible else 1)


def _set_name(call: str, name: str) -> None:
    """sethostname(2), or setdomainname(2): the NIS domain name."""
    encoded = cstring(name)
    syscall(SYS[call], encoded, len(encoded) - 1)


class SetHostname(Step):
    """``hostname``."""

    name: str

    def describe(self) -> str:
        return f"set the hostname to {self.name}"

    def apply(self, build: Build) -> None:
        _set_name("sethostname", self.name)


class SetDomainname(Step):
    """``domainname``."""

    name: str

    def describe(self) -> str:
        return f"set the domain name to {self.name}"

    def apply(self, build: Build) -> None:
        _set_name("setdomainname", self.name)


class SetSysctl(Step):
    """One ``linux.sysctl``, in the namespaces that the builder is in."""

    name: str
    #: Below /proc/sys.
    path: str
    value: str

    def describe(self) -> str:
        return f"set sysctl {self.name} to {self.value!r}"

    def apply(self, build: Build) -> None:
        value = self.value.encode("utf-8", "surrogateescape")
        files.write_proc(build.proc, f"sys/{self.path}", value)


class BringLoopbackUp(Step):
    """Set the interface ``lo`` of a new network namespace up, as every runtime does."""

    def describe(self) -> str:
        return "bring the loopback interface up"

    def apply(self, build: Build) -> None:
        # netdevice(7): struct ifreq is 16 bytes of name and a union, here flags.
        socket = syscall(SYS["socket"], 2, 2 | 0o2000000, 0)
        try:
            request = b"lo".ljust(16, b"\0") + pack("=h22x", 0x1)
            syscall(SYS["ioctl"], socket, 0x8914, request)
        except PermissionError:
            # Nobody asked for it, and a runtime in a container of Docker's has no CAP_NET_ADMIN.
            # Who runs it is told beforehand (container/making/old_ways.py).
            pass
        finally:
            posix.close(socket)


def timens_offsets(offsets: Mapping[str, TimeOffset]) -> bytes:
    """Return ``linux.timeOffsets`` in the form of /proc/PID/timens_offsets."""
    lines = [
        f"{clock} {offset.get('secs', 0)} {offset.get('nanosecs', 0)}\n"
        for clock, offset in offsets.items()
    ]
    return "".join(lines).encode()
