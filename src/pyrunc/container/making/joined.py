"""Namespaces that a container is to join: opened, and told apart from the host's own.

A path says nothing: it may lead to the namespace that the runtime, or process 1, is in. What
needs a namespace of the container's own (sysctls, names, mounts) is then as if none was listed,
and would reach the host. Only loaded for a config with such paths.
"""

from __future__ import annotations

import posix

from pyrunc.errors import Error, InvalidConfig
from pyrunc.process.namespaces import is_current, open_namespace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.spec.types import Spec


def open_joined(spec: Spec, source: str) -> tuple[dict[str, int], frozenset[str]]:
    """Open what ``linux.namespaces`` gives by path.

    :param source: what the config is called in errors.
    :return: the descriptors to join, and the types of those that we are in already, which
        are the host's: the container has none of its own of these types.
    :raises Error: when one cannot be opened, or what the config asks for would reach the host.
    """
    opened: dict[str, int] = {}
    own: set[str] = set()
    try:
        for namespace in spec.get("linux", {}).get("namespaces", ()):
            kind, path = namespace["type"], namespace.get("path")
            if path:
                opened[kind] = open_namespace(kind, path)
                if is_current(kind, opened[kind]):
                    posix.close(opened.pop(kind))
                    own.add(kind)
        of_the_first = {kind for kind in opened if _is_of_the_first_process(kind, opened[kind])}
        if "mount" in of_the_first:
            raise Error("linux.namespaces: the mount namespace to join is the host's")
        _check_without(spec, own | of_the_first, source)
    except BaseException:
        for descriptor in opened.values():
            posix.close(descriptor)
        raise
    return opened, frozenset(own)


def _is_of_the_first_process(kind: str, descriptor: int) -> bool:
    try:
        return is_current(kind, descriptor, 1)
    except OSError:
        # Not ours to look at, and then not ours to join either.
        return False


def _check_without(spec: Spec, kinds: set[str], source: str) -> None:
    """See that the config asks for nothing that needs namespaces of these types.

    :raises InvalidConfig: with all that it asks for.
    """
    if not kinds:
        return
    from pyrunc.spec.config import lacking

    mistakes = lacking(spec, kinds)
    if mistakes:
        note = f"the host's own {' and '.join(sorted(kinds))} namespace in linux.namespaces"
        raise InvalidConfig(
            source, [(path, what, f"{is_} ({note})") for path, what, is_ in mistakes]
        )
