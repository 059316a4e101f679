"""An executor of :mod:`concurrent.futures` whose tasks each run in a container."""

from __future__ import annotations

import json
import os
import pickle
import sys
import sysconfig
from concurrent.futures import Executor as _Base
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from pyrunc.sandbox.errors import InvalidArgument, ProgramFailed
from pyrunc.sandbox.running import run
from pyrunc.sandbox.sizes import size
from pyrunc.sandbox.waiting import drive

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import ParamSpec, Unpack

    from pyrunc.sandbox.running import RunArguments

    P = ParamSpec("P")

T = TypeVar("T")

#: What runs in the container. Standard output is the answer's alone; what a task prints goes to
#: standard error. `codec` is "pickle" or "json".
_RUNNER = """
import os, pickle, sys
answer = os.dup(1)
os.dup2(2, 1)
sys.path[:], codec, task = pickle.load(sys.stdin.buffer)
try:
    import cloudpickle as dumper
except ImportError:
    dumper = pickle
try:
    function, args, kwargs = pickle.loads(task)
    value, kind = function(*args, **kwargs), b"R"
    if codec == "json":
        import json
        content = json.dumps(value).encode()
    else:
        content = dumper.dumps(value)
except BaseException as error:
    import traceback
    kind, text = b"E", "".join(traceback.format_exception(error))
    if codec == "json":
        import json
        content = json.dumps(text).encode()
    else:
        error.__traceback__ = None
        try:
            content = dumper.dumps((error, text))
            pickle.loads(content)
        except Exception:
            content = dumper.dumps((RuntimeError(text.splitlines()[-1]), text))
with open(answer, "wb") as file:
    file.write(kind + content)
"""


class RemoteTraceback(Exception):
    """The traceback of a task's exception, as text: its ``__cause__`` where it is raised again.

    >>> with pyrunc.Executor(1) as executor:
    ...     print(type(executor.submit(int, "x").exception().__cause__).__name__)
    RemoteTraceback
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text

    def __str__(self) -> str:
        return f"\n{self.text}"


class TaskFailed(ProgramFailed):
    """A task raised an exception, of which only the text is known (``results="json"``)."""

    code = "task-failed"


class Executor(_Base):
    """Runs functions in containers, each call in one of its own.

    >>> with pyrunc.Executor(memory="128M", timeout=5) as executor:
    ...     print(list(executor.map(abs, [-1, -2])))
    [1, 2]

    A call that uses up a limit raises what ``pyrunc.run(..., check=True)`` would; an exception of
    the function is raised as it is. Functions and arguments are pickled, by cloudpickle where that
    is installed (then also those of ``__main__``, and lambdas); the Python and the packages of
    this program are there in the container, read-only.

    With ``results="pickle"`` what comes back is unpickled in this program. That makes a task's
    process, whatever it has done, as trusted as this program: right for bounding your own code,
    wrong for code of strangers. For that take ``results="json"``, which gives back nothing but
    JSON's values, or :func:`pyrunc.run`.

    :param max_workers: how many run at a time; as many as there are processors.
    :param results: "pickle" or "json".
    :param result_size: the most bytes of a result.

    All others are those of :func:`pyrunc.run`.
    """

    def __init__(
        self,
        max_workers: int | None = None,
        *,
        results: Literal["pickle", "json"] = "pickle",
        result_size: int | str = "64M",
        **arguments: Unpack[RunArguments],
    ) -> None:
        if results not in ("pickle", "json"):
            raise InvalidArgument(f'results must be "pickle" or "json", not {results!r}')
        for name in ("input", "output", "stop_on_output", "check"):
            if name in arguments:
                raise InvalidArgument(f"{name} is the executor's own")
        self._codec = results
        self._result_size = size(result_size, "result_size")
        self._arguments = arguments
        workers = max_workers or len(os.sched_getaffinity(0))
        self._arguments.setdefault("pool", workers)
        self._arguments["binds"] = {**_python_s_own(), **(arguments.get("binds") or {})}
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="pyrunc-executor")

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Have ``fn(*args, **kwargs)`` called in a container.

        :raises pickle.PicklingError: (or TypeError, AttributeError) when that cannot be pickled.
        """
        task = _dumps((fn, args, kwargs))
        return self._threads.submit(self._call, task)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more; with ``wait``, return when the last one is done."""
        self._threads.shutdown(wait, cancel_futures=cancel_futures)

    def _call(self, task: bytes) -> Any:
        arguments: RunArguments = {
            **self._arguments,
            "input": pickle.dumps((sys.path, self._codec, task)),
            "output": self._result_size,
            "stop_on_output": True,
        }
        # -S: the paths come with the task.
        words = [_interpreter(), "-I", "-S", "-c", _RUNNER]
        result = drive(run(words, arguments, text=False))
        result.check()
        kind, content = result.stdout[:1], result.stdout[1:]
        if not kind:
            raise ProgramFailed("the task ended its process", result)
        value = json.loads(content) if self._codec == "json" else pickle.loads(content)
        if kind == b"R":
            return value
        if self._codec == "json":
            raise TaskFailed(str(value).strip().rpartition("\n")[2], result)
        error, text = value
        raise error from RemoteTraceback(text)


def _dumps(value: object) -> bytes:
    try:
        import cloudpickle  # type: ignore[import-not-found,import-untyped,unused-ignore]
    except ImportError:
        return pickle.dumps(value)
    dumped: bytes = cloudpickle.dumps(value)
    return dumped


def _interpreter() -> str:
    """Return the interpreter itself, not a virtual environment's link to it."""
    return os.path.realpath(sys.executable)


def _python_s_own() -> dict[str, str]:
    """Return what of the host a Python like this one takes: its directories beside /usr."""
    # The whole of it: its library (libpython3.so) and others lie beside its modules.
    own = {os.path.dirname(_interpreter()), sys.base_prefix, sys.base_exec_prefix}
    paths = {*own, *sysconfig.get_paths().values(), *sys.path}
    # An environment may be a link, or lie below one.
    paths |= {os.path.realpath(path) for path in paths if path}
    wanted = sorted(
        os.path.abspath(path)
        for path in paths
        if path and os.path.exists(path) and not f"{path}/".startswith(("/usr/", "/proc/", "/dev/"))
    )
    found: list[str] = []
    for path in wanted:
        # What lies below another is there with it.
        if path != "/" and not any(path.startswith(f"{above}/") for above in found):
            found.append(path)
    return {path: path for path in dict.fromkeys(found)}
