"""All that init does between entering the container and the user's program.

Pieces of launch programs, which the planner puts in order, for `create` and for `exec`.

The order is the security of it. Ids and capabilities are dropped before init
waits for the start, so that for as long as it waits it is worth no more to an
attacker than the program it will become. Filters that need privilege to load
come before that, all others last.
"""

from __future__ import annotations

import posix
from _struct import pack

from pyrunc import ids
from pyrunc.linux import processes as p
from pyrunc.process import attributes
from pyrunc.process.channel import EXECUTING, LISTENER
from pyrunc.process.failure import SET_GROUPS, START_HOOK
from pyrunc.process.late import (
    CWD_BY_ROOT,
    CWD_BY_USER,
    DOWN,
    ENVIRONMENT,
    HOOK_OUTPUT,
    HOOK_STDIN,
    PROC,
    PROGRAM,
    UP,
    left_stdio,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyrunc.process.late import Descriptor, Late
    from pyrunc.process.launch import LaunchProgram
    from pyrunc.security.capabilities import Call
    from pyrunc.security.seccomp import Filter
    from pyrunc.spec.types import Hook, MemoryPolicy, Personality, Process, Rlimit, Spec

_KEYCTL_JOIN_SESSION_KEYRING = 1
_SECCOMP_SET_MODE_FILTER = 1
_SECCOMP_FILTER_FLAG_NEW_LISTENER = 8
_AT_EACCESS = 0x200
_AT_FDCWD = -100
_X_OK = 1
#: The umask when ``process.user.umask`` is not given, as runc has it. Inheriting the caller's,
#: which for an engine's monitor is often 0, would make every file world-writable.
DEFAULT_UMASK = 0o022


class LastMile:
    """What one process asks for on its last mile, and how init gives it that."""

    __slots__ = (
        "capability_calls",
        "cpu_affinity",
        "dropped",
        "filter_early",
        "fork_pass",
        "gives_stdio",
        "hooks",
        "keep_groups",
        "keyring",
        "label_writes",
        "memory_policy",
        "no_new_privileges",
        "old_access_check",
        "personality",
        "process",
        "rlimits",
        "scheduler",
        "seccomp",
        "terminal",
    )

    def __init__(self, process: Process) -> None:
        self.process = process
        self.no_new_privileges = bool(process.get("noNewPrivileges"))
        #: The capabilities that leave the bounding set.
        self.dropped = 0
        #: Those before setresuid, and those after it.
        self.capability_calls: tuple[Sequence[Call], Sequence[Call]] = ((), ())
        #: (file below the process's own /proc directory, content): LSM labels.
        self.label_writes: Sequence[tuple[str, bytes]] = ()
        #: Name of the session keyring to join, or nothing to keep the caller's.
        self.keyring = ""
        self.seccomp: Filter | None = None
        #: Load the filter with the privileges dropped, not right before the program.
        self.filter_early = False
        #: What that filter lets the one fork through by that is still to come, or nothing.
        self.fork_pass = 0
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
        #: Whether init gives the user those of stdin, stdout and stderr that were left to it.
        self.gives_stdio = False
        #: startContainer hooks.
        self.hooks: Sequence[Hook] = ()
        #: Whether faccessat2(2) is refused here.
        self.old_access_check = False
        #: `run.oci.keep_original_groups`: leave the supplementary groups as the caller had them.
        self.keep_groups = False

    @property
    def notifies(self) -> bool:
        """Whether the filter comes with a listener, which the runtime collects."""
        return self.seccomp is not None and self.seccomp.notify

    @property
    def can_wait(self) -> bool:
        """Whether all of it is over before it must be known what is executed, and with what stdio.

        What comes after that is a session and the filter.
        """
        return not self.terminal and (self.seccomp is None or self._filters_last)

    def plan_fork(self, spec: Spec) -> None:
        """Have the filter let init's own fork through, though its rules may forbid forks."""
        if self.seccomp is None or self._filters_last:
            return
        from pyrunc.process import fork_pass

        if not fork_pass.lets_fork(spec["linux"]["seccomp"]):
            self.fork_pass = fork_pass.new()

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
            asked = content.decode("utf-8", "replace")
            label = f"write {asked!r} to {path} (is that profile, or policy, loaded?)"
            flags = posix.O_WRONLY | posix.O_CLOEXEC
            program.call(label, "openat", PROC, f"self/{path}", flags, store_in_next=True)
            program.call(label, "write", 0, program.blob(content), len(content))
        if self.label_writes:
            program.call("close the host's /proc", "close", PROC)

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

    def add_privileges(self, program: LaunchProgram) -> None:
        """Become the user, with the capabilities that the config gives."""
        process = self.process
        user = process.get("user") or {}
        uid, gid = ids.check(user.get("uid", 0), "uid"), ids.check(user.get("gid", 0), "gid")
        groups = [ids.check(number, "gid") for number in user.get("additionalGids") or ()]
        for descriptor in range(3) if self.gives_stdio else ():
            left = left_stdio(descriptor)
            doing = "give stdio to the user"
            program.call(doing, "fchown", descriptor, uid, -1, ignore=True, only=left)
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
            self._add_seccomp(program)
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
                self._add_seccomp(program)
                program.remark = ", with the filter of linux.seccomp in force"

    def add_cwd(self, program: LaunchProgram) -> None:
        """Enter the working directory as root of the container, if that may."""
        self._enter_cwd(program, CWD_BY_ROOT)
        self.add_cwd_check(program)

    def add_cwd_check(self, program: LaunchProgram) -> None:
        """Is the working directory, if root has entered it, inside its root (CVE-2024-21626)?"""
        self._check_cwd(program, CWD_BY_ROOT)

    def add_late_cwd(self, program: LaunchProgram) -> None:
        """As the user it will be: enter the working directory that root could not."""
        self._enter_cwd(program, CWD_BY_USER)
        self._check_cwd(program, CWD_BY_USER)

    def _enter_cwd(self, program: LaunchProgram, only: Late) -> None:
        doing = f"chdir to cwd ({self._cwd!r}) set in config.json"
        program.call(doing, "chdir", self._cwd, only=only)

    def _check_cwd(self, program: LaunchProgram, only: Late) -> None:
        program.check_cwd(f"find the cwd {self._cwd!r} inside the root file system", only)

    @property
    def _cwd(self) -> str:
        return self.process.get("cwd") or "/"

    def add_permission_check(self, program: LaunchProgram) -> None:
        """As the user it will be: may the program be executed? `start` would find out late."""
        label = f'exec: "{self.process["args"][0]}"'
        program.remark = ""
        if not self.old_access_check and (self.seccomp is None or self._filters_last):
            program.call(label, "faccessat2", _AT_FDCWD, PROGRAM, _X_OK, _AT_EACCESS)
            return
        # The filter in force, or one around us, may not know the call of Linux 5.8, or neither.
        # The old one answers without the capabilities that a user other than root may have.
        user = self.process.get("user") or {}
        effective = (self.process.get("capabilities") or {}).get("effective") or ()
        if not user.get("uid", 0) or "CAP_DAC_OVERRIDE" not in effective:
            arguments = (_AT_FDCWD, PROGRAM, _X_OK)
            program.call(label, "faccessat", *arguments, may_be_forbidden=True)

    def add_execution(
        self,
        program: LaunchProgram,
        announce_to: Descriptor | None = None,
        args: Late | None = None,
    ) -> None:
        """The startContainer hooks, the filter, the program.

        :param announce_to: takes EXECUTING right before the filter and the program, so that
            an init that was killed is not taken for one that executed the program.
        :param args: the program's arguments, if they are not known yet.
        """
        if self.hooks:
            self._add_hooks(program)
        if announce_to is not None:
            label = "tell that the program is executed"
            program.call(label, "write", announce_to, EXECUTING, len(EXECUTING))
        if self.seccomp and self._filters_last:
            self._add_seccomp(program)
        program.execute(("exec ", PROGRAM), PROGRAM, args or self.process["args"], ENVIRONMENT)

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
                ENVIRONMENT if environment is None else environment,
                HOOK_STDIN,
                HOOK_OUTPUT,
                timeout=hook.get("timeout") or 0,
                seccomp=seccomp,
            )

    def _add_seccomp(self, program: LaunchProgram) -> None:
        assert self.seccomp is not None
        label = "load the seccomp filter"
        arguments = (_SECCOMP_SET_MODE_FILTER, self.seccomp.flags)
        bpf = self.seccomp.bpf
        if self.fork_pass:
            from pyrunc.process.fork_pass import letting_through

            bpf = letting_through(bpf, self.fork_pass)
        filter_program = program.sock_fprog(bpf)
        # The filter may not let init tell the time.
        program.tell_no_more_times()
        if not self.seccomp.notify:
            program.call(label, "seccomp", *arguments, filter_program)
            return
        # The message is LISTENER, then the descriptor's number: the last byte of one
        # cell and the first four of the next.
        message = program.blob(LISTENER.rjust(8, b"\0") + bytes(8))
        program.call(label, "seccomp", *arguments, filter_program, store=message + 8)
        program.call("hand over the seccomp listener", "write", UP, message + 7, 5)
        program.await_byte("wait until the seccomp listener is taken", DOWN)
        # With it, whoever can trace this process could answer for the agent.
        program.call("close the seccomp listener", "close", message + 8, indirect=True)
