"""RFC 3339 times with nanoseconds, without ``datetime`` (1 ms at import)."""

from __future__ import annotations

import time


def now() -> str:
    """Return the current time in UTC as Go's RFC3339Nano writes it: no zeros at the end."""
    nanoseconds = time.time_ns()
    seconds, fraction = divmod(nanoseconds, 1_000_000_000)
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    digits = f".{fraction:09d}".rstrip("0").rstrip(".")
    return f"{whole}{digits}Z"
