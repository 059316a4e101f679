"""Sandboxes that cannot change their /dev share one; all others have their own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import pyrunc

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: others' devices are bound")

_WHICH = "stat -c %d /dev"


def _shown(words: str, **arguments: object) -> str:
    return pyrunc.run(["sh", "-c", words], check=True, text=True, **arguments).stdout  # type: ignore[arg-type]


def test_shared_by_those_who_cannot_write_to_it() -> None:
    assert len({_shown(_WHICH) for _ in range(8)}) <= (os.cpu_count() or 1)
    shown = _shown(
        """
        for name in null zero full random urandom tty ptmx; do test -c /dev/$name; done
        echo x >/dev/null; head -c 2 /dev/zero | od -An -tx1
        test "$(head -c 4 /dev/urandom | wc -c)" = 4
        echo there | cat /dev/stdin /dev/fd/0
        echo mine >/dev/shm/mine; ls /dev/pts; cat /dev/shm/mine
        """
    )
    assert shown.split() == ["00", "00", "there", "ptmx", "mine"]
    assert _shown("ls /dev/shm") == ""


def test_nothing_of_it_can_be_changed() -> None:
    attempts = """
        exec 2>/dev/null
        touch /dev/null /dev/new; chmod 600 /dev/null; chown 65534 /dev/null; rm /dev/null
        mv /dev/zero /dev/null; ln -s x /dev/link; mkdir /dev/pts/d /dev/d; true
        """
    shown = "ls -la --time-style=full-iso /dev | grep -v ' shm$\\| pts$'"
    before = _shown(shown)
    _shown(attempts)
    assert {_shown(shown) for _ in range(4)} >= {before}
    assert len({_shown("ls /dev | sort") for _ in range(4)}) == 1


def test_root_has_its_own() -> None:
    made = "touch /dev/made && chmod 600 /dev/null && ls /dev/made"
    assert _shown(made, user=0) == "/dev/made\n"
    for user in (0, 65534):
        assert _shown("ls /dev | grep made; stat -c %a /dev/null", user=user) == "666\n"


def test_whoever_binds_into_it_has_its_own(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("bound\n")
    assert _shown("cat /dev/file", binds={"/dev/file": str(tmp_path / "file")}) == "bound\n"
    assert _shown("ls /dev | grep file || true") == ""


@pytest.mark.parametrize("rootfs", [None, "image"])
def test_with_a_layer_as_well(rootfs: str | None, tmp_path: Path) -> None:
    options = {}
    if rootfs:
        for name in ("bin", "lib", "lib64", "sbin"):
            (tmp_path / name).symlink_to(f"usr/{name}")
        (tmp_path / "usr").mkdir()
        options = {"rootfs": str(tmp_path), "binds": {"/usr": "/usr"}}
    assert _shown("echo x >/dev/null && cat /dev/null", disk="1M", **options) == ""
