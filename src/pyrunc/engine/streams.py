"""The engine's own standard streams, lent to what it is about to execute."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class StandardStreams:
    """Stdin, stdout and stderr: the null device, but for a moment somebody's."""

    def __init__(self) -> None:
        self._null = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)

    @contextlib.contextmanager
    def being(self, descriptors: Sequence[int]) -> Iterator[None]:
        """Let them be ``descriptors`` for a while: a child inherits them as they are then."""
        try:
            for number, descriptor in enumerate(descriptors):
                os.dup2(descriptor, number)
            yield
        finally:
            for number in range(len(descriptors)):
                os.dup2(self._null, number)
