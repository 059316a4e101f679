"""`exec`: one more process in a container that runs.

No Python ever runs inside the container. The runtime looks everything up from
outside, through descriptors of the container's root; a child of it becomes
init at once, in the host's namespaces, and init enters the container, drops
what it must not have, and only then shows itself in the container's pid
namespace.
"""

from __future__ import annotations

import posix
from _struct import unpack

from pyrunc.container import state as states
from pyrunc.container.create import describe_failure, write_pid_file
from pyrunc.container.store import Store
from pyrunc.errors import Error, WrongStatus, reason
from pyrunc.linux import files, sockets
from pyrunc.linux import processes as p
from pyrunc.process import channel
from pyrunc.process.console import open_terminal, set_window_size
from pyrunc.process.last_mile import LastMile
from pyrunc.process.launch import LaunchProgram, parse_failure
from pyrunc.process.namespaces import FILES, FLAGS
from pyrunc.process.program import find_program, with_home
from pyrunc.process.seal import launch_fd, sealed_init
from pyrunc.security import capabilities

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyrunc.container.settings import Settings
    from pyrunc.container.store import Entry, Record
    from pyrunc.spec.types import Process, Spec

_SIGNALS = tuple(s for s in range(1, 32) if s not in (9, 19))


class ExecOptions:
    """What `exec` can be told."""

    def __init__(
        self,
        *,
        args: Sequence[str] = (),
        process_file: str = "",
        cwd: str = "",
        env: Sequence[str] = (),
        tty: bool = False,
        user: str = "",
        additional_gids: Sequence[int] = (),
        detach: bool = False,
        pid_file: str = "",
        process_label: str = "",
        apparmor: str = "",
        no_new_privs: bool = False,
        caps: Sequence[str] = (),
        preserve_fds: int = 0,
        cgroups: Sequence[str] = (),
        ignore_paused: bool = False,
        console_socket: str = "",
        pidfd_socket: str = "",
    ) -> None:
        self.args = list(args)
        #: A process object in JSON, in place of all the flags about the process.
        self.process_file = process_file
        self.cwd = cwd
        self.env = list(env)
        self.tty = tty
        #: ``UID`` or ``UID:GID``, numbers.
        self.user = user
        self.additional_gids = list(additional_gids)
        self.detach = detach
        self.pid_file = pid_file
        self.process_label = process_label
        self.apparmor = apparmor
        self.no_new_privs = no_new_privs
        self.caps = list(caps)
        self.preserve_fds = preserve_fds
        #: Sub-cgroups, ``[CONTROLLER[,CONTROLLER]:]PATH``.
        self.cgroups = list(cgroups)
        self.ignore_paused = ignore_paused
        self.console_socket = console_socket
        self.pidfd_socket = pidfd_socket


def execute(settings: Settings, container_id: str, options: ExecOptions) -> int:
    """Run a process in the container; return its exit status, or 0 when detached.

    :raises WrongStatus: when the container is stopped or paused.
    :raises pyrunc.errors.ExecFailed: when there is no such program.
    """
    entry = Store(settings.root).open(container_id)
    execution = None
    try:
        record = entry.load()
        _check_status(entry, record, options)
        execution = _Execution(settings, entry, record, options)
        return execution.carry_out()
    finally:
        if execution is not None:
            execution.close()
        entry.close()


def _check_status(entry: Entry, record: Record, options: ExecOptions) -> None:
    status = states.status_of(entry, record)
    if status == states.STOPPED:
        raise WrongStatus("cannot exec in a stopped container")
    if status == states.CREATING:
        raise WrongStatus("cannot exec in a container that is still being created")
    if status == states.PAUSED and not options.ignore_paused:
        raise WrongStatus("cannot exec in a paused container")


class _Execution:
    """One process on its way into a container."""

    def __init__(
        self, settings: Settings, entry: Entry, record: Record, options: ExecOptions
    ) -> None:
        self.settings = settings
        self.entry = entry
        self.record = record
        self.options = options
        self._descriptors: list[int] = []
        self.spec = entry.load_config()
        self.process = process_of(self.spec, options)
        _check_terminal(self.process, options)
        self.pidfd = self._keep(p.open_process(record["pid"], record["startTime"]))
        if self.pidfd < 0:
            raise WrongStatus("cannot exec in a stopped container")
        directory = files.O_PATH | files.O_DIRECTORY | files.O_CLOEXEC
        self.root = self._keep(posix.open(f"/proc/{record['pid']}/root", directory))
        self.namespaces = _differing_namespaces(record["pid"])
        if not p.is_running(record["pid"], record["startTime"]):
            # What was opened by number could be another process's.
            raise WrongStatus("cannot exec in a stopped container")

    def _keep(self, descriptor: int) -> int:
        if descriptor >= 0:
            self._descriptors.append(descriptor)
        return descriptor

    def close(self) -> None:
        """Close everything that was opened on the way."""
        for descriptor in self._descriptors:
            posix.close(descriptor)

    def carry_out(self) -> int:
        options = self.options
        if options.detach:
            pid, _, _ = self._spawn()
            self._announce(pid)
            return 0
        from pyrunc.process.relay import Relay

        with Relay() as relay:
            pid, pidfd, master = self._spawn()
            self._announce(pid)
            return relay.wait(pid, pidfd, master)

    def _spawn(self) -> tuple[int, int, int]:
        """Return pid and pidfd of the process, which runs the program by now, and its terminal."""
        up, up_write = posix.pipe2(files.O_CLOEXEC)
        down_read, down = posix.pipe2(files.O_CLOEXEC)
        self._descriptors += [up, down]
        master = slave = -1
        inherited = [up_write, down_read]
        try:
            if self.process.get("terminal"):
                master, slave = self._open_terminal()
            program = self._launch_program(up_write, down_read)
            inherited.append(program)
            for descriptor in (up_write, down_read, program, self.pidfd):
                posix.set_inheritable(descriptor, True)
            init = self._keep(sealed_init())
            stage = posix.posix_spawn(
                f"/proc/self/fd/{init}",
                ["pyrunc-init", str(program)],
                {},
                file_actions=[(posix.POSIX_SPAWN_DUP2, slave, n) for n in (0, 1, 2)]
                if slave >= 0
                else [],
                setsigmask=(),
                setsigdef=_SIGNALS,
            )
        finally:
            for descriptor in (*inherited, slave):
                if descriptor >= 0:
                    posix.close(descriptor)
        if master >= 0:
            master = self._hand_over_terminal(master)
        self._attach(stage)
        posix.write(down, channel.GO_ON)
        pid = self._follow(stage, up)
        return pid, self._keep(p.pidfd_open(pid)), master

    def _follow(self, stage: int, up: int) -> int:
        """Wait until the program is executed; return its pid."""
        pid = stage
        message = posix.read(up, 4096)
        if message and parse_failure(message) is None:
            # The stage has brought forth the process, our child as well, and ends.
            pid = unpack("=i", message[:4])[0]
            posix.waitpid(stage, 0)
            message = message[4:] or posix.read(up, 4096)
        if message:
            posix.waitpid(pid, 0)
            failure = parse_failure(message)
            detail = describe_failure(failure) if failure else "init died"
            raise Error(f"exec failed: unable to start container process: {detail}")
        return pid

    def _launch_program(self, up: int, down: int) -> int:
        last_mile = self._last_mile()
        launch = LaunchProgram(up)
        launch.call("become undumpable", "prctl", p.PR_SET_DUMPABLE, 0, 0, 0, 0)
        launch.await_byte("wait to be in the container's cgroup", down)
        flags = 0
        for kind in self.namespaces:
            flags |= FLAGS[kind]
        if flags:
            launch.call("join the container's namespaces", "setns", self.pidfd, flags)
        last_mile.add_preparation(launch)
        last_mile.add_privileges(launch)
        if "pid" in self.namespaces:
            launch.spawn("enter the container's pid namespace", up)
        last_mile.add_session(launch)
        last_mile.add_checks(launch)
        launch.cloexec_from(3 + last_mile.preserved)
        for descriptor in range(3, 3 + last_mile.preserved):
            launch.call(f"keep descriptor {descriptor}", "fcntl", descriptor, 2, 0)
        last_mile.add_execution(launch)
        return launch_fd(launch.encode())

    def _last_mile(self) -> LastMile:
        process = self.process
        uid = (process.get("user") or {}).get("uid", 0)
        environment = with_home(self.root, list(process.get("env") or ()), uid)
        program = find_program(self.root, process["args"][0], environment, process["cwd"])
        last_mile = LastMile(process, program, environment)
        has, last = capabilities.own()
        if "user" in self.namespaces:
            has = capabilities.full(last)
        sets, warnings = capabilities.wanted(process.get("capabilities"), has, last)
        for warning in warnings:
            self.settings.log.warn(warning)
        if note := capabilities.ambient_not_raised(process.get("capabilities"), sets):
            self.settings.log.debug(note)
        last_mile.capability_calls = capabilities.capability_calls(sets, has, last)
        linux = self.spec.get("linux", {})
        if linux.get("seccomp"):
            from pyrunc.security.seccomp import filter_for

            cache = Store(self.settings.root).shared_directory("seccomp")
            last_mile.seccomp = filter_for(linux["seccomp"], cache)  # type: ignore[arg-type]
        if process.get("apparmorProfile") or process.get("selinuxLabel"):
            from pyrunc.security import lsm

            last_mile.label_writes = lsm.exec_labels(
                process.get("apparmorProfile", ""), process.get("selinuxLabel", "")
            )
        last_mile.keyring = f"_ses.{self.entry.id}"
        last_mile.personality = linux.get("personality")
        last_mile.cpu_affinity = (process.get("execCPUAffinity") or {}).get("final", "")
        last_mile.preserved = self.options.preserve_fds
        # With CAP_SYS_PTRACE the container could seize a process that shows itself without
        # its filter, and be rid of the filter: it is loaded before that.
        last_mile.filter_early = bool(sets.bounding & capabilities.SYS_PTRACE)
        return last_mile

    def _open_terminal(self) -> tuple[int, int]:
        master, slave = open_terminal(self.root)
        size = self.process.get("consoleSize") or {}
        if size.get("height") or size.get("width"):
            set_window_size(master, size.get("height", 0), size.get("width", 0))
        return master, slave

    def _hand_over_terminal(self, master: int) -> int:
        """Send the terminal to whoever asked for it; return it when that is our own caller."""
        path = self.options.console_socket
        if not path:
            return self._keep(master)
        try:
            socket = sockets.connect_unix(path)
            sockets.send_descriptor(socket, master, b"/dev/ptmx")
            posix.close(socket)
        except OSError as error:
            raise Error(f"cannot send the terminal to console socket {path}: {reason(error)}") from None
        finally:
            posix.close(master)
        return -1

    def _attach(self, pid: int) -> None:
        from pyrunc.cgroups.driver import from_state

        saved = self.record.get("cgroup")
        if not saved:
            return
        try:
            from_state(saved).attach(pid)
        except (OSError, Error):
            posix.kill(pid, p.SIGKILL)
            posix.waitpid(pid, 0)
            raise

    def _announce(self, pid: int) -> None:
        options = self.options
        if options.pidfd_socket:
            pidfd = p.pidfd_open(pid)
            socket = sockets.connect_unix(options.pidfd_socket)
            sockets.send_descriptor(socket, pidfd, b"pidfd")
            posix.close(socket)
            posix.close(pidfd)
        if options.pid_file:
            write_pid_file(options.pid_file, pid)


def process_of(spec: Spec, options: ExecOptions) -> Process:
    """Return the process to run: the file's, or the container's own with the flags applied."""
    if options.process_file:
        from pyrunc.spec.load import load_process

        return load_process(options.process_file)
    container = spec.get("process")
    process: Process = dict(container) if container else {}  # type: ignore[assignment]
    process["args"] = options.args
    process["terminal"] = options.tty
    process["cwd"] = options.cwd or process.get("cwd") or "/"
    process["env"] = [*(process.get("env") or ()), *options.env]
    process.pop("consoleSize", None)
    if options.apparmor:
        process["apparmorProfile"] = options.apparmor
    if options.process_label:
        process["selinuxLabel"] = options.process_label
    if options.no_new_privs:
        process["noNewPrivileges"] = True
    user = dict(process.get("user") or {"uid": 0, "gid": 0})
    if options.user:
        uid, _, gid = options.user.partition(":")
        try:
            user["uid"] = int(uid)
            user["gid"] = int(gid) if gid else user.get("gid", 0)
        except ValueError:
            raise Error(
                f"invalid user {options.user!r}: expected UID or UID:GID in numbers"
            ) from None
    if options.additional_gids:
        user["additionalGids"] = [*(user.get("additionalGids") or ()), *options.additional_gids]  # type: ignore[misc]
    process["user"] = user  # type: ignore[typeddict-item]
    if options.caps:
        sets = {k: list(v or ()) for k, v in (process.get("capabilities") or {}).items()}  # type: ignore[call-overload]
        for name in ("bounding", "effective", "permitted"):
            sets[name] = [*sets.get(name, []), *options.caps]
        process["capabilities"] = sets  # type: ignore[typeddict-item]
    return process


def _check_terminal(process: Process, options: ExecOptions) -> None:
    terminal = bool(process.get("terminal"))
    if terminal and options.detach and not options.console_socket:
        raise Error(
            "cannot allocate tty if pyrunc will detach without setting console socket; "
            "give --console-socket"
        )
    if options.console_socket and not (terminal and options.detach):
        raise Error(
            "cannot use console socket if pyrunc will not detach or allocate tty; "
            "leave --console-socket out, or ask for a terminal and --detach"
        )


def _differing_namespaces(pid: int) -> tuple[str, ...]:
    """Return the types of namespace in which the process ``pid`` is elsewhere than we."""
    differing = []
    for kind, name in FILES.items():
        try:
            there = posix.stat(f"/proc/{pid}/ns/{name}")
            here = posix.stat(f"/proc/self/ns/{name}")
        except FileNotFoundError:
            # A kernel without this type.
            continue
        except OSError as error:
            raise Error(f"cannot see the container's namespaces: {reason(error)}") from None
        if there.st_ino != here.st_ino:
            differing.append(kind)
    return tuple(differing)
