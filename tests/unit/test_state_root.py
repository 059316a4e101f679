"""What an ordinary user hears whose state root is somebody else's, as after su(1)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyrunc.container.record.store import Store
from pyrunc.errors import Error


@pytest.fixture
def closed(tmp_path: Path) -> Iterator[Path]:
    """A directory that who runs the test may not enter, not being root."""
    place = tmp_path / "closed"
    place.mkdir(mode=0)
    user = os.geteuid()
    if user == 0:
        os.seteuid(4242)
    try:
        yield place
    finally:
        os.seteuid(user)
        place.chmod(0o700)


def test_an_ordinary_user_hears_what_to_name(closed: Path) -> None:
    store = Store(f"{closed}/pyrunc")
    for work in (store.ids, lambda: store.reserve("x"), lambda: store.open("x")):
        with pytest.raises(Error, match="permission denied; name a state root of your own: --root"):
            work()


def test_what_the_user_cannot_mend_has_no_hint(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Error) as raised:
        Store(f"{tmp_path}/file/pyrunc").ids()
    assert str(raised.value).endswith("not a directory")
