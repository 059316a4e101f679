"""The seccomp agent's descriptor (config-linux.md, "The Container Process State")."""

from __future__ import annotations

import posix

from pyrunc.process.console import send_to_socket
from pyrunc.spec import json_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from pyrunc.spec.types import Spec


def send_listener(spec: Spec, pid: int, state: bytes, listener: int) -> None:
    """Send the listener of the process ``pid`` to ``listenerPath``, and close it.

    :param state: the container's state JSON.
    :raises Error: when nobody takes it.
    """
    seccomp = spec["linux"]["seccomp"]
    told = {
        "ociVersion": spec["ociVersion"],
        "fds": ["seccompFd"],
        "pid": pid,
        "metadata": seccomp.get("listenerMetadata", ""),
        "state": json_text.parse(state),
    }
    text = json_text.encode(told).encode()
    try:
        send_to_socket(seccomp.get("listenerPath", ""), listener, text, "the seccomp listener")
    finally:
        posix.close(listener)
