"""Checkpoints of containers that are connected to something: terminals, sockets, namespaces."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time

import pytest
from checkpoints import counting, goes_on, images, number_in, restore, save, wait_for
from terminal_fixtures import Keyboard, Listener, read_until

__all__ = ["images", "restore"]

#: Serves a TCP connection of its own on port 7000: what comes is counted in /tmp/count.
CONNECTED = """
#include <arpa/inet.h>
#include <net/if.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>
int main(void) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons(7000)};
    struct ifreq lo = {.ifr_flags = IFF_UP};
    int number, server = socket(AF_INET, SOCK_STREAM, 0), one = 1;
    strcpy(lo.ifr_name, "lo");
    ioctl(server, SIOCSIFFLAGS, &lo);
    setsockopt(server, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    inet_aton("127.0.0.1", &at.sin_addr);
    if (bind(server, (void *)&at, sizeof at) || listen(server, 1))
        return 1;
    if (fork() == 0) {
        int client = socket(AF_INET, SOCK_STREAM, 0);
        close(server);
        if (connect(client, (void *)&at, sizeof at))
            return 1;
        for (number = 1;; number++) {
            if (write(client, &number, sizeof number) != sizeof number)
                return 1;
            usleep(20000);
        }
    }
    int connection = accept(server, 0, 0);
    while (read(connection, &number, sizeof number) == sizeof number) {
        FILE *count = fopen("/tmp/count", "w");
        fprintf(count, "%d", number);
        fclose(count);
    }
    return 2;
}
"""


def test_an_open_tcp_connection(make_bundle, pyrunc, images, restore, compiled):
    bundle = make_bundle(["/connected"])
    for kind in ("bounding", "effective", "permitted"):
        bundle.process["capabilities"][kind].append("CAP_NET_ADMIN")
    shutil.copy(compiled("connected", CONNECTED), bundle.rootfs / "connected")
    container = pyrunc.start(bundle)
    count = bundle.rootfs / "tmp/count"
    wait_for(lambda: number_in(count) > 3)
    refused = pyrunc("checkpoint", "--image-path", images, container.id)
    assert refused.code == 1
    assert "--tcp-established saves it" in refused.stderr
    assert pyrunc.state(container)["status"] == "running"
    save(pyrunc, container, images, "--tcp-established")
    before = number_in(count)
    restore(bundle, images, "--tcp-established")
    assert goes_on(bundle, before)


def test_a_terminal_session_goes_to_a_new_console_socket(
    make_bundle, pyrunc, images, restore, tmp_path
):
    bundle = make_bundle(["sh"])
    bundle.process["terminal"] = True
    first, second = (Listener(tmp_path / f"console{n}.sock") for n in (1, 2))
    container = pyrunc.start(bundle, "--console-socket", str(first.path))
    terminal = first.take()
    os.write(terminal, b"word=remembered; echo is-$((1+1))\r")
    read_until(terminal, b"is-2")
    save(pyrunc, container, images)
    os.close(terminal)
    restore(bundle, images, "--console-socket", second.path)
    terminal = second.take()
    os.write(terminal, b"echo it-was-$word; tty\r")
    shown = read_until(terminal, b"/dev/")
    assert b"it-was-remembered" in shown
    os.close(terminal)
    first.close()
    second.close()


def test_a_terminal_session_in_the_foreground(make_bundle, pyrunc, images, tmp_path):
    bundle = make_bundle(["sh"])
    bundle.process["terminal"] = True
    console = Listener(tmp_path / "console.sock")
    container = pyrunc.start(bundle, "--console-socket", str(console.path))
    terminal = console.take()
    os.write(terminal, b"word=remembered; echo is-$((1+1))\r")
    read_until(terminal, b"is-2")
    save(pyrunc, container, images)
    os.close(terminal)
    console.close()
    words = ["restore", "--bundle", bundle.path, "--image-path", images, pyrunc.new_id()]
    keyboard = Keyboard([*pyrunc.command, *words])
    try:
        keyboard.type("echo it-was-$word\n")
        keyboard.expect("it-was-remembered")
        keyboard.type("exit 5\n")
        assert keyboard.end() == 5
    finally:
        keyboard.close()


#: Sends numbers to the datagram socket of that path.
SENDER = """
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
int main(int count, char **words) {
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    int number, client = socket(AF_UNIX, SOCK_DGRAM, 0);
    strcpy(at.sun_path, words[1]);
    if (connect(client, (void *)&at, sizeof at))
        return 1;
    for (number = 1;; number++) {
        char text[20];
        sprintf(text, "%d", number);
        send(client, text, strlen(text), 0);
        usleep(20000);
    }
}
"""


def test_a_unix_socket_outside(make_bundle, pyrunc, images, restore, compiled, tmp_path):
    volume = tmp_path / "vol"
    volume.mkdir()
    outside = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    outside.bind(str(volume / "socket"))
    outside.settimeout(10)
    bundle = make_bundle(["/sender", str(volume / "socket")])
    # CRIU looks for the other end in the container's network namespace only, and connects to the
    # name that it was bound to.
    bundle.without_namespace("network")
    bundle.bind(volume, str(volume))
    shutil.copy(compiled("sender", SENDER), bundle.rootfs / "sender")
    container = pyrunc.start(bundle)
    outside.recv(100)
    refused = pyrunc("checkpoint", "--image-path", images, container.id)
    assert refused.code == 1
    assert "CRIU: " in refused.stderr
    assert "dump.log" in refused.stderr
    assert not list(images.glob("*.img"))
    assert pyrunc.state(container)["status"] == "running"
    for _ in range(100):
        outside.recv(100)
    save(pyrunc, container, images, "--ext-unix-sk")
    outside.setblocking(False)
    last = 0
    try:
        while True:
            last = int(outside.recv(100))
    except BlockingIOError:
        outside.settimeout(10)
    restore(bundle, images, "--ext-unix-sk")
    assert int(outside.recv(100)) > last
    outside.close()


def test_a_joined_network_namespace_is_joined_again(make_bundle, pyrunc, images, restore):
    holder = subprocess.Popen(["unshare", "-n", "sleep", "1000"])
    try:
        path = f"/proc/{holder.pid}/ns/net"
        wait_for(lambda: os.stat(path).st_ino != os.stat("/proc/self/ns/net").st_ino)
        bundle = make_bundle()
        bundle.namespace("network", path)
        container = counting(pyrunc, bundle)
        save(pyrunc, container, images)
        restored = restore(bundle, images)
        assert goes_on(bundle, 3)
        pid = pyrunc.state(restored)["pid"]
        assert os.stat(f"/proc/{pid}/ns/net").st_ino == os.stat(path).st_ino
    finally:
        holder.kill()
        holder.wait()


def test_an_empty_network_namespace_is_filled_by_a_hook(
    make_bundle, pyrunc, images, restore, tmp_path
):
    bundle = make_bundle()
    container = counting(pyrunc, bundle)
    save(pyrunc, container, images, "--empty-ns", "network")
    script = (
        f"pid=$(sed 's/.*\"pid\":\\([0-9]*\\).*/\\1/'); "
        f"nsenter -t $pid -n ip link set lo mtu 12345 && echo $pid > {tmp_path}/pid"
    )
    hook = {"path": "/bin/sh", "args": ["sh", "-c", script], "env": [f"PATH={os.environ['PATH']}"]}
    bundle.config["hooks"] = {"prestart": [hook]}
    restored = restore(bundle, images, "--empty-ns", "network")
    assert int((tmp_path / "pid").read_text()) == pyrunc.state(restored)["pid"]
    assert pyrunc.exec(restored, "cat", "/sys/class/net/lo/mtu").stdout in ("12345\n", "65536\n")
    refused = pyrunc("checkpoint", "--image-path", images, "--empty-ns", "uts", restored.id)
    assert "namespace uts is not supported by --empty-ns" in refused.stderr


def test_a_process_of_exec_is_named_before_the_dump(make_bundle, pyrunc, images):
    container = pyrunc.start(make_bundle(["sleep", "1000"]))
    detached = pyrunc("exec", "--detach", container.id, "sleep", "1000")
    assert detached.code == 0
    refused = pyrunc("checkpoint", "--image-path", images, container.id)
    assert refused.code == 1
    assert "(sleep) was brought in by `exec`" in refused.stderr
    assert not images.exists()


@pytest.mark.parametrize("kind", ["ipc", "uts"])
def test_other_namespaces_are_joined_again(make_bundle, pyrunc, images, restore, kind):
    """They go on as they are, whatever they were like at the time of the checkpoint."""
    script = "hostname before; while read name; do hostname $name; echo changed; done; sleep 1000"
    holder = subprocess.Popen(
        ["unshare", "-u", "-i", "sh", "-c", script],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        path = f"/proc/{holder.pid}/ns/{kind}"
        wait_for(lambda: os.stat(path).st_ino != os.stat(f"/proc/self/ns/{kind}").st_ino)
        bundle = make_bundle()
        bundle.namespace(kind, path)
        bundle.config.pop("hostname") if kind == "uts" else None
        container = counting(pyrunc, bundle)
        save(pyrunc, container, images)
        print("after", file=holder.stdin, flush=True)
        assert holder.stdout.readline() == "changed\n"
        restored = restore(bundle, images)
        assert goes_on(bundle, 3)
        pid = pyrunc.state(restored)["pid"]
        assert os.stat(f"/proc/{pid}/ns/{kind}").st_ino == os.stat(path).st_ino
        if kind == "uts":
            assert pyrunc.exec(restored, "hostname").stdout == "after\n"
    finally:
        holder.kill()
        holder.communicate()


def test_a_cgroup_namespace_of_another_is_named_before_the_dump(make_bundle, pyrunc, images):
    holder = subprocess.Popen(["unshare", "-C", "sleep", "1000"])
    try:
        path = f"/proc/{holder.pid}/ns/cgroup"
        wait_for(lambda: os.stat(path).st_ino != os.stat("/proc/self/ns/cgroup").st_ino)
        bundle = make_bundle(["sleep", "1000"])
        bundle.namespace("cgroup", path)
        container = pyrunc.start(bundle)
        refused = pyrunc("checkpoint", "--image-path", images, container.id)
        assert "has joined another's cgroup namespace" in refused.stderr
    finally:
        holder.kill()
        holder.wait()


def test_a_terminal_of_the_callers_needs_shell_job(make_bundle, pyrunc, images):
    bundle = make_bundle()
    # The sleep that is restored is interrupted, which ends that of busybox 1.37.
    bundle.shell("echo begun; while :; do sleep 1000; done")
    bundle.save()
    name = pyrunc.new_id()
    keyboard = Keyboard([*pyrunc.command, "run", "--bundle", bundle.path, name])
    try:
        keyboard.expect("begun")
        refused = pyrunc("checkpoint", "--image-path", images, name)
        assert "is a terminal of the caller's: --shell-job accepts that" in refused.stderr
        done = pyrunc("checkpoint", "--image-path", images, "--shell-job", name)
        assert done.code == 0, (done, (images / "dump.log").read_text()[-2000:])
    finally:
        keyboard.close()
    keyboard = Keyboard(
        [*pyrunc.command, "restore", "--shell-job", "--bundle", bundle.path,
         "--image-path", images, pyrunc.new_id()]
    )  # fmt: skip
    try:
        time.sleep(1)
        assert keyboard.process.poll() is None, keyboard.end()
    finally:
        keyboard.process.terminate()
        keyboard.close()
