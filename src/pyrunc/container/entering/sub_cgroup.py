"""`exec --cgroup`: cgroups below the container's for one process."""

from __future__ import annotations

from pyrunc.errors import Error
from pyrunc.linux.files import clean_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def below(paths: Mapping[str, str], wanted: Sequence[str]) -> dict[str, str]:
    """Return the cgroup of each controller, with ``[CONTROLLER[,CONTROLLER]:]PATH`` applied.

    :param paths: the container's cgroups by controller; on v2 one, named "".
    :raises Error: ``bad sub cgroup path`` when one leads out of the container's.
    """
    chosen = dict(paths)
    named: set[str] = set()
    for argument in wanted:
        controllers, colon, sub = argument.rpartition(":")
        if not colon:
            if len(wanted) > 1:
                raise Error(f"invalid --cgroup argument: {argument} (missing <controller>: prefix)")
            return {name: _joined(path, sub) for name, path in paths.items()}
        for controller in controllers.split(","):
            if not controller or ":" in controller:
                raise Error(f"invalid --cgroup argument: {argument} (no such <controller> prefix)")
            if controller in named:
                raise Error(
                    f"invalid --cgroup argument(s): controller {controller} specified "
                    "multiple times"
                )
            if controller not in paths:
                raise Error(f"unknown controller {controller} in --cgroup {argument}")
            named.add(controller)
            chosen[controller] = _joined(paths[controller], sub)
    return chosen


def _joined(path: str, sub: str) -> str:
    joined = clean_path(f"{path}/{sub}")
    if joined != path and not joined.startswith(f"{path}/"):
        raise Error(f"bad sub cgroup path: {sub}")
    return joined
