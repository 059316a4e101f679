"""What an engine does when nobody waits: not at once, not never, and to nobody's harm."""

from __future__ import annotations

from typing import Any

import pytest

from pyrunc.engine.leisure import Leisure
from pyrunc.engine.log import Collected
from pyrunc.errors import Error


class Pool:
    """One that wants as many as it is told."""

    def __init__(self) -> None:
        self.wanted = 0
        self.made = 0

    @property
    def wants_more(self) -> bool:
        return self.made < self.wanted

    def prepare(self) -> None:
        self.made += 1


class Box:
    """One that was taken away, or cannot be."""

    def __init__(self, closed: list[Any], error: Error | None = None) -> None:
        self._closed = closed
        self._error = error
        self.is_dying = False

    def let_die(self) -> None:
        self.is_dying = True

    def close(self) -> None:
        if self._error:
            raise self._error
        self._closed.append(self)


@pytest.fixture
def pool() -> Pool:
    return Pool()


@pytest.fixture
def log() -> Collected:
    return Collected()


@pytest.fixture
def leisure(pool: Pool, log: Collected) -> Leisure:
    return Leisure(pool, log)  # type: ignore[arg-type]


def test_with_nothing_to_do_the_engine_waits_as_long_as_it_may(leisure: Leisure) -> None:
    assert leisure.pause(None) is None
    assert leisure.pause(70) == 70


def test_a_container_is_made_only_when_nothing_happens_for_a_while(
    leisure: Leisure, pool: Pool
) -> None:
    """Else who runs one program after another waits for it each time."""
    pool.wanted = 2
    assert leisure.pause(None)
    leisure.spend(has_waited=False)
    leisure.spend(has_waited=True)
    assert pool.made == 0
    assert leisure.pause(None) == 0
    leisure.spend(has_waited=True)
    leisure.spend(has_waited=True)
    assert pool.made == 2
    assert leisure.pause(None) is None


def test_whatever_happens_begins_the_wait_anew(leisure: Leisure, pool: Pool) -> None:
    pool.wanted = 1
    leisure.spend(has_waited=True)
    leisure.spend(has_waited=False)
    assert leisure.pause(None)
    leisure.spend(has_waited=True)
    assert pool.made == 0


def test_taking_away_comes_before_making(leisure: Leisure, pool: Pool) -> None:
    closed: list[Any] = []
    pool.wanted = 1
    box = Box(closed)
    leisure.put_off(box)  # type: ignore[arg-type]
    # Its init dies while nobody waits for it.
    assert box.is_dying
    for _ in range(2):
        leisure.spend(has_waited=True)
    assert (len(closed), pool.made) == (1, 0)
    leisure.spend(has_waited=True)
    assert pool.made == 1


def test_no_more_than_a_few_wait_to_be_taken_away(leisure: Leisure) -> None:
    closed: list[Any] = []
    for _ in range(300):
        leisure.put_off(Box(closed))  # type: ignore[arg-type]
    assert 200 <= len(closed) < 300
    leisure.take_away()
    assert len(closed) == 300


def test_one_that_cannot_be_taken_away_is_told_of_and_stops_nobody(
    leisure: Leisure, log: Collected
) -> None:
    closed: list[Any] = []
    leisure.put_off(Box(closed))  # type: ignore[arg-type]
    leisure.put_off(Box(closed, Error("it is busy")))  # type: ignore[arg-type]
    leisure.take_away()
    assert len(closed) == 1
    assert log.take() == ["a sandbox could not be taken away: it is busy"]
