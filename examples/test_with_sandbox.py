"""A pytest fixture: every test has a fresh sandbox, but only one is ever made."""

from collections.abc import Iterator

import pytest

import pyrunc


@pytest.fixture(scope="session")
def one_sandbox() -> Iterator[pyrunc.Sandbox]:
    """The sandbox of this session."""
    with pyrunc.Sandbox(best_effort=True) as box:
        yield box


@pytest.fixture
def sandbox(one_sandbox: pyrunc.Sandbox) -> Iterator[pyrunc.Sandbox]:
    """A sandbox without files or processes of tests before."""
    yield one_sandbox
    one_sandbox.reset()


def test_a_script_makes_its_file(sandbox: pyrunc.Sandbox) -> None:
    """What a program writes can be looked at from outside."""
    sandbox.run(["sh", "-c", "echo made >/tmp/file"], check=True)
    assert sandbox.read_file("/tmp/file") == b"made\n"


def test_nothing_of_the_other_test_is_left(sandbox: pyrunc.Sandbox) -> None:
    """The fixture has reset it."""
    assert sandbox.changes() == []
