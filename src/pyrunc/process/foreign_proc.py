"""A procfs of a pid namespace that the container joins, made without being seen there.

A new procfs shows the pid namespace of whoever opens it with fsopen(2), and the builder is not in
the one that is joined: it holds too much of the host's. Since Linux 6.18 procfs takes the
namespace as an option. Before, a process has to go there: an init that has nothing, and may
nothing, but open a procfs. The builder fetches the descriptor and finishes the mount.
"""

from __future__ import annotations

import posix
from _struct import pack
from errno import EINVAL, ESRCH

from pyrunc.errors import Error, reason
from pyrunc.linux import bpf, mounts
from pyrunc.linux import processes as p
from pyrunc.linux.bpf import Instruction
from pyrunc.linux.libc import syscall
from pyrunc.linux.numbers import MACHINE, SYS
from pyrunc.process.launch import LaunchProgram
from pyrunc.process.seal import execute_init, launch_fd
from pyrunc.process.shared_page import failure_in, make_page, sibling_in

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.step import Build

_FSCONFIG_SET_FD = 5
_INTERFERED = "a process there interfered"
_NOBODY = 65534
_SIGSTOP = 19
_CAPABILITY_VERSION_3 = 0x20080522
_CAP_SYS_ADMIN = 1 << 21
_SECCOMP_SET_MODE_FILTER = 1
#: All that the process that goes there still has to call.
_STILL_CALLED = ("clone", "prctl", "fsopen", "getpid", "kill", "exit_group")


class ForeignProc:
    """Opens procfs contexts for the pid namespace that the container joins."""

    def __init__(self, *, in_user_namespace: bool) -> None:
        self._in_user_namespace = in_user_namespace

    def __call__(self, build: Build) -> int:
        """Return a descriptor as fsopen(2) does, of a procfs that shows the joined pid namespace.

        :raises OSError: when the kernel refuses.
        :raises Error: when the process that goes there fails.
        """
        namespace = build.namespaces["pid"]
        context = syscall(SYS["fsopen"], b"proc\0", mounts.FSOPEN_CLOEXEC)
        try:
            syscall(SYS["fsconfig"], context, _FSCONFIG_SET_FD, b"pidns\0", 0, namespace)
        except OSError as error:
            posix.close(context)
            if error.errno != EINVAL:
                raise
            if build.entered_pid_namespace:
                # Any child of ours would be seen there.
                raise Error("its pid namespace is not the user namespace's own") from None
            return self.by_process(build.init, namespace)
        return context

    def by_process(self, init: int, namespace: int) -> int:
        """Let an init go there, open a procfs and stop; take the descriptor and end it."""
        empty = mounts.new_filesystem("tmpfs", "tmpfs", ("ro", "mode=555"), 0)
        page = make_page()
        try:
            programs = [launch_fd(q.encode()) for q in self._programs(namespace, empty, page)]
            stage, pidfd = p.clone(0)
            if stage == 0:
                _become(init, (namespace, empty, page), programs)
            for descriptor in (*programs, pidfd):
                posix.close(descriptor)
            posix.waitpid(stage, 0)
            opener = sibling_in(page)
            if not opener:
                raise Error(failure_in(page) or "the process that opens it died")
        finally:
            posix.close(page)
            posix.close(empty)
        return _take(opener)

    def _programs(self, namespace: int, empty: int, page: int) -> tuple[LaunchProgram, ...]:
        launch = LaunchProgram()
        launch.call("become undumpable", "prctl", p.PR_SET_DUMPABLE, 0, 0, 0, 0)
        launch.close_others(3, (), (namespace, empty, page))
        launch.share(page)
        launch.call("join the pid namespace", "setns", namespace, p.CLONE_NEWPID)
        launch.call("leave the caller's session", "setsid", ignore=True)
        # Nothing of the host is behind its root: all it has is an empty directory.
        launch.call("make a mount namespace", "unshare", p.CLONE_NEWNS)
        private = mounts.MS_PRIVATE | mounts.MS_REC
        launch.call("make the mounts private", "mount", "none", "/", 0, private, 0)
        flags = mounts.MOVE_MOUNT_F_EMPTY_PATH
        launch.call("mount an empty root", "move_mount", empty, "", mounts.AT_FDCWD, "/", flags)
        launch.call("enter the empty root", "fchdir", empty)
        launch.call("change the root", "pivot_root", ".", ".")
        launch.call("drop the old root", "umount2", ".", mounts.MNT_DETACH)
        # Nor may it anything: it is nobody, with a right over a namespace that holds nothing.
        launch.call("keep capabilities", "prctl", p.PR_SET_KEEPCAPS, 1, 0, 0, 0)
        nobody = (_NOBODY,) * 3
        lenient = self._in_user_namespace  # Which may know of no other ids.
        launch.call("set supplementary groups", "setgroups", 0, 0, ignore=True)
        launch.call("become nobody", "setresgid", *nobody, ignore=lenient)
        launch.call("become nobody", "setresuid", *nobody, ignore=lenient)
        header = pack("=Ii", _CAPABILITY_VERSION_3, 0)
        kept = pack("=6I", _CAP_SYS_ADMIN, _CAP_SYS_ADMIN, 0, 0, 0, 0)
        launch.call("drop capabilities", "capset", header, kept)
        own = p.CLONE_NEWUSER | p.CLONE_NEWNS
        launch.call("make a user namespace", "unshare", own)
        launch.close_others(0, (), ())
        inside = LaunchProgram()
        # With CAP_SYS_PTRACE there it can be made to call what the container's filter forbids.
        only = inside.sock_fprog(_only(_STILL_CALLED))
        label = "forbid all but opening a procfs (seccomp)"
        inside.call(label, "seccomp", _SECCOMP_SET_MODE_FILTER, 0, only)
        inside.spawn("enter the pid namespace", until_executed=False)
        inside.call("die with the builder", "prctl", p.PR_SET_PDEATHSIG, p.SIGKILL, 0, 0, 0)
        inside.call("open a procfs", "fsopen", "proc", mounts.FSOPEN_CLOEXEC)
        inside.call("find itself", "getpid", store_in_next=True)
        inside.call("stop", "kill", 0, _SIGSTOP)
        return launch, inside


def _only(names: tuple[str, ...]) -> bytes:
    """Return a seccomp filter (struct sock_filter array) that kills for any other system call."""
    program: list[Instruction | str] = [
        Instruction(bpf.LOAD_WORD, bpf.ARCHITECTURE),
        Instruction(bpf.JUMP_EQUAL, bpf.ARCHITECTURES[MACHINE], None, "kill"),
        Instruction(bpf.LOAD_WORD, bpf.NUMBER),
        *(Instruction(bpf.JUMP_EQUAL, SYS[name], "allow") for name in names),
        *("kill", Instruction(bpf.RETURN, bpf.RET_KILL_PROCESS)),
        *("allow", Instruction(bpf.RETURN, bpf.RET_ALLOW)),
    ]
    return bpf.assemble(program)


def _become(init: int, inherited: tuple[int, ...], programs: list[int]) -> None:
    try:
        for descriptor in inherited:
            posix.set_inheritable(descriptor, True)
        execute_init(init, *programs)
    finally:
        posix._exit(127)


def _take(opener: int) -> int:
    """Take the procfs, the only descriptor that the process has, and end it."""
    pidfd = p.pidfd_open(opener)
    try:
        status = posix.waitpid(opener, posix.WUNTRACED)[1]
        if not posix.WIFSTOPPED(status):
            code = posix.WEXITSTATUS(status) if posix.WIFEXITED(status) else 0
            why = posix.strerror(code).lower() if code else _INTERFERED
            raise Error(f"cannot open a procfs in the pid namespace: {why}")
        try:
            return p.pidfd_getfd(pidfd, 0)
        except OSError as error:
            # It has gone on from its stop, as a tracer there can make it do.
            why = _INTERFERED if error.errno == ESRCH else reason(error)
            raise Error(f"cannot take the procfs of the pid namespace: {why}") from None
        finally:
            p.pidfd_send_signal(pidfd, p.SIGKILL)
            posix.waitpid(opener, 0)
    finally:
        posix.close(pidfd)
