"""``pyrunc exec``: execute another program in a container."""

from __future__ import annotations

from pyrunc.errors import Error

from .create import CONSOLE_SOCKET, PID_FILE, PIDFD_SOCKET, PRESERVE_FDS, from_here

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.container.settings import Settings

    from .flags import Options, Table

FLAGS: Table = (
    CONSOLE_SOCKET,
    PIDFD_SOCKET,
    ("cwd", "str", "working directory in the container"),
    ("env,e", "list", "set NAME=VALUE in the environment; may be repeated"),
    ("tty,t", "bool", "give the program a terminal"),
    ("user,u", "str", "run as UID[:GID]"),
    ("additional-gids,g", "ids", "one more group id; may be repeated"),
    ("process,p", "str", "file with the JSON of the process, in place of COMMAND"),
    ("detach,d", "bool", "return once the program runs"),
    PID_FILE,
    ("process-label", "str", "SELinux label of the process"),
    ("apparmor", "str", "AppArmor profile of the process"),
    ("no-new-privs", "bool", "execve may give no privileges"),
    ("cap,c", "list", "add a capability; may be repeated"),
    PRESERVE_FDS,
    ("cgroup", "list", "run in this cgroup below the container's: [CONTROLLER:]PATH"),
    ("ignore-paused", "bool", "go ahead in a paused container"),
)
ARGUMENTS = (1, None)
FLAGS_ANYWHERE = False
# So that callers can tell it from what the program returned.
FAILURE = 255


def call(settings: Settings, options: Options, arguments: list[str]) -> int:
    """Execute the program and return its exit code, 0 when detached.

    :raises Error: when no program is given, or a value makes no sense.
    """
    container, *words = arguments
    if words[:1] == ["--"]:
        # What ends the options for most commands, and is no program for any.
        del words[0]
    if not words and not options["process"]:
        raise Error("exec failed: process args cannot be empty")
    if options["preserve_fds"] < 0:
        raise Error(f"invalid value for --preserve-fds: {options['preserve_fds']} is negative")
    from pyrunc.container.entering.exec_process import parse_user
    from pyrunc.container.entering.execute import ExecOptions, execute

    if options["user"]:
        parse_user(options["user"])

    return execute(
        settings,
        container,
        ExecOptions(
            args=words,
            process_file=from_here(options["process"]),
            cwd=options["cwd"],
            env=options["env"],
            tty=options["tty"],
            user=options["user"],
            additional_gids=options["additional_gids"],
            detach=options["detach"],
            pid_file=from_here(options["pid_file"]),
            process_label=options["process_label"],
            apparmor=options["apparmor"],
            no_new_privs=options["no_new_privs"],
            caps=options["cap"],
            preserve_fds=options["preserve_fds"],
            cgroups=options["cgroup"],
            ignore_paused=options["ignore_paused"],
            console_socket=from_here(options["console_socket"]),
            pidfd_socket=from_here(options["pidfd_socket"]),
        ),
    )
