"""$NOTIFY_SOCKET: readiness of a container's program, as its service manager sees it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

# A program for the container that needs no library: busybox cannot send a datagram to a socket.
SENDER = r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
int main(int argc, char **argv)
{
	struct sockaddr_un address = { AF_UNIX };
	char *path = getenv("NOTIFY_SOCKET");
	int s = socket(AF_UNIX, SOCK_DGRAM, 0);
	if (!path) { puts("no socket"); return 2; }
	strcpy(address.sun_path, path);
	for (int i = 2; i < argc; i++)
		if (sendto(s, argv[i], strlen(argv[i]), 0, (void *)&address, sizeof address) < 0) {
			perror("sendto");
			return 1;
		}
	sleep(atoi(argv[1]));
	return 0;
}
"""


@pytest.fixture(scope="module")
def sender(compiled):
    return compiled("sender", SENDER)


class Manager:
    """The service manager's end."""

    def __init__(self, path):
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(path)
        self._socket.settimeout(10)
        self.environment = {**os.environ, "NOTIFY_SOCKET": path.replace("\0", "@")}

    def next(self, seconds=10.0):
        self._socket.settimeout(seconds)
        try:
            # Whatever descriptors come along (BARRIER=1) are closed at once.
            message, descriptors, _, _ = socket.recv_fds(self._socket, 4096, 4)
        except TimeoutError:
            return None
        for descriptor in descriptors:
            os.close(descriptor)
        return message.decode()

    def close(self):
        self._socket.close()


@pytest.fixture(params=["path", "abstract", "long path"])
def manager(request, tmp_path):
    path = str(tmp_path / "manager.sock")
    if request.param == "abstract":
        path = f"\0pyrunc-test-{os.getpid()}"
    if request.param == "long path":
        (tmp_path / ("d" * 100)).mkdir()
        os.symlink("d" * 100, tmp_path / "l")
        path = str(tmp_path / "l" / "s")
    made = Manager(path)
    if request.param == "long path":
        made.environment["NOTIFY_SOCKET"] = str(tmp_path / ("d" * 100) / "s")
    yield made
    made.close()


@pytest.fixture
def notifying(make_bundle, sender):
    """A bundle whose program sends datagrams and stays for some seconds."""

    def make(seconds, *messages, **changes):
        bundle = make_bundle(args=["/sender", str(seconds), *messages], **changes)
        shutil.copy(sender, bundle.rootfs / "sender")
        return bundle

    return make


def test_run_detached_returns_when_it_is_ready(notifying, pyrunc, manager):
    bundle = notifying(1000, "READY=1")
    bundle.save()
    name = pyrunc.new_id()
    command = [*pyrunc.command, "run", "-d", "-b", str(bundle.path), name]
    process = subprocess.Popen(command, env=manager.environment, stdin=subprocess.DEVNULL)
    assert manager.next() == "READY=1"
    pid = pyrunc("state", name).stdout.partition('"pid": ')[2].partition(",")[0]
    assert manager.next() == f"MAINPID={pid}\n"
    # It waits until the manager has taken note: only then may it be gone.
    assert process.poll() is None
    assert manager.next() == "BARRIER=1"
    assert process.wait(10) == 0


def test_create_and_start(notifying, pyrunc, manager):
    bundle = notifying(1000, "STATUS=thinking", "READY=1")
    container = pyrunc.create(bundle, env=manager.environment)
    assert container.code == 0, container
    process = subprocess.Popen([*pyrunc.command, "start", container.id], env=manager.environment)
    assert manager.next() == "STATUS=thinking"
    assert manager.next() == "READY=1"
    assert manager.next() == f"MAINPID={pyrunc.state(container)['pid']}\n"
    assert manager.next() == "BARRIER=1"
    assert process.wait(10) == 0


def test_run_in_the_foreground_passes_on_what_is_said(notifying, pyrunc, manager):
    bundle = notifying(
        0, "STATUS=one", "MAINPID=1", "READY=1\nMAINPID=7", "WATCHDOG=1", "FDSTORE=1"
    )
    bundle.save()
    command = [*pyrunc.command, "run", "-b", str(bundle.path), pyrunc.new_id()]
    process = subprocess.Popen(command, env=manager.environment, stdin=subprocess.DEVNULL)
    told = [manager.next(), manager.next(), manager.next()]
    assert told == ["STATUS=one", "READY=1", "WATCHDOG=1"]
    assert manager.next(0.3) is None
    assert process.wait(10) == 0


def test_another_user_may_notify(notifying, pyrunc, manager):
    bundle = notifying(0, "READY=1", process={"user": {"uid": 77, "gid": 78}})
    done = pyrunc.run(bundle, env=manager.environment)
    assert done.code == 0, done
    assert manager.next() == "READY=1"


def test_the_manager_s_socket_stays_outside(make_bundle, pyrunc, manager):
    bundle = make_bundle(args=["sh", "-c", "echo $NOTIFY_SOCKET; ls -l $NOTIFY_SOCKET | cut -c1"])
    done = pyrunc.run(bundle, env=manager.environment)
    assert done.stdout.split() == ["/run/notify/notify.sock", "s"]


def test_a_program_that_ends_without_a_word(make_bundle, pyrunc, manager):
    bundle = make_bundle(args=["sh", "-c", "sleep 0.3; exit 3"])
    assert pyrunc.run(bundle, "-d", env=manager.environment, timeout=10).code == 0
    container = pyrunc.create(bundle, env=manager.environment)
    assert pyrunc("start", container.id, env=manager.environment, timeout=10).code == 0
    assert pyrunc.run(bundle, env=manager.environment, timeout=10).code == 3
    assert manager.next(0.1) is None


def test_waiting_can_be_given_up(make_bundle, pyrunc, manager):
    bundle = make_bundle(args=["sleep", "1000"])
    container = pyrunc.create(bundle, env=manager.environment)
    process = subprocess.Popen([*pyrunc.command, "start", container.id], env=manager.environment)
    time.sleep(0.7)
    assert process.poll() is None
    # Others are not kept from the container meanwhile.
    assert pyrunc("pause", container.id, timeout=5).code == 0
    assert pyrunc("resume", container.id, timeout=5).code == 0
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 130
    assert pyrunc.state(container)["status"] == "running"


def test_start_without_the_variable_does_not_wait(make_bundle, pyrunc, manager):
    bundle = make_bundle(args=["sleep", "1000"])
    container = pyrunc.create(bundle, env=manager.environment)
    assert pyrunc("start", container.id, timeout=10).code == 0


@pytest.mark.parametrize("address", ["path", "closed", "abstract", "vsock:2:1234", ""])
def test_a_manager_that_does_not_exist_is_worth_a_warning(make_bundle, pyrunc, tmp_path, address):
    """A shell that systemd once started hands the variable on for ever."""
    if address in ("path", "closed"):
        path = str(tmp_path / address)
        if address == "closed":
            gone = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            gone.bind(path)
            gone.close()
        address = path
    elif address == "abstract":
        address = f"@pyrunc-test-{os.getpid()}"
    environment = {**os.environ, "NOTIFY_SOCKET": address}
    bundle = make_bundle(args=["echo", "said"])
    done = pyrunc.run(bundle, env=environment)
    assert (done.code, done.stdout) == (0, "said\n")
    warned = "level=warning" in done.stderr and "$NOTIFY_SOCKET" in done.stderr
    assert warned == bool(address), done
    bundle.process["args"] = ["sleep", "1000"]
    assert pyrunc.run(bundle, "--detach", env=environment, timeout=10).code == 0
    container = pyrunc.create(bundle, env=environment)
    assert pyrunc("start", container.id, env=environment, timeout=10).code == 0
    assert pyrunc.state(container)["status"] == "running"


def test_nothing_of_it_is_left(notifying, pyrunc, manager):
    done = pyrunc.run(notifying(0, "READY=1"), env=manager.environment)
    assert done.code == 0, done
    root = Path(pyrunc.command[pyrunc.command.index("--root") + 1])
    assert not (root / done.id).exists()


def test_exec_is_not_told(make_bundle, pyrunc, manager):
    bundle = make_bundle(args=["sleep", "1000"])
    container = pyrunc.create(bundle, env=manager.environment)
    assert pyrunc("start", container.id).code == 0
    done = pyrunc("exec", container.id, "sh", "-c", "echo x$NOTIFY_SOCKET", env=manager.environment)
    assert done.stdout == "x\n"
