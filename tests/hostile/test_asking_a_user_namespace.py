"""A joined user namespace is asked for its mapping by a process of the runtime's that goes there.

In a container that has that user namespace and the host's pid namespace there may be somebody with
CAP_SYS_PTRACE, and he sees it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pyrunc.container.making import idmap

USERS = 100000
#: What a tracer would begin with, as root of the user namespace.
TRY = """\
import ctypes, os, sys
pid = int(sys.argv[1])
got = []
for name in ("root", "cwd", "exe"):
    try:
        got.append(os.readlink(f"/proc/{pid}/{name}"))
    except OSError:
        pass
try:
    got.append(os.open(f"/proc/{pid}/mem", os.O_RDWR))
except OSError:
    pass
libc = ctypes.CDLL(None)
if libc.ptrace(0x4206, pid, None, None) == 0:
    got.append("seized")
print(got)
"""


@pytest.fixture
def holder():
    """A process in a user namespace whose root is nobody of the host's."""
    if not shutil.which("nsenter") or os.geteuid():
        pytest.skip("needs root and nsenter(1)")
    process = subprocess.Popen(["unshare", "--user", "sleep", "1000"])
    here = os.readlink("/proc/self/ns/user")
    end = time.monotonic() + 10
    while os.readlink(f"/proc/{process.pid}/ns/user") == here:
        assert time.monotonic() < end
        time.sleep(0.005)
    for name in ("uid_map", "gid_map"):
        Path(f"/proc/{process.pid}/{name}").write_text(f"0 {USERS} 65536")
    yield process.pid
    process.kill()
    process.wait()


def test_nobody_there_can_trace_it(holder, monkeypatch):
    """Seen failing: its root, memory and registers were his, and with them the host's root.

    Root's own user namespace does not make the kernel forget that a process is dumpable.
    """
    told = []
    # Not by a link in a directory that is closed to others.
    python = os.path.realpath(sys.executable)

    def look_and_try(pid, name):
        words = ["nsenter", "--user", "--target", str(holder), python, "-c", TRY, str(pid)]
        told.append(subprocess.run(words, capture_output=True, text=True, check=True).stdout)
        return id_mapping(pid, name)

    id_mapping = idmap.id_mapping
    monkeypatch.setattr(idmap, "id_mapping", look_and_try)
    namespace = os.open(f"/proc/{holder}/ns/user", os.O_RDONLY)
    try:
        ids = idmap.ids_of({}, namespace, "the holder's")
    finally:
        os.close(namespace)
    assert (ids.uids, ids.gids) == ([(0, USERS, 65536)],) * 2
    assert told == ["[]\n"] * 2
