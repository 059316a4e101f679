"""The command: global options, the choice of the command's module, errors and exit codes.

A command module has

- ``FLAGS``: its flag table (:mod:`pyrunc.cli.flags`),
- ``ARGUMENTS``: how many arguments it takes, ``(least, most)``; ``most`` is
  None when there is no limit,
- ``call(settings, options, arguments) -> int``: do it, return the exit code,
- optionally ``FLAGS_ANYWHERE = False`` when what follows the container id
  belongs to another program, and ``FAILURE``, the exit code of its errors.

``options["global"]`` holds the global options.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import posix
import sys

from pyrunc.container.settings import Settings
from pyrunc.errors import Error, failure_of_the_machine, reason
from pyrunc.linux.process_stat import show_as
from pyrunc.snapshot.started import MAKING, MISSING, Started
from pyrunc.trace import OFF, Trace

from . import flags
from .commands import COMMANDS, FREQUENT, GLOBAL_FLAGS
from .log import Log

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import NoReturn

    from pyrunc.trace import NoTrace

_DEFAULT_ROOT = "/run/pyrunc"

_WHOLE_MACHINE = [b"0", b"0", b"4294967295"]


def main(argv: list[str] | None = None, told: str = "") -> NoReturn:
    """Run the command line ``argv`` (default: the process's) and end the process.

    ``told`` is what the launcher says of the start (:class:`Started`).
    """
    started = Started(told)
    if told and started.outcome != MAKING:
        # What the kernel shows of a start through the interpreter is the launcher's program.
        show_as(sys.argv)
    run(sys.argv[1:] if argv is None else argv, started)


def run(argv: list[str], started: Started) -> NoReturn:
    """Run a command line and end the process.

    The interpreter is not finalized: nothing is left to clean up, and it
    would cost a millisecond.
    """
    code = 1
    try:
        if not started.launcher:
            # Else the launcher has done it.
            _open_missing_stdio()
        _undo_the_callers_settings()
        code = invoke(argv, started)
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        if started.unknown and not code:
            from pyrunc.snapshot import footprint

            footprint.keep(started)
    except KeyboardInterrupt:
        code = 130
    except OSError:
        pass
    finally:
        posix._exit(code & 0xFF)


def invoke(argv: list[str], started: Started | None = None) -> int:
    """Run one command line and return its exit code; errors go to the log."""
    log = Log()
    try:
        return _run(argv, started or Started(), log)
    except KeyboardInterrupt:
        return 130
    except SystemExit as exit_:
        return exit_.code if isinstance(exit_.code, int) else 1
    except Error as error:
        log.error(str(error), error.lines)
    except BaseException as error:
        _report(log, "run pyrunc", error)
    return 1


def _run(argv: list[str], started: Started, log: Log) -> int:
    try:
        options, words = flags.parse(GLOBAL_FLAGS, argv, flags_anywhere=False)
    except flags.UsageError as error:
        return _misused("", f"Incorrect Usage. {error}", str(error), log)
    if options["help"] or (not words and not options["version"]):
        return _helped("")
    if options["version"]:
        from .version import show

        return show(started)
    log.configure(options["log"], options["log_format"], options["debug"])
    name = words[0]
    if name not in COMMANDS:
        from .text import visible

        log.error(f"No help topic for '{visible(name)}'")
        return 3
    options["started"] = started
    if started.outcome == MISSING and name in FREQUENT:
        from pyrunc.snapshot.make import by_the_way

        by_the_way(started)
    module = _module(COMMANDS[name])
    return _command(module, "help" if name == "h" else name, options, words[1:], log)


def _command(
    module: ModuleType, name: str, global_options: flags.Options, words: list[str], log: Log
) -> int:
    try:
        options, arguments = flags.parse(
            module.FLAGS, words, flags_anywhere=getattr(module, "FLAGS_ANYWHERE", True)
        )
    except flags.UsageError as error:
        return _misused(name, f"Incorrect Usage: {error}", str(error), log)
    if options["help"]:
        return _helped(name)
    least, most = module.ARGUMENTS
    if len(arguments) < least or (most is not None and len(arguments) > most):
        if least == most:
            wanted = f"exactly {least}"
        elif len(arguments) < least:
            wanted = f"a minimum of {least}"
        else:
            wanted = f"a maximum of {most}"
        message = f'pyrunc: "{name}" requires {wanted} argument(s)'
        return _misused(name, "Incorrect Usage.", message, log)
    options["global"] = global_options
    trace = OFF
    try:
        settings = _settings(global_options, log)
        trace = settings.trace
        log.debug(f"{name}: state root {settings.root}, rootless {settings.rootless}")
        code: int = module.call(settings, options, arguments)
        settings.trace.mark(f"rest of {name}")
    except Error as error:
        log.error(str(error), error.lines)
        return getattr(module, "FAILURE", 1)
    except Exception as error:
        about = f" container {arguments[0]}" if arguments and name != "list" else ""
        _report(log, f"{name}{about}", error)
        return getattr(module, "FAILURE", 1)
    finally:
        trace.close()
    return code


def _settings(options: flags.Options, log: Log) -> Settings:
    """Resolve the global options.

    :raises Error: when one has a value that makes no sense.
    """
    mapped = _in_user_namespace()
    unprivileged = posix.geteuid() != 0
    wanted = options["rootless"]
    if wanted in ("", "auto"):
        rootless = unprivileged or mapped
    else:
        try:
            rootless = flags.boolean(wanted)
        except ValueError:
            raise Error(f"invalid value for --rootless: {wanted}: not true, false, auto") from None
    manager = options["cgroup_manager"]
    if manager not in ("", "cgroupfs", "systemd", "disabled"):
        raise Error(f"invalid value for --cgroup-manager: {manager}")
    root = options["root"]
    if not root:
        root = _DEFAULT_ROOT
        environment = posix.environ
        runtime_directory = environment.get(b"XDG_RUNTIME_DIR", b"")
        # In a user namespace of the real root's own making, /run is its to write.
        if runtime_directory and (unprivileged or (mapped and environment.get(b"USER") != b"root")):
            root = runtime_directory.decode("utf-8", "surrogateescape") + "/pyrunc"
    if root != _DEFAULT_ROOT:
        from .paths import absolute

        root = absolute(root)
    return Settings(
        root,
        log,
        systemd_cgroup=options["systemd_cgroup"] or manager == "systemd",
        no_cgroups=manager == "disabled",
        rootless=rootless,
        trace=_trace(options["trace"], options["started"]),
    )


def _trace(path: str, started: Started) -> NoTrace:
    if not path:
        return OFF
    from pyrunc.linux.given_files import open_or_make

    try:
        descriptor = open_or_make(path, posix.O_WRONLY | posix.O_TRUNC | posix.O_APPEND)
        return Trace(descriptor, started.began)
    except OSError as error:
        raise Error(f"cannot write trace file {path}: {reason(error)}") from None


def _in_user_namespace() -> bool:
    """Tell whether fewer user ids than the machine's are mapped here (user_namespaces(7))."""
    try:
        descriptor = posix.open("/proc/self/uid_map", posix.O_RDONLY | posix.O_CLOEXEC)
    except OSError:
        return False
    try:
        # A mapping of the whole machine is 34 bytes long.
        return posix.read(descriptor, 64).split() != _WHOLE_MACHINE
    except OSError:
        return False
    finally:
        posix.close(descriptor)


def _open_missing_stdio() -> None:
    """Put /dev/null where stdin, stdout or stderr is closed.

    Otherwise the next file opened would become the standard output, and the
    container's.
    """
    for number in (0, 1, 2):
        try:
            posix.fstat(number)
        except OSError:
            opened = posix.open("/dev/null", posix.O_RDWR)
            posix.set_inheritable(opened, True)


def _undo_the_callers_settings() -> None:
    """Give what a process inherits, and what everything here relies on, its usual value.

    With SIGCHLD ignored the kernel collects children before we can (wait(2)), and their pids
    become another's. A blocked SIGTERM would leave no way to end us. Without the owner's bits
    in the umask we could not use what we make. Signals that are ignored otherwise stay so,
    for nohup(1). Programs get defaults from init (last_mile.py) and the guard of the hooks.
    """
    # Always: what Python believes of it may be what the process of its snapshot inherited.
    _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
    posix.umask(posix.umask(0o022) & 0o077)


def _module(name: str) -> ModuleType:
    full = f"pyrunc.cli.{name}"
    __import__(full)
    return sys.modules[full]


def _helped(name: str) -> int:
    from . import help as help_
    from .output import write

    write(help_.text(name))
    return 0


def _misused(name: str, heading: str, message: str, log: Log) -> int:
    """Print what was wrong with the help, log it, and return the exit code."""
    from . import help as help_
    from .output import write
    from .text import visible

    write(f"{visible(heading)}\n\n{help_.text(name)}")
    log.error(message)
    return 1


def _report(log: Log, doing: str, error: BaseException) -> None:
    """Log an error that nobody had words for: the machine's, or a bug."""
    kind = type(error).__name__
    where = getattr(error, "filename", None)
    about = f": {where!r}" if where is not None else ""
    try:
        if log.debugging:
            from traceback import format_exception

            # First, as engines show the last line of the log.
            log.debug("".join(format_exception(error)).rstrip("\n"))
        if why := failure_of_the_machine(error):
            log.error(f"cannot {doing}: {_one_line(why)}")
        else:
            log.error(f"internal error: {kind}: {_one_line(reason(error))}{about}: please report")
    except Exception:
        log.error(f"internal error: {kind}: please report")


def _one_line(text: str) -> str:
    return " ".join(text.split("\n"))
