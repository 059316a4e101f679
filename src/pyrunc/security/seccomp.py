"""The seccomp filter of a container: from the cache, or compiled when it is not there.

A section of config.json is compiled once per machine. This module and the cache's reading half
(:mod:`pyrunc.security.seccomp_cache`) are the fast part; compiling
(:mod:`pyrunc.security.seccomp_compile`) and storing (:mod:`pyrunc.security.seccomp_store`) are
imported only on a miss.
"""

from __future__ import annotations

from pyrunc.security.seccomp_cache import cache_key, look_up

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Filter:
    """A filter ready for seccomp(2).

    ``bpf`` is the array of struct sock_filter, ``flags`` are SECCOMP_FILTER_FLAG_* (with
    NEW_LISTENER when ``notify``); ``listener_path`` and ``metadata`` say where the descriptor of
    the notifications goes and what is told with it.
    """

    __slots__ = ("bpf", "flags", "listener_path", "metadata", "notify")

    def __init__(
        self,
        bpf: bytes,
        flags: int,
        notify: bool,
        listener_path: str | None = None,
        metadata: str | None = None,
    ) -> None:
        self.bpf = bpf
        self.flags = flags
        self.notify = notify
        self.listener_path = listener_path
        self.metadata = metadata


def filter_for(seccomp: dict[str, Any], cache_dir: str) -> Filter:
    """Return the filter that ``linux.seccomp`` asks for, if need be by compiling it.

    ``cache_dir`` is made (0700, but not its parent) when missing. One that others may write to,
    or that cannot be written to, costs time and nothing else.

    :raises pyrunc.errors.Error: when the filter cannot be built.
    """
    key = cache_key(seccomp)
    found = look_up(cache_dir, key)
    if found is None:
        from pyrunc.security import default_filter

        if seccomp == default_filter.section():
            return Filter(default_filter.assembled(), 0, notify=False)
        from pyrunc.security import known_filters, seccomp_compile, seccomp_store
        from pyrunc.security.libseccomp import LibraryMissing

        try:
            compiled = seccomp_compile.compile_filter(seccomp)
        except LibraryMissing:
            known = known_filters.find(key)
            if known is None:
                raise
            return Filter(*known, notify=False)
        found = compiled.bpf, compiled.flags, compiled.notify
        seccomp_store.store(cache_dir, key, compiled)
    bpf, flags, notify = found
    return Filter(bpf, flags, notify, seccomp.get("listenerPath"), seccomp.get("listenerMetadata"))
