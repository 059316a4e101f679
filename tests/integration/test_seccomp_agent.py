"""Seccomp agents, which are asked about calls."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import struct
import threading

import pytest
from seccomp_fixtures import GETPPID, caller, calling, rule, section

from pyrunc.security.seccomp_compile import supported_flags

__all__ = ["caller", "calling"]


SECCOMP_IOCTL_NOTIF_RECV = 0xC0502100


SECCOMP_IOCTL_NOTIF_SEND = 0xC0182101


class Agent:
    """Listens at a socket, takes one connection, and answers what the kernel asks."""

    def __init__(self, path):
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._listener.settimeout(20)
        self.said: list[bytes] = []
        self.descriptors: list[int] = []
        self.asked = 0
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self):
        connection, _ = self._listener.accept()
        with connection:
            while True:
                data, descriptors, _, _ = socket.recv_fds(connection, 65536, 8)
                self.descriptors += descriptors
                self.said.append(data)
                if not data:
                    break
        # struct seccomp_notif: id, pid, flags, then seccomp_data.
        request = bytearray(80)
        fcntl.ioctl(self.descriptors[0], SECCOMP_IOCTL_NOTIF_RECV, request)
        number, self.asked = struct.unpack_from("=Q8xi", request)
        # struct seccomp_notif_resp: id, value, error, flags.
        answer = bytearray(struct.pack("=QqiI", number, 0, -errno.EXDEV, 0))
        fcntl.ioctl(self.descriptors[0], SECCOMP_IOCTL_NOTIF_SEND, answer)

    def join(self):
        self._thread.join(20)
        assert not self._thread.is_alive()
        self._listener.close()
        for descriptor in self.descriptors:
            os.close(descriptor)


@pytest.mark.parametrize("no_new_privileges", [True, False])
@pytest.mark.parametrize("metadata", [None, "", "MKNOD=/dev/null;ünïcode"])
def test_an_agent_is_told_the_state_and_answers(
    calling, pyrunc, tmp_path, no_new_privileges, metadata
):
    agent = Agent(tmp_path / "agent.sock")
    seccomp = section(rule("SCMP_ACT_NOTIFY"), listenerPath=str(tmp_path / "agent.sock"))
    if metadata is not None:
        seccomp["listenerMetadata"] = metadata
    bundle = calling(seccomp, str(GETPPID))
    bundle.process["noNewPrivileges"] = no_new_privileges
    bundle.config["annotations"] = {"my.key": "value"}
    created = pyrunc.create(bundle)
    assert created.code == 0, created
    pid = pyrunc.state(created)["pid"]
    assert pyrunc("start", created.id).code == 0
    pyrunc.wait(created)
    agent.join()
    assert created.stdout == f"{errno.EXDEV}\n"
    assert agent.asked == GETPPID
    # One state, and then the end of the connection.
    *parts, end = agent.said
    assert end == b""
    assert len(agent.descriptors) == 1
    assert json.loads(b"".join(parts)) == {
        "ociVersion": "1.0.2",
        "fds": ["seccompFd"],
        "pid": pid,
        "metadata": metadata or "",
        "state": {
            "ociVersion": "1.0.2",
            "id": created.id,
            "status": "creating",
            "pid": pid,
            "bundle": str(bundle.path),
            "annotations": {"my.key": "value"},
        },
    }


def test_an_agent_may_be_waited_for_killably(calling, pyrunc, tmp_path):
    flag = "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"
    if flag not in supported_flags():
        pytest.skip(f"the kernel has no {flag}")
    agent = Agent(tmp_path / "agent.sock")
    path = str(tmp_path / "agent.sock")
    seccomp = section(rule("SCMP_ACT_NOTIFY"), listenerPath=path, flags=[flag])
    assert pyrunc.run(calling(seccomp, str(GETPPID))).stdout == f"{errno.EXDEV}\n"
    agent.join()


def test_a_listener_without_anybody_to_be_asked_is_passed_over(make_bundle, pyrunc):
    seccomp = section(
        rule("SCMP_ACT_ERRNO"), listenerPath="/nowhere/agent.sock", listenerMetadata="x"
    )
    assert pyrunc.run(make_bundle(linux={"seccomp": seccomp})).code == 0


@pytest.mark.parametrize("what", ["nothing", "nobody listens", "datagrams", "file"])
def test_a_state_that_cannot_be_sent_fails_create(make_bundle, pyrunc, tmp_path, what):
    path = tmp_path / "agent.sock"
    kind = socket.SOCK_DGRAM if what == "datagrams" else socket.SOCK_STREAM
    with socket.socket(socket.AF_UNIX, kind) as listener:
        if what in ("nobody listens", "datagrams"):
            listener.bind(str(path))
        elif what == "file":
            path.write_text("")
        seccomp = section(rule("SCMP_ACT_NOTIFY"), listenerPath=str(path))
        result = pyrunc.create(make_bundle(linux={"seccomp": seccomp}))
    assert result.code == 1
    assert f"cannot send the seccomp listener to socket {path}" in result.stderr
    assert pyrunc("state", result.id).code == 1


def test_notify_without_a_listener_is_refused(make_bundle, pyrunc):
    result = pyrunc.create(make_bundle(linux={"seccomp": section(rule("SCMP_ACT_NOTIFY"))}))
    assert result.code == 1
    assert "listenerPath" in result.stderr
