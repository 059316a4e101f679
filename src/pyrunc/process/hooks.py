"""Running the hooks of config.json (config.md, "POSIX-platform Hooks") from Python.

prestart, createRuntime, poststart and poststop run beside the runtime,
createContainer in the builder, with the host's root still in place.
startContainer hooks are init's: by then there is no Python in the container.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]
import posix
from errno import EINVAL, ENOSYS

from pyrunc.errors import Error, reason
from pyrunc.linux import files
from pyrunc.linux import processes as p
from pyrunc.linux.libc import cstring, syscall
from pyrunc.linux.numbers import SYS
from pyrunc.step import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyrunc.spec.types import Hook
    from pyrunc.step import Build

_MFD_CLOEXEC = 1
_CLOSE_RANGE_CLOEXEC = 4
_SIGNALS = tuple(s for s in range(1, 32) if s not in (9, 19))
#: Those that become an exception (container/interrupts.py).
_ENDING_SIGNALS = (p.SIGHUP, p.SIGINT, p.SIGTERM)
_OUTPUT_SHOWN = 4096


def run_hooks(kind: str, hooks: Sequence[Hook], state: bytes, container: int = -1) -> None:
    """Run ``hooks`` one after another with the state JSON on stdin.

    :param container: a pidfd; when that process dies a hook is not waited for any longer.
    :raises Error: at the first that fails; the rest are not run.
    """
    if hooks:
        _close_on_exec()
    for index, hook in enumerate(hooks):
        try:
            _run_hook(hook, state, container)
        except (OSError, Error) as error:
            raise Error(f"error running {kind} hook #{index}: {reason(error)}") from None


def _close_on_exec() -> None:
    """Keep from hooks whatever the caller has left open (Python's own descriptors are so already).

    Those of ``--preserve-fds`` are made inheritable again right before init.
    """
    try:
        syscall(SYS["close_range"], 3, 0xFFFFFFFF, _CLOSE_RANGE_CLOEXEC)
    except OSError as error:
        # Known since Linux 5.11.
        if error.errno not in (ENOSYS, EINVAL):
            raise
        for name in posix.listdir("/proc/self/fd"):
            descriptor = int(name)
            if descriptor > 2:
                try:
                    posix.set_inheritable(descriptor, False)
                except OSError:
                    # The one that listed the directory.
                    continue


def _run_hook(hook: Hook, state: bytes, container: int) -> None:
    # Memory files instead of pipes: a hook that does not read cannot block us,
    # nor can one that writes more than a pipe holds.
    stdin = memory_file("hook-stdin", state)
    output = memory_file("hook-output", b"")
    # A signal that ends the operation between the hook's birth and the wait for it would leave a
    # hook that nobody knows.
    mask = _signal.pthread_sigmask(_signal.SIG_BLOCK, _ENDING_SIGNALS)
    try:
        environment = dict(entry.partition("=")[::2] for entry in hook.get("env") or ())
        try:
            pid = posix.posix_spawn(
                hook["path"],
                hook.get("args") or [hook["path"]],
                environment,
                file_actions=[
                    (posix.POSIX_SPAWN_DUP2, stdin, 0),
                    (posix.POSIX_SPAWN_DUP2, output, 1),
                    (posix.POSIX_SPAWN_DUP2, output, 2),
                ],
                setpgroup=0,
                setsigmask=(),
                setsigdef=_SIGNALS,
            )
        except OSError as error:
            raise Error(f"{hook['path']}: {reason(error)}") from None
        status = _wait(pid, hook.get("timeout"), container, mask)
        if status:
            raise Error(f"{hook['path']}: {_ending(status)}{_said(output)}")
    finally:
        _signal.pthread_sigmask(_signal.SIG_SETMASK, mask)
        posix.close(stdin)
        posix.close(output)


def _wait(pid: int, timeout: int | None, container: int, mask: set[int]) -> int:
    """Wait for a hook and return its wait(2) status.

    Its group is killed after ``timeout`` seconds, when ``container`` dies, and when a
    signal ends the operation.

    :param mask: which signals are blocked from now on.
    """
    try:
        _signal.pthread_sigmask(_signal.SIG_SETMASK, mask)
        watched = [p.pidfd_open(pid)]
        try:
            if container >= 0:
                watched.append(container)
            ready = p.poll(tuple(watched), timeout or None)
        finally:
            posix.close(watched[0])
        if not ready:
            raise Error(f"timed out after {timeout} s and was killed")
        if watched[0] not in ready:
            raise Error("killed, since the container died meanwhile")
    except BaseException:
        posix.killpg(pid, p.SIGKILL)
        posix.waitpid(pid, 0)
        raise
    return posix.waitpid(pid, 0)[1]


def _ending(status: int) -> str:
    if posix.WIFSIGNALED(status):
        return f"killed by signal {posix.WTERMSIG(status)}"
    return f"exit status {posix.WEXITSTATUS(status)}"


def _said(output: int) -> str:
    """Return what the hook printed, shortened and in one line, for the error message."""
    text = posix.pread(output, _OUTPUT_SHOWN, 0).decode("utf-8", "replace")
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    return f", output: {'; '.join(lines)}" if lines else ""


def memory_file(name: str, content: bytes) -> int:
    """Return a descriptor (close-on-exec) of a memory file that holds ``content``, rewound."""
    descriptor = syscall(SYS["memfd_create"], cstring(name), _MFD_CLOEXEC)
    files.write_all(descriptor, content)
    posix.lseek(descriptor, 0, 0)
    return descriptor


class ContainerHooks(Step):
    """The createContainer hooks: the host's programs, the container's namespaces."""

    hooks: tuple[Hook, ...]
    #: The state JSON without a pid, ready to take one.
    state: bytes

    def describe(self) -> str:
        return f"run {len(self.hooks)} createContainer hook(s)"

    def apply(self, build: Build) -> None:
        run_hooks("createContainer", self.hooks, with_pid(self.state, posix.getpid()))


_PID_PLACE = b'"pid":0'


def with_pid(state: bytes, pid: int) -> bytes:
    """Return the compact state JSON with the pid as its reader sees it (runtime.md, "State")."""
    return state.replace(_PID_PLACE, b'"pid":%d' % pid, 1)
