"""Running the hooks of config.json (config.md, "POSIX-platform Hooks") from Python.

prestart, createRuntime, poststart and poststop run beside the runtime,
createContainer in the builder, with the host's root still in place.
startContainer hooks are init's: by then there is no Python in the container.
"""

from __future__ import annotations

import posix

from pyrunc.errors import Error, reason
from pyrunc.step import Step

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from pyrunc.process.guard import Signals
    from pyrunc.spec.types import Hook
    from pyrunc.step import Build


def run_hooks(
    kind: str,
    hooks: Sequence[Hook],
    state: bytes,
    container: int = -1,
    signals: Signals | None = None,
) -> None:
    """Run ``hooks`` one after another with the state JSON on stdin.

    :param container: a pidfd; when that process dies a hook is not waited for any longer.
    :param signals: where signals are blocked: what tells of one that wants us to end.
    :raises Error: at the first that fails; the rest are not run.
    """
    if not hooks:
        return
    from pyrunc.process.attributes import without_repetitions
    from pyrunc.process.guard import Failed, Program, run_in_turn

    programs = [
        Program(
            hook["path"],
            hook.get("args") or [hook["path"]],
            without_repetitions(hook.get("env") or ()),
            state,
            hook.get("timeout") or 0,
        )
        for hook in hooks
    ]
    try:
        run_in_turn(programs, container=container, signals=signals)
    except Failed as error:
        raise Error(f"error running {kind} hook #{error.index}: {error}") from None
    except OSError as error:
        raise Error(f"error running {kind} hooks: {reason(error)}") from None


class ContainerHooks(Step):
    """The createContainer hooks: the host's programs, the container's namespaces."""

    hooks: tuple[Hook, ...]
    #: The state JSON without a pid, ready to take one.
    state: bytes

    def describe(self) -> str:
        return f"run {len(self.hooks)} createContainer hook(s)"

    def apply(self, build: Build) -> None:
        run_hooks("createContainer", self.hooks, with_pid(self.state, posix.getpid()))


def container_hooks(hooks: Sequence[Hook], state: bytes) -> ContainerHooks:
    """Return the step that runs createContainer hooks, with all loaded that it needs."""
    import pyrunc.process.attributes
    import pyrunc.process.guard  # noqa: F401

    return ContainerHooks(tuple(hooks), state)


_PID_PLACE = b'"pid":0'


def with_pid(state: bytes, pid: int | str) -> bytes:
    """Return the compact state JSON with the pid as its reader sees it (runtime.md, "State")."""
    return state.replace(_PID_PLACE, f'"pid":{pid}'.encode(), 1)
