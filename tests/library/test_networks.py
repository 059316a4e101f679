"""A sandbox's network namespace is another's later, but only when nothing was ever done in it."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import pyrunc
from pyrunc.engine.networks import Network, Networks, may_pass_on
from pyrunc.engine.prepared import has_capabilities
from pyrunc.linux import processes as p
from pyrunc.process.namespaces import BringLoopbackUp
from pyrunc.step import Build

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: others have user namespaces")

_COUNTED = "cat /proc/net/dev /proc/net/snmp /proc/net/snmp6; head -1 /proc/net/sockstat"
#: Leaves what a hostile program could leave: packets, refused connections, sockets, abstract names.
_TOUCHES = """
import contextlib, os, socket, time
waiting = socket.create_server(("127.0.0.1", 0))
one = socket.create_connection(waiting.getsockname())
other, _ = waiting.accept()
other.close()
socket.socket(socket.AF_UNIX).bind("\\0a name that stays taken")
with contextlib.suppress(OSError):
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("192.0.2.1", 9))
"""


def test_used_again_when_nothing_was_done() -> None:
    seen = {
        pyrunc.run(["readlink", "/proc/self/ns/net"], check=True, text=True).stdout
        for _ in range(20)
    }
    # Each engine has some: while one ends, the next is made.
    assert len(seen) < 15


@pytest.mark.parametrize("pool", [0, 4])
def test_nothing_of_another_programs_network_is_seen(pool: int) -> None:
    fresh = pyrunc.run(["sh", "-c", _COUNTED], check=True).stdout
    assert b"sockets: used 0" in fresh
    for _ in range(12):
        pyrunc.run(["python3", "-c", _TOUCHES], check=True, pool=pool)
        assert pyrunc.run(["sh", "-c", _COUNTED], check=True, pool=pool).stdout == fresh


def test_nothing_of_an_ended_sandboxs_network_is_seen() -> None:
    with pyrunc.Sandbox() as box:
        fresh = box.run(["sh", "-c", _COUNTED], check=True).stdout
        box.run(["python3", "-c", _TOUCHES], check=True)
        assert box.run(["sh", "-c", _COUNTED], check=True).stdout != fresh
        box.reset()
        assert box.run(["sh", "-c", _COUNTED], check=True).stdout == fresh
    for _ in range(4):
        with pyrunc.Sandbox() as box:
            assert box.run(["sh", "-c", _COUNTED], check=True).stdout == fresh


class Inhabited:
    """A network namespace with one process in it, which does what it is told."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        self.pid, self._pidfd = p.clone(p.CLONE_NEWNET)
        if self.pid == 0:
            ours.close()
            BringLoopbackUp().apply(Build(-1, -1))
            theirs.send(b"r")
            theirs.recv(1)
            os._exit(0)
        theirs.close()
        self._line = ours
        assert ours.recv(1) == b"r"
        self.network = Network(self.pid)

    def do(self, what: Callable[[], object]) -> None:
        """Do something in it, in a process that ends afterwards."""
        child = os.fork()
        if child == 0:
            status = 1
            try:
                p.setns(self.network.namespace, p.CLONE_NEWNET)
                what()
                status = 0
            finally:
                os._exit(status)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0

    def end(self) -> None:
        self._line.close()
        os.waitpid(self.pid, 0)
        os.close(self._pidfd)
        self.network.close()


@pytest.fixture
def inhabited() -> Iterator[Inhabited]:
    there = Inhabited()
    yield there
    there.end()


def _refused_connection() -> None:
    with socket.socket() as client:
        assert client.connect_ex(("127.0.0.1", 1))


def _unreachable() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender, pytest.raises(OSError):
        sender.sendto(b"x", ("192.0.2.1", 9))


def _forwarding() -> None:
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")


def _packet_to_oneself() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"x", ("127.0.0.1", 9))


@pytest.mark.parametrize(
    "what", [_refused_connection, _unreachable, _forwarding, _packet_to_oneself]
)
def test_what_was_done_is_noticed(inhabited: Inhabited, what: Callable[[], None]) -> None:
    networks = Networks()
    assert inhabited.network.is_untouched
    inhabited.do(lambda: socket.socket(socket.AF_UNIX).bind("\0gone with its process"))
    assert inhabited.network.is_untouched
    inhabited.do(what)
    networks.put_back(inhabited.network)
    networks.look()
    assert networks.take() is None
    assert inhabited.network.namespace == -1


def test_one_that_is_like_new_is_looked_at_once_and_passed_on(inhabited: Inhabited) -> None:
    networks = Networks()
    networks.put_back(inhabited.network)
    for _ in range(2):
        networks.look()
    assert networks.take() is inhabited.network
    assert networks.take() is None


def test_a_socket_that_somebody_kept_is_noticed(inhabited: Inhabited) -> None:
    ours, theirs = socket.socketpair()
    inhabited.do(lambda: socket.send_fds(theirs, [b"s"], [socket.socket().detach()]))
    _, kept, _, _ = socket.recv_fds(ours, 1, 1)
    assert not inhabited.network.is_untouched
    os.close(kept[0])
    for line in (ours, theirs):
        line.close()


def test_only_what_no_program_may_configure_is_passed_on() -> None:
    linux = {"namespaces": [{"type": "network"}], "readonlyPaths": ["/proc/sys"]}
    assert may_pass_on({"linux": linux})  # type: ignore[typeddict-item]
    for other in (
        {"namespaces": []},
        {"namespaces": [{"type": "network"}, {"type": "user"}]},
        {"readonlyPaths": []},
        {"sysctl": {"net.ipv4.ip_forward": "1"}},
    ):
        assert not may_pass_on({"linux": linux | other})  # type: ignore[typeddict-item]
    assert not has_capabilities({"args": ["true"], "cwd": "/", "capabilities": {}})
    for kind in ("bounding", "effective", "ambient"):
        capable = {"args": ["true"], "cwd": "/", "capabilities": {kind: ["CAP_NET_ADMIN"]}}
        assert has_capabilities(capable)  # type: ignore[arg-type]
