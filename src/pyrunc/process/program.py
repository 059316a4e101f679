"""Finding the program and entering the working directory, the way execvp(3) and chdir(2) would.

Done before start, so that `create` and `exec` fail with the reason, in the
words that engines turn into exit codes 126 and 127.
"""

from __future__ import annotations

import posix
from errno import EACCES, ELOOP, ENOENT, EPERM

from pyrunc.errors import ExecFailed, reason
from pyrunc.linux import files
from pyrunc.process.late import ENVIRONMENT, HOOK_OUTPUT, HOOK_STDIN, PROGRAM
from pyrunc.step import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyrunc.step import Build


#: No more of an /etc/passwd is read (bytes).
_MOST_OF_PASSWD = 1 << 22
#: /dev/null, which is everybody's (null(4)).
_NULL_DEVICE = posix.makedev(1, 3)


def find_program(root: int, name: str, env: Sequence[str], cwd: str) -> str:
    """Return the path to execute for ``args[0]`` inside the root ``root``.

    A name with a slash is taken as it is, any other searched in the process's PATH.

    :raises ExecFailed: with runc's words when there is nothing to execute.
    """
    if not name:
        raise ExecFailed('exec: "": executable file not found in $PATH')
    if "/" in name:
        problem = _why_not_executable(root, name, cwd)
        if problem:
            stat = f"stat {name}: " if problem == "no such file or directory" else ""
            raise ExecFailed(f'exec: "{name}": {stat}{problem}')
        return name
    path = ""
    for entry in env:
        if entry.startswith("PATH="):
            path = entry[5:]
    for directory in path.split(":"):
        # An empty or relative entry means the working directory: never searched, as in Go.
        if directory.startswith("/"):
            candidate = f"{directory.rstrip('/')}/{name}"
            if not _why_not_executable(root, candidate, cwd):
                return candidate
    raise ExecFailed(f'exec: "{name}": executable file not found in $PATH')


def with_home(root: int, env: list[str], uid: int, proc: int | None = None) -> list[str]:
    """Return ``env`` with HOME, taken from the container's /etc/passwd where it is unset or empty.

    "/" where the file does not know the user, as runc has it, or is none that can be read. Of
    several HOMEs the last one counts.

    :param proc: the host's procfs, where /proc is the container's.
    """
    given = [entry for entry in env if entry.startswith("HOME=")]
    if given and given[-1] != "HOME=":
        return env
    env = [entry for entry in env if not entry.startswith("HOME=")]
    try:
        passwd = files.read_in_root(root, "/etc/passwd", _MOST_OF_PASSWD, proc)
    except OSError:
        passwd = b""
    home = _home_in(passwd, uid).decode("utf-8", "surrogateescape")
    return [*env, f"HOME={home}"]


def _home_in(passwd: bytes, uid: int) -> bytes:
    """Return the sixth field of the user's line; the container may have written anything.

    Lines that do not name the number are never taken apart: a file of separators alone
    would fill memory with its fields.
    """
    number = b"%d" % uid
    at = passwd.find(b":%b:" % number)
    while at >= 0:
        start = passwd.rfind(b"\n", 0, at) + 1
        end = passwd.find(b"\n", at)
        fields = passwd[start : end if end >= 0 else None].split(b":", 6)
        # A zero byte would end the variable in the middle: that is no directory's name.
        if len(fields) >= 6 and fields[2] == number and fields[5] and b"\0" not in fields[5]:
            return fields[5]
        at = passwd.find(b":%b:" % number, end) if end >= 0 else -1
    return b"/"


def _why_not_executable(root: int, path: str, cwd: str) -> str:
    """Return why ``path`` cannot be executed as far as can be seen, or nothing."""
    inside = path if path.startswith("/") else f"{cwd}/{path}"
    try:
        program = files.open_in_root(root, inside)
    except OSError as error:
        return reason(error)
    mode = posix.stat(program).st_mode
    posix.close(program)
    if mode & files.S_IFMT == files.S_IFDIR:
        # What the kernel would say, too: engines know that one as 126.
        return "is a directory: permission denied"
    # execve(2) runs regular files alone.
    if mode & files.S_IFMT != files.S_IFREG or not mode & 0o111:
        return "permission denied"
    return ""


def can_enter(root: int, path: str) -> bool:
    """Tell whether this process, whoever it is, may enter the directory below ``root``.

    The user that the program will run as may or may not: either way it gets its working
    directory. Magic links of /proc are left for init to fail on (CVE-2024-21626).
    """
    try:
        directory = files.open_in_root(root, path, files.O_PATH | files.O_DIRECTORY)
    except OSError as error:
        return error.errno not in (EACCES, EPERM, ELOOP)
    try:
        return posix.access(f"/proc/self/fd/{directory}", posix.X_OK, effective_ids=True)
    finally:
        posix.close(directory)


class MakeWorkingDirectory(Step):
    """``process.cwd``, if it is missing: while the root and what is mounted can be written to."""

    path: str

    def describe(self) -> str:
        return f"make and chdir to cwd ({self.path!r}) set in config.json"

    def apply(self, build: Build) -> None:
        try:
            # Without ever following a magic link of /proc (CVE-2024-21626).
            flags = files.O_PATH | files.O_DIRECTORY
            posix.close(files.open_in_root(build.root, self.path, flags))
        except OSError as error:
            # What else is wrong with it is found out when it is entered.
            if error.errno == ENOENT:
                posix.close(files.ensure_directory(build.root, self.path))


class EnterWorkingDirectory(Step):
    """``process.cwd``: entered, and found to lie inside the root."""

    path: str

    def describe(self) -> str:
        return f"chdir to cwd ({self.path!r}) set in config.json"

    def apply(self, build: Build) -> None:
        if self.path in ("/", ""):
            build.entered_cwd = True
            return
        root = _open_own_root()
        try:
            directory = files.open_in_root(root, self.path, files.O_PATH | files.O_DIRECTORY)
            try:
                posix.fchdir(directory)
                build.entered_cwd = True
            except OSError as error:
                # The user that the process will be may be let in where root is not
                # (FUSE, NFS): init tries again as that user.
                if error.errno not in (EACCES, EPERM):
                    raise
            finally:
                posix.close(directory)
        finally:
            posix.close(root)


class FindProgram(Step):
    """Look for ``args[0]`` where the process will find it."""

    name: str
    environment: Sequence[str]
    cwd: str

    def describe(self) -> str:
        return f"find the program {self.name!r}"

    def apply(self, build: Build) -> None:
        root = _open_own_root()
        try:
            build.known[PROGRAM.name] = find_program(root, self.name, self.environment, self.cwd)
        finally:
            posix.close(root)


class CompleteEnvironment(Step):
    """Add HOME, and $LISTEN_PID (sd_listen_fds(3)) where descriptors are announced.

    ``listen_pid`` is the variable for a process whose pid is not known yet, or empty for the
    builder's own.
    """

    environment: Sequence[str]
    uid: int
    announced: bool
    listen_pid: str

    def describe(self) -> str:
        return f"find the home of user {self.uid}"

    def apply(self, build: Build) -> None:
        root = _open_own_root()
        try:
            environment = with_home(root, list(self.environment), self.uid, build.proc)
        finally:
            posix.close(root)
        if self.announced:
            environment = [e for e in environment if not e.startswith("LISTEN_PID=")]
            environment.append(self.listen_pid or f"LISTEN_PID={posix.getpid()}")
        build.known[ENVIRONMENT.name] = environment


class OpenHookFiles(Step):
    """Make what the startContainer hooks read their state from and print to.

    ``pid_place`` stands in ``state`` for the pid of the builder.
    """

    state: bytes
    pid_place: bytes

    def describe(self) -> str:
        return "open the files of the startContainer hooks"

    def apply(self, build: Build) -> None:
        state = self.state
        if self.pid_place:
            state = state.replace(self.pid_place, b"%d" % posix.getpid(), 1)
        build.known[HOOK_STDIN.name] = files.memory_file("hook-stdin", state)
        build.known[HOOK_OUTPUT.name] = files.memory_file("hook-output", b"")


def _open_own_root() -> int:
    return posix.open("/", files.O_PATH | files.O_DIRECTORY | files.O_CLOEXEC)


class GiveStdio(Step):
    """Make the container's user the owner of its stdin, stdout and stderr.

    A process that is not root can then open /dev/stdout again. /dev/null and
    what cannot be given away is left alone.
    """

    uid: int

    def describe(self) -> str:
        return f"give stdio to user {self.uid}"

    def apply(self, build: Build) -> None:
        give_stdio(self.uid)


def give_stdio(uid: int) -> list[int]:
    """Make ``uid``, as it is called here, the owner of what of stdin, stdout and stderr can be.

    Where the user namespace of a container is not in charge of them, it is the host's root that
    must do it. Returns what it could not give away.
    """
    left = []
    for descriptor in stdio_to_give(uid):
        try:
            posix.fchown(descriptor, uid, -1)
        except OSError:
            left.append(descriptor)
    return left


def stdio_to_give(uid: int) -> list[int]:
    """Return those of stdin, stdout and stderr that ``uid`` does not own and could."""
    wanted = []
    for descriptor in (0, 1, 2):
        try:
            status = posix.fstat(descriptor)
        except OSError:
            continue
        if status.st_uid != uid and status.st_rdev != _NULL_DEVICE:
            wanted.append(descriptor)
    return wanted
