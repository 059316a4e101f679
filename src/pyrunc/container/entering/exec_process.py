"""What `exec` is to run: the container's own process with flags applied, or a file's."""

from __future__ import annotations

from pyrunc import ids
from pyrunc.errors import Error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pyrunc.spec.types import Process, Spec

#: What a process that does not name it has from the container's (so does runc).
_INHERITED = (
    "capabilities",
    "rlimits",
    "apparmorProfile",
    "selinuxLabel",
    "scheduler",
    "ioPriority",
    "execCPUAffinity",
    "oomScoreAdj",
)


_NOTHING: Process = {}  # type: ignore[typeddict-item]


class ExecOptions:
    """What `exec` can be told."""

    def __init__(
        self,
        *,
        args: Sequence[str] = (),
        process: Process | None = None,
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
        take_terminal: Callable[[int], None] | None = None,
    ) -> None:
        self.args = list(args)
        #: A whole process that was checked already, in place of all the flags about it.
        self.process = process
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
        #: Gets the terminal's master, and closes it.
        self.take_terminal = take_terminal


def process_of(spec: Spec, options: ExecOptions, notes: list[str]) -> Process:
    """Return the process to run: the file's, or the container's own with the flags applied.

    :param notes: takes a line for each thing in the file that deserves a warning.
    :raises Error: when an option holds what cannot be.
    """
    _check(options)
    if options.process is not None:
        return options.process
    container = spec.get("process") or _NOTHING
    if options.process_file:
        return _from_file(options.process_file, container, notes)
    process: Process = dict(container)  # type: ignore[assignment]
    process["args"] = options.args
    process["terminal"] = options.tty
    process["cwd"] = _checked_cwd(options.cwd) or process.get("cwd") or "/"
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
        user["uid"], gid = parse_user(options.user)
        if gid is not None:
            user["gid"] = gid
    if options.additional_gids:
        user["additionalGids"] = [*(user.get("additionalGids") or ()), *options.additional_gids]  # type: ignore[misc]
    process["user"] = user  # type: ignore[typeddict-item]
    if options.caps:
        sets = {k: list(v or ()) for k, v in (process.get("capabilities") or {}).items()}  # type: ignore[call-overload]
        for name in ("bounding", "effective", "permitted"):
            sets[name] = [*sets.get(name, []), *options.caps]
        # What is inheritable already comes through the execve of a user other than root, too.
        ambient = [name for name in options.caps if name in sets.get("inheritable", ())]
        if ambient:
            sets["ambient"] = [*sets.get("ambient", []), *ambient]
        process["capabilities"] = sets  # type: ignore[typeddict-item]
    return process


def passed_over(options: ExecOptions, process: Process) -> list[str]:
    """Return which options have no effect since ``--process`` says all about the process."""
    if not options.process_file:
        return []
    given = (
        ("--cwd", options.cwd),
        ("--env", options.env),
        # Engines give it along with a process that has a terminal.
        ("--tty", options.tty and not process.get("terminal")),
        ("--user", options.user),
        ("--additional-gids", options.additional_gids),
        ("--process-label", options.process_label),
        ("--apparmor", options.apparmor),
        ("--no-new-privs", options.no_new_privs and not process.get("noNewPrivileges")),
        ("--cap", options.caps),
        ("the command", options.args),
    )
    return [name for name, value in given if value]


def _from_file(path: str, container: Process, notes: list[str]) -> Process:
    from pyrunc.spec.load import load_process

    process = load_process(path, notes)
    for member in _INHERITED:
        if member not in process and member in container:
            process[member] = container[member]  # type: ignore[literal-required]
    umask = (container.get("user") or {}).get("umask")
    if umask is not None:
        user: dict[str, object] = {"umask": umask, **(process.get("user") or {})}
        process["user"] = user  # type: ignore[typeddict-item]
    return process


def _checked_cwd(cwd: str) -> str:
    if cwd and not cwd.startswith("/"):
        raise Error(f"exec failed: Cwd must be an absolute path, not {cwd!r}")
    return cwd


def parse_user(user: str) -> tuple[int, int | None]:
    """Return the ids of ``UID[:GID]``; names are the container's own affair.

    :raises Error: when they are no ids, with what is wrong.
    """
    found: list[int] = []
    for kind, text in zip(("uid", "gid"), user.split(":", 1), strict=False):
        try:
            found.append(ids.parse(text))
        except (OverflowError, ValueError) as error:
            why = "value out of range" if isinstance(error, OverflowError) else "not a number"
            raise Error(f"exec failed: parsing {text} as int for {kind} failed: {why}") from None
    return found[0], found[1] if len(found) == 2 else None


def _check(options: ExecOptions) -> None:
    """See that the program's strings can be passed to the kernel, and that ids are some."""
    options.additional_gids = [ids.check(gid, "additional gid") for gid in options.additional_gids]
    for what, texts in (
        ("args", options.args),
        ("env", options.env),
        ("cwd", (options.cwd,)),
        ("caps", options.caps),
        ("user", (options.user,)),
        ("process label", (options.process_label,)),
        ("AppArmor profile", (options.apparmor,)),
    ):
        for text in texts:
            if type(text) is not str or "\0" in text:
                raise Error(f"exec failed: {what}: expected text without NUL, found {text!r}")
