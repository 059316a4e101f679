"""Other people's programs in a container under a service manager: socat, systemd-notify."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest


@pytest.fixture
def with_host_programs(make_bundle):
    """Return what makes a bundle in which the host's programs can be run."""

    def make(*args: str):
        bundle = make_bundle(args=list(args))
        shown = ["/usr", "/etc/ld.so.cache"]
        for name in ("lib", "lib64", "bin", "sbin"):
            host = Path("/", name)
            inside = bundle.rootfs / name
            if host.is_symlink():
                if inside.is_dir() and not inside.is_symlink():
                    shutil.rmtree(inside)
                inside.symlink_to(os.readlink(host))
            elif host.exists():
                shown.append(str(host))
        for path in shown:
            if Path(path).exists():
                mount = {"destination": path, "type": "bind", "source": path}
                bundle.config["mounts"].append({**mount, "options": ["rbind", "ro"]})
        return bundle

    return make


SERVER = """
import os, socket
assert (os.environ["LISTEN_FDS"], os.environ["LISTEN_PID"]) == ("1", str(os.getpid()))
connection = socket.socket(fileno=3).accept()[0]
connection.sendall(b"got " + connection.recv(100))
"""


@pytest.mark.skipif(not shutil.which("socat"), reason="socat is not installed")
@pytest.mark.skipif(
    not shutil.which("systemd-socket-activate"), reason="systemd-socket-activate is not installed"
)
@pytest.mark.parametrize("how", ["run", "exec"])
def test_a_socket_of_the_service_manager_is_served(with_host_programs, pyrunc, tmp_path, how):
    """sd_listen_fds(3): descriptor 3 is the listening socket, as $LISTEN_FDS says."""
    server = ["/usr/bin/python3", "-c", SERVER]
    if how == "run":
        bundle = with_host_programs(*server)
        bundle.save()
        words = ["run", "-b", str(bundle.path), pyrunc.new_id()]
    else:
        words = ["exec", pyrunc.start(with_host_programs("/usr/bin/sleep", "1000")).id, *server]
    path = tmp_path / "s"
    activator = subprocess.Popen(
        ["systemd-socket-activate", "-l", str(path), *pyrunc.command, *words],
        stdin=subprocess.DEVNULL,
    )
    while not path.exists():
        assert activator.poll() is None
    client = subprocess.run(
        ["socat", "-t", "20", "-", f"UNIX-CONNECT:{path}"],
        input=b"hello\n", capture_output=True, timeout=30, check=False,
    )  # fmt: skip
    assert client.stdout == b"got hello\n"
    assert activator.wait(20) == 0


@pytest.mark.skipif(not shutil.which("systemd-notify"), reason="systemd-notify is not installed")
def test_systemd_notify_inside_reaches_the_caller(with_host_programs, pyrunc, tmp_path):
    script = "systemd-notify --status=thinking && systemd-notify --ready && exec sleep 1000"
    bundle = with_host_programs("/usr/bin/sh", "-c", script)
    bundle.save()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.settimeout(20)
        manager.bind(str(tmp_path / "n"))
        name = pyrunc.new_id()
        process = subprocess.Popen(
            [*pyrunc.command, "run", "-d", "-b", str(bundle.path), name],
            env={**os.environ, "NOTIFY_SOCKET": str(tmp_path / "n")},
            stdin=subprocess.DEVNULL,
        )
        told = []
        while "BARRIER=1" not in told:
            message, descriptors, _, _ = socket.recv_fds(manager, 4096, 4)
            for descriptor in descriptors:
                os.close(descriptor)
            told += message.decode().splitlines()
        assert process.wait(20) == 0
    pid = pyrunc("state", name).stdout.partition('"pid": ')[2].partition(",")[0]
    assert told[:2] == ["STATUS=thinking", "READY=1"]
    assert f"MAINPID={pid}" in told
