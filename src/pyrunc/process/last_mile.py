"""The launch program: all that init does between entering the container and the user's program.

The order is the security of it. Ids and capabilities are dropped before init
waits for the start, so that for as long as it waits it is worth no more to an
attacker than the program it will become. Filters that need privilege to load
come before that, all others last.
"""

from __future__ import annotations

import posix
from _struct import pack
from errno import ENOSYS, EPERM

from pyrunc import ids
from pyrunc.linux import processes as p
from pyrunc.linux import refusals
from pyrunc.linux.libc import syscall
from pyrunc.linux.numbers import SYS
from pyrunc.process import attributes
from pyrunc.process.channel import EXECUTING, LISTENER
from pyrunc.process.failure import SET_GROUPS, START_HOOK
from pyrunc.process.launch import LaunchProgram

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyrunc.security.capabilities import Call
    from pyrunc.security.seccomp import Filter
    from pyrunc.spec.types import Hook, MemoryPolicy, Personality, Process, Rlimit

_KEYCTL_JOIN_SESSION_KEYRING = 1
_KEYCTL_GET_KEYRING_ID = 0
_KEY_SPEC_SESSION_KEYRING = -3
_SECCOMP_SET_MODE_FILTER = 1
_SECCOMP_FILTER_FLAG_NEW_LISTENER = 8
_AT_EACCESS = 0x200
_MASK = 0xFFFFFFFFFFFFFFFF
_AT_FDCWD = -100
_X_OK = 1
#: The umask when ``process.user.umask`` is not given, as runc has it. Inheriting the caller's,
#: which for an engine's monitor is often 0, would make every file world-writable.
DEFAULT_UMASK = 0o022


class LastMile:
    """Everything that goes into one launch program; ``compile`` puts it in order."""

    __slots__ = (
        "capability_calls",
        "cpu_affinity",
        "dropped",
        "entered_cwd",
        "environment",
        "filter_early",
        "give_stdio",
        "hook_files",
        "hooks",
        "keep_groups",
        "keyring",
        "label_writes",
        "memory_policy",
        "no_new_privileges",
        "personality",
        "preserved",
        "preserved_listen",
        "proc",
        "process",
        "program",
        "rlimits",
        "scheduler",
        "seccomp",
        "terminal",
    )

    def __init__(self, process: Process, program: str, environment: Sequence[str]) -> None:
        self.process = process
        #: The path to execute, already searched for in PATH.
        self.program = program
        self.environment: Sequence[str] = attributes.without_repetitions(environment)
        self.no_new_privileges = bool(process.get("noNewPrivileges"))
        #: The capabilities that leave the bounding set.
        self.dropped = 0
        #: Those before setresuid, and those after it.
        self.capability_calls: tuple[Sequence[Call], Sequence[Call]] = ((), ())
        #: (file below the process's own /proc directory, content): LSM labels.
        self.label_writes: Sequence[tuple[str, bytes]] = ()
        #: The host's procfs, which the labels are written through.
        self.proc = -1
        #: Name of the session keyring to join, or nothing to keep the caller's.
        self.keyring = ""
        self.seccomp: Filter | None = None
        #: Load the filter with the privileges dropped, not right before the program.
        self.filter_early = False
        self.terminal = bool(process.get("terminal"))
        #: ``process.rlimits``, unless the runtime sets them.
        self.rlimits: Sequence[Rlimit] = process.get("rlimits") or ()
        #: ``process.scheduler``, unless the runtime sets it.
        self.scheduler = process.get("scheduler")
        self.personality: Personality | None = None
        self.memory_policy: MemoryPolicy | None = None
        #: CPUs to run on, as ``0-3,7``; empty for all that the cgroup's cpuset gives; None for
        #: those that the process runs on by then.
        self.cpu_affinity: str | None = ""
        #: Whether it is in ``process.cwd`` already.
        self.entered_cwd = False
        #: Descriptors from 3 on that the program gets.
        self.preserved = 0
        #: Whether some are announced with $LISTEN_FDS, so that $LISTEN_PID is wanted.
        self.preserved_listen = False
        #: Which of stdin, stdout and stderr become the user's.
        self.give_stdio: Sequence[int] = ()
        #: startContainer hooks, and the memory files that they read the state from and print to.
        self.hooks: Sequence[Hook] = ()
        self.hook_files: tuple[int, int] = (-1, -1)
        #: `run.oci.keep_original_groups`: leave the supplementary groups as the caller had them.
        self.keep_groups = False

    @property
    def notifies(self) -> bool:
        """Whether the filter comes with a listener, which the runtime collects."""
        return self.seccomp is not None and self.seccomp.notify

    @property
    def _filters_last(self) -> bool:
        """Whether the filter is loaded right before the program, so that it need allow no more.

        That takes no_new_privs; and the runtime, which collects a listener, is not there then.
        """
        return self.no_new_privileges and not self.notifies and not self.filter_early

    def add_limits(self, program: LaunchProgram) -> None:
        """What may take more privilege than the container's root has: scheduling, limits."""
        process = self.process
        # Before the scheduling policy: SCHED_DEADLINE keeps a process on all CPUs it could have.
        if self.cpu_affinity is not None:
            attributes.add_cpu_affinity(program, self.cpu_affinity)
        if self.scheduler:
            attributes.add_scheduler(program, self.scheduler)
        if priority := process.get("ioPriority"):
            attributes.add_io_priority(program, priority)
        attributes.add_rlimits(program, self.rlimits)

    def add_labels(self, program: LaunchProgram) -> None:
        """The security modules' labels, which take effect at the next execve."""
        for path, content in self.label_writes:
            # Init must open the file on its own: a descriptor from before an execve is
            # dead (proc_pid_attr(5)).
            label = f"write {content.decode('utf-8', 'replace')!r} to {path}"
            flags = posix.O_WRONLY | posix.O_CLOEXEC
            program.call(label, "openat", self.proc, f"self/{path}", flags, store_in_next=True)
            program.call(label, "write", 0, program.blob(content), len(content))
        if self.label_writes:
            program.call("close the host's /proc", "close", self.proc)

    def add_preparation(self, program: LaunchProgram) -> None:
        """What needs no order: signals, keyring, personality, umask."""
        program.reset_signals()
        if self.keyring:
            program.call(
                f"join session keyring {self.keyring}",
                "keyctl",
                _KEYCTL_JOIN_SESSION_KEYRING,
                self.keyring,
            )
        if self.personality:
            attributes.add_personality(program, self.personality)
        if self.memory_policy:
            attributes.add_memory_policy(program, self.memory_policy)
        user = self.process.get("user") or {}
        program.call("set umask", "umask", user.get("umask", DEFAULT_UMASK))

    def add_session(self, program: LaunchProgram) -> None:
        """Lead a new session, with the terminal as its controlling one."""
        program.call("start a session", "setsid", ignore=True)
        if self.terminal:
            program.call("take the terminal", "ioctl", 0, 0x540E, 0)

    def add_privileges(self, program: LaunchProgram, up: int = -1, down: int = -1) -> None:
        """Become the user, with the capabilities that the config gives.

        ``up`` and ``down`` lead to the runtime, which collects a seccomp listener.
        """
        process = self.process
        user = process.get("user") or {}
        uid, gid = ids.check(user.get("uid", 0), "uid"), ids.check(user.get("gid", 0), "gid")
        groups = [ids.check(number, "gid") for number in user.get("additionalGids") or ()]
        for descriptor in self.give_stdio:
            program.call("give stdio to the user", "fchown", descriptor, uid, -1, ignore=True)
        if self.dropped:
            program.drop_capabilities(self.dropped)
        for label, name, *arguments in self.capability_calls[0]:
            program.call(str(label), str(name), *arguments)
        if not self.keep_groups:
            gids = pack(f"={len(groups)}I", *groups) if groups else 0
            # Not all: the report of a failure is one message of a pipe.
            label = " ".join((SET_GROUPS, *map(str, groups[:20])))
            program.call(label, "setgroups", len(groups), gids, ignore=not groups)
        program.call(f"set gid {gid}", "setresgid", gid, gid, gid)
        # Only CAP_SYS_ADMIN may load a filter without no_new_privs (seccomp(2)). What comes after
        # it has to be in the filter: as little as can be.
        before = self.seccomp is not None and not self.no_new_privileges
        if uid == 0:
            program.call("set uid 0", "setresuid", 0, 0, 0)
        if before:
            self._add_seccomp(program, up, down)
            program.remark = ", with the filter of linux.seccomp in force"
        if uid:
            program.call(f"set uid {uid}", "setresuid", uid, uid, uid)
        for label, name, *arguments in self.capability_calls[1]:
            program.call(str(label), str(name), *arguments)
        # A change of ids makes a process dumpable or not as the sysctl says; while it
        # waits, init must not be, whoever it runs as now.
        program.call("stay undumpable", "prctl", p.PR_SET_DUMPABLE, 0, 0, 0, 0, ignore=before)
        if self.no_new_privileges:
            program.call("set no_new_privs", "prctl", p.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
            if self.seccomp and not self._filters_last:
                self._add_seccomp(program, up, down)
                program.remark = ", with the filter of linux.seccomp in force"

    def add_cwd(self, program: LaunchProgram) -> None:
        """Enter the working directory: as root of the container if that may, else as the user."""
        program.call(f"chdir to cwd ({self._cwd!r}) set in config.json", "chdir", self._cwd)
        self.entered_cwd = True
        self.add_cwd_check(program)

    def add_cwd_check(self, program: LaunchProgram) -> None:
        """Is the working directory, once it is entered, inside the root (CVE-2024-21626)?"""
        if self.entered_cwd:
            program.check_cwd(f"find the cwd {self._cwd!r} inside the root file system")

    def add_late_cwd(self, program: LaunchProgram) -> None:
        """As the user it will be: enter the working directory that root could not."""
        if not self.entered_cwd:
            self.add_cwd(program)

    @property
    def _cwd(self) -> str:
        return self.process.get("cwd") or "/"

    def add_permission_check(self, program: LaunchProgram) -> None:
        """As the user it will be: may the program be executed? `start` would find out late."""
        label = f'exec: "{self.process["args"][0]}"'
        program.remark = ""
        impossible = (refusals.NO_DESCRIPTOR, 0, 0, refusals.EVERY_FLAG)
        is_free = self.seccomp is None or self._filters_last
        if is_free and not refusals.refuses("faccessat2", *impossible):
            program.call(label, "faccessat2", _AT_FDCWD, self.program, _X_OK, _AT_EACCESS)
            return
        # The filter in force, or one around us, may not know the call of Linux 5.8, or neither.
        # The old one answers without the capabilities that a user other than root may have.
        user = self.process.get("user") or {}
        effective = (self.process.get("capabilities") or {}).get("effective") or ()
        if not user.get("uid", 0) or "CAP_DAC_OVERRIDE" not in effective:
            arguments = (_AT_FDCWD, self.program, _X_OK)
            program.call(label, "faccessat", *arguments, may_be_forbidden=True)

    def add_execution(self, program: LaunchProgram, announce_to: int = -1) -> None:
        """The startContainer hooks, the filter, the program.

        :param announce_to: takes EXECUTING right before the filter and the program, so that
            an init that was killed is not taken for one that executed the program.
        """
        if self.hooks:
            self._add_hooks(program)
        if announce_to >= 0:
            label = "tell that the program is executed"
            program.call(label, "write", announce_to, EXECUTING, len(EXECUTING))
        if self.seccomp and self._filters_last:
            self._add_seccomp(program, -1, -1)
        program.execute(
            f"exec {self.program}", self.program, self.process["args"], self.environment
        )

    def _add_hooks(self, program: LaunchProgram) -> None:
        """The startContainer hooks, confined as the program will be."""
        seccomp = None
        if self.seccomp and self._filters_last:
            # Init itself does without it for as long as it has hooks to wait for.
            seccomp = program.seccomp_filter(
                self.seccomp.flags, program.sock_fprog(self.seccomp.bpf)
            )
        for index, hook in enumerate(self.hooks):
            environment = hook.get("env")
            program.hook(
                f"{START_HOOK} #{index}: {hook['path']}",
                hook["path"],
                hook.get("args") or [hook["path"]],
                self.environment if environment is None else environment,
                *self.hook_files,
                timeout=hook.get("timeout") or 0,
                seccomp=seccomp,
            )

    def _add_seccomp(self, program: LaunchProgram, up: int, down: int) -> None:
        assert self.seccomp is not None
        label = "load the seccomp filter"
        arguments = (_SECCOMP_SET_MODE_FILTER, self.seccomp.flags)
        filter_program = program.sock_fprog(self.seccomp.bpf)
        # The filter may not let init tell the time.
        program.stamp_into(-1)
        if not self.seccomp.notify:
            program.call(label, "seccomp", *arguments, filter_program)
            return
        # The message is LISTENER, then the descriptor's number: the last byte of one
        # cell and the first four of the next.
        message = program.blob(LISTENER.rjust(8, b"\0") + bytes(8))
        program.call(label, "seccomp", *arguments, filter_program, store=message + 8)
        program.call("hand over the seccomp listener", "write", up, message + 7, 5)
        program.await_byte("wait until the seccomp listener is taken", down)
        # With it, whoever can trace this process could answer for the agent.
        program.call("close the seccomp listener", "close", message + 8, indirect=True)


def session_keyring(container_id: str) -> str:
    """Return the name of a container's session keyring; nothing where there are no keys.

    That is a kernel without them, or a sandbox around us that forbids keyctl(2).
    """
    try:
        syscall(SYS["keyctl"], _KEYCTL_GET_KEYRING_ID, _KEY_SPEC_SESSION_KEYRING & _MASK, 0)
    except OSError as error:
        if error.errno in (ENOSYS, EPERM):
            return ""
    return f"_ses.{container_id}"
