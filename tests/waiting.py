"""Waiting for what has to happen, in small steps."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def soon(condition: Callable[[], object], seconds: float = 60) -> bool:
    """Tell whether it comes true; an emulated machine takes many times as long as any other."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True
