"""What an engine does when nobody waits for it: it takes away, and gets ready."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

from pyrunc.errors import Error

if TYPE_CHECKING:
    from pyrunc.engine.box import Box
    from pyrunc.engine.log import Collected
    from pyrunc.engine.pool import Pool

#: How long nothing must have happened, in milliseconds: whoever calls us in a row has the next
#: request here by then, and making a container holds it up for longer than that.
_QUIET = 5.0
#: How many containers may wait to be taken away, should it never be quiet: little is left of them.
_MOST = 64
#: After how many containers garbage is collected, should it never be quiet: a millisecond.
_LONGEST_GARBAGE = 500


class Leisure:
    """What there is to do when there is time."""

    def __init__(self, pool: Pool, log: Collected) -> None:
        self._pool = pool
        self._log = log
        self._ended: list[Box] = []
        self._is_quiet = False
        # Else some hundred objects more would start it, a dozen times for each container.
        gc.disable()
        #: Containers that were taken away since garbage was collected.
        self._garbage = 0

    def put_off(self, box: Box) -> None:
        """Take a container away later, in which nothing runs any more."""
        box.let_die()
        self._ended.append(box)
        if len(self._ended) > _MOST:
            self.take_one_away()

    def take_one_away(self) -> None:
        """Take away the container that was put off first, if any."""
        if self._ended:
            self._take_away(self._ended.pop(0))

    def take_away(self) -> None:
        """Take away all that was put off; for when there is nothing else to do for a while."""
        while self._ended:
            self._take_away(self._ended.pop())

    def _take_away(self, box: Box) -> None:
        try:
            box.close()
        except (OSError, Error) as error:
            # What is left, the keeper removes; whoever hears of it is not whose box it was.
            self._log.warn(f"a sandbox could not be taken away: {error}")
        self._garbage += 1
        if self._garbage >= _LONGEST_GARBAGE:
            self._collect_garbage()

    def _collect_garbage(self) -> None:
        self._garbage = 0
        gc.collect()

    def pause(self, longest: float | None) -> float | None:
        """Return how long to wait for something to happen, in milliseconds.

        :param longest: how long it may be; None is for ever.
        """
        if not self._ended and not self._pool.wants_more and not self._garbage:
            return longest
        mine = 0.0 if self._is_quiet else _QUIET
        return mine if longest is None else min(mine, longest)

    def spend(self, *, has_waited: bool) -> None:
        """Do one thing, if nothing has happened for a while.

        :param has_waited: whether the last wait was in vain.
        """
        if has_waited and self._is_quiet:
            if self._ended:
                self._take_away(self._ended.pop())
            elif self._pool.wants_more:
                self._pool.prepare()
            elif self._garbage:
                self._collect_garbage()
        self._is_quiet = has_waited
