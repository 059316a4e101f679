"""The help texts, in the shape that users of runc know; ``pyrunc help [COMMAND]``.

Loaded only when help is shown. The flags come from the commands' own tables.
"""

from __future__ import annotations

from pyrunc.errors import Error

from . import flags
from .commands import COMMANDS, GLOBAL_FLAGS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.container.settings import Settings

FLAGS: flags.Table = ()
ARGUMENTS = (0, 1)

ABOUT = """\
pyrunc runs containers from OCI bundles. A bundle is a directory that holds a
config.json, which says how the container is to be made, and the files the
container sees as its root. pyrunc stays no longer than it is needed: the
container becomes a child of whoever called, and its state is kept on disk.

To run the bundle in the current directory as a container named web:

    # pyrunc run web
"""

# Command -> (what it does in a line, what follows its name, the story).
TOPICS = {
    "checkpoint": (
        "save the state of a running container to disk",
        "[command options] CONTAINER-ID",
        "Has CRIU write images of the container's processes, with which `pyrunc restore`\n"
        "brings them back. The container ends, unless it is asked to go on. It needs root,\n"
        "and criu in $PATH. What cannot be saved is named before anything is stopped.\n"
        "Whoever can write images can do what root can: keep them accordingly.",
    ),
    "create": (
        "create a container, ready to start",
        "[command options] CONTAINER-ID",
        "Makes the container of a bundle: its namespaces, cgroup, mounts and first process,\n"
        "which then waits. `pyrunc start` lets it execute the program that config.json\n"
        "names under process.args. CONTAINER-ID is yours to choose: letters, digits and\n"
        "_ + - . that no other container under the same --root has.",
    ),
    "delete": (
        "delete a container that has stopped",
        "[command options] CONTAINER-ID",
        "Removes the container's cgroup and state, and runs its poststop hooks. A container\n"
        "that was created and never started is killed first; one that runs only with\n"
        "--force, which also clears up whatever a failed create may have left.",
    ),
    "events": (
        "show a container's statistics and out-of-memory events",
        "[command options] CONTAINER-ID",
        "Prints a line of JSON with the use of processor, memory, I/O and process ids at\n"
        "each interval, and one when the kernel killed a process for want of memory, until\n"
        "the container ends.",
    ),
    "exec": (
        "execute another program in a running container",
        "[command options] CONTAINER-ID COMMAND [ARGUMENT...]\n"
        "   pyrunc exec [command options] --process FILE CONTAINER-ID",
        "The program gets the user, environment, directory and limits of the container's\n"
        "own process, except where options or the process file say otherwise. The exit\n"
        "code is the program's, or 255 when it could not be executed. All that follows\n"
        "the container's id belongs to the program.",
    ),
    "features": (
        "show what this runtime and this machine can do",
        "[command options]",
        "Prints, as JSON, the features structure of the OCI runtime specification: the\n"
        "namespaces, capabilities, mount options, hooks and so on that are understood.",
    ),
    "help": ("show the commands, or the help of one", "[COMMAND]", ""),
    "kill": (
        "send a signal to a container's first process",
        "[command options] CONTAINER-ID [SIGNAL]",
        "SIGNAL is a number or a name, with or without SIG; TERM when it is left out.\n\n"
        "    # pyrunc kill web HUP",
    ),
    "list": (
        "list the containers",
        "[command options]",
        "Lists the containers whose state lies under the directory of the global option\n--root.",
    ),
    "pause": (
        "suspend all processes of a container",
        "[command options] CONTAINER-ID",
        "The processes stop where they are and know nothing of it; `pyrunc resume` lets\n"
        "them go on.",
    ),
    "ps": (
        "show the processes of a container",
        "[command options] CONTAINER-ID [PS-OPTION...]",
        "Runs ps(1) with the options given, -ef if there are none, and shows the lines of\n"
        "the container's processes. Process ids are those of the host. All that follows\n"
        "the container's id is for ps.",
    ),
    "restore": (
        "bring back a container from a checkpoint",
        "[command options] CONTAINER-ID",
        "Makes the container of the bundle again and fills it with the processes that\n"
        "`pyrunc checkpoint` saved. The id may be another, and so may the bundle, if its\n"
        "config has the same namespaces and mount points and its root file system the\n"
        "files that were open.",
    ),
    "resume": (
        "let the processes of a paused container go on",
        "[command options] CONTAINER-ID",
        "Undoes `pyrunc pause`.",
    ),
    "run": (
        "create and start a container",
        "[command options] CONTAINER-ID",
        "Does what create and start do; then, unless --detach is given, waits for the\n"
        "program, passes signals on to it, deletes the container, and exits as the\n"
        "program did.",
    ),
    "spec": (
        "write a config.json to begin with",
        "[command options]",
        "The configuration starts `sh` on a terminal, in a read-only root taken from the\n"
        "bundle's directory rootfs. It is meant to be edited; a config.json that is\n"
        "already there is left alone.",
    ),
    "start": (
        "start the program of a created container",
        "[command options] CONTAINER-ID",
        "Returns once the program has been executed, or says why it could not be.\n"
        "When a startContainer or poststart hook fails, the container is deleted.",
    ),
    "state": (
        "show the state of a container",
        "[command options] CONTAINER-ID",
        "Prints JSON: id, status, process id, bundle and annotations, as the OCI runtime\n"
        "specification defines them, with the root, the time of creation and the owner.",
    ),
    "update": (
        "change the resource limits of a container",
        "[command options] CONTAINER-ID",
        "What is not mentioned stays as it is. With --resources, the file holds JSON like\n"
        "the member linux.resources of config.json, for example\n\n"
        '    {"memory": {"limit": 268435456}, "cpu": {"quota": 50000, "period": 100000}}\n\n'
        "and all other options are ignored. Sizes may end in k, m, g, t or p, for powers\n"
        "of 1024.",
    ),
    "warm-up": (
        "make the snapshot that commands start from",
        "[command options]",
        "Makes a copy of an interpreter that has been initialised, for the commands to come,\n"
        "and prints its path; does nothing where there is one that fits. The first command\n"
        "would do the same, in about 0.1 s. What failed before is tried again. See\n"
        "docs/snapshot.md; PYRUNC_SNAPSHOT=0 in the environment, or a file\n"
        "/etc/pyrunc/no-snapshot, switches snapshots off.",
    ),
}


def call(settings: Settings, options: flags.Options, arguments: list[str]) -> int:
    """Print the help of a command, or of all, and return 0; 3 for an unknown one."""
    from .output import write

    name = arguments[0] if arguments else ""
    if name == "h":
        name = "help"
    if name and name not in TOPICS:
        from .log import Log
        from .text import visible

        assert isinstance(settings.log, Log)
        settings.log.error(f"No help topic for '{visible(name)}'")
        return 3
    write(text(name))
    return 0


def text(name: str) -> str:
    """Return the help of command ``name``, or of pyrunc itself when it is empty."""
    return _command(name) if name else _general()


def _general() -> str:
    from .version import lines

    width = max(map(len, TOPICS)) + 2
    commands = "".join(f"   {name:<{width}}{TOPICS[name][0]}\n" for name in TOPICS)
    version = "\n".join(lines()).removeprefix("pyrunc version ")
    return (
        "NAME:\n   pyrunc - Open Container Initiative runtime\n\n"
        f"{ABOUT}\n"
        "USAGE:\n   pyrunc [global options] command [command options] [arguments...]\n\n"
        f"VERSION:\n   {version}\n\n"
        f"COMMANDS:\n{commands}\n"
        f"GLOBAL OPTIONS:\n{_options((*GLOBAL_FLAGS, flags.HELP))}"
    )


def _command(name: str) -> str:
    summary, usage, story = TOPICS[name]
    described = f"\nDESCRIPTION:\n   {story}\n" if story else ""
    table = (*module_flags(name), flags.HELP)
    return (
        f"NAME:\n   pyrunc {name} - {summary}\n\n"
        f"USAGE:\n   pyrunc {name} {usage}\n"
        f"{described}"
        f"\nOPTIONS:\n{_options(table)}"
    )


def module_flags(name: str) -> flags.Table:
    """Return the flag table of command ``name``.

    :raises Error: when there is no such command.
    """
    import importlib

    if name not in COMMANDS:
        raise Error(f"No help topic for '{name}'")
    table: flags.Table = importlib.import_module(f"pyrunc.cli.{COMMANDS[name]}").FLAGS
    return table


def spelled(flag: flags.Flag) -> str:
    """Return how a flag is typed: ``--bundle value, -b value``."""
    value = "" if flag[1] == "bool" else " value"
    return ", ".join(
        f"{'--' if len(name) > 1 else '-'}{name}{value}" for name in flag[0].split(",")
    )


def default(flag: flags.Flag) -> str:
    """Return the note on a flag's value when it is left out, or nothing."""
    if len(flag) < 4 or flag[3] in ("", None):
        return ""
    value = flag[3]
    if flag[1] == "duration":
        return f" (default: {value:g}s)"
    return f' (default: "{value}")' if isinstance(value, str) else f" (default: {value})"


def _options(table: flags.Table) -> str:
    width = max(len(spelled(flag)) for flag in table) + 2
    return "".join(f"   {spelled(flag):<{width}}{flag[2]}{default(flag)}\n" for flag in table)
