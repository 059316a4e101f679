"""A container with a tracer in it (tracer.c), and the judgement of what the tracer has seen.

    trace = Trace(bundle, pyrunc, tracer, host)
    trace.start()
    ...                                     # make processes show themselves in there
    sightings = trace.end()
    assert sightings.findings == []

What a process in the container may hold is what the container's own program has. Everything else
is a finding. Pipes that are nobody's stdio are kept apart as `channels`: init needs some to hear
from the runtime, and what goes through them must be harmless whoever wrote it.
"""

from __future__ import annotations

import os
import socket
import stat
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).resolve().parent
SECRET = "the host's secret\n"
MARKER = "only-the-runtime-knows-this"
DOCKERS = (
    "AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE",
    "NET_RAW", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT",
)  # fmt: skip
#: Init, what it is told, what hooks inside are told anyway and say: nothing of the host's.
MEMORY_FILES = ("/memfd:pyrunc-init", "/memfd:launch", "/memfd:hook-stdin", "/memfd:hook-output")
ENVIRONMENT = {"PATH=/bin", "TERM=xterm", "HOME=/root", "HOME=/"}


class Host:
    """A directory of the host with a secret that everybody may read, and where all may write."""

    def __init__(self, directory: Path) -> None:
        self.secret = directory / "secret"
        self.secret.write_text(SECRET)
        self.secret.chmod(0o644)
        self.open = directory / "open"
        self.open.mkdir()
        self.open.chmod(0o777)
        self.plant = self.open / "planted"


def mounts_of(process: int | str) -> list[str]:
    return Path(f"/proc/{process}/mountinfo").read_text().splitlines()


class Own:
    """What belongs to the containers that may be seen."""

    def __init__(self) -> None:
        self.files: set[tuple[int, int]] = set()
        self.devices: set[int] = set()
        self.namespaces: set[str] = set()
        self.cgroups: set[str] = set()
        self.capabilities = 0
        self.users = {"0"}
        self.seccomp = {"0"}

    def give_file(self, path: Path | int) -> None:
        status = os.stat(path)
        self.files.add((status.st_dev, status.st_ino))

    def give_tree(self, path: Path) -> None:
        self.give_file(path)
        for directory, names, files in os.walk(path):
            for name in (*names, *files):
                status = os.lstat(os.path.join(directory, name))
                self.files.add((status.st_dev, status.st_ino))

    def give_container(self, pid: int) -> None:
        """Take in the namespaces, cgroups and file systems of a container's process."""
        process = Path(f"/proc/{pid}")
        for kind in ("cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"):
            self.namespaces.add(os.readlink(process / "ns" / kind))
        self.cgroups.add((process / "cgroup").read_text().replace("\n", "\1"))
        host = {line.split()[2] for line in mounts_of("self")}
        for line in mounts_of(pid):
            if (device := line.split()[2]) not in host:
                major, minor = map(int, device.split(":"))
                self.devices.add(os.makedev(major, minor))

    def give_cgroup_like(self, known: str, other: str) -> None:
        """Take in the cgroup of a container that is gone, by that of one that is known."""
        self.cgroups |= {text.replace(known, other) for text in self.cgroups}


def is_early(moment: str, exe: str) -> bool:
    """Whether this is what runs before a container's program: init, or worse."""
    return moment == "refused" or exe.startswith("/memfd:") or "python" in exe


NOBODY = ["65534"] * 4


def is_opener(known: set[str], kind: str, *words: str) -> bool:
    """Whether this is told of a process that opens a procfs, before Linux 6.18 (foreign_proc.py).

    It is nobody, with all rights over a user namespace that has nothing in it.
    """
    if kind == "namespaces":
        return any(x.startswith("user:") and x not in known for x in words[0].split("\1"))
    return kind == "status" and words[0] == "Uid" and list(words[1:]) == NOBODY


def is_an_openers(kind: str, *words: str) -> bool:
    """Whether such a process is to have it: a procfs, an empty root, its namespaces, a filter."""
    if kind == "fd":
        return words[:2] == ("0", "anon_inode:[fscontext]")
    if kind in ("cwd", "root"):
        return words[4] == "40555"
    if kind == "status" and words[0] == "Seccomp":
        return words[1] == "2"
    return kind in ("cgroup", "namespaces", "status")


class Sightings:
    """The tracer's report, judged."""

    def __init__(self, text: str, own: Own) -> None:
        #: What is not the container's, or worse, what the tracer could do with it.
        self.findings: list[str] = []
        #: Ways to talk with somebody outside.
        self.channels: list[str] = []
        #: Processes that were stopped before they executed the container's program.
        self.early: set[int] = set()
        #: Whether a message was written into a pipe of theirs.
        self.forged = False
        self.own = own
        entries = [line.split("\t") for line in text.splitlines()]
        known = own.namespaces | {os.readlink("/proc/self/ns/user")}
        openers = {pid for pid, _, kind, *words in entries if is_opener(known, kind, *words)}
        for pid, moment, kind, *words in entries:
            if pid in openers and is_an_openers(kind, *words):
                continue
            judge = getattr(self, f"_{kind}", None)
            told = f"{kind} {' '.join(words)} (process {pid}, {moment})".replace("\1", " ")
            if kind == "first" and is_early(moment, words[1]):
                self.early.add(int(pid))
            elif kind == "forged":
                self.forged = True
            elif kind == "used" or (judge is not None and not judge(*words)):
                self.findings.append(told)
            elif kind == "fd" and stat.S_ISFIFO(int(words[4], 8)):
                self.channels.append(told)

    def _belongs(self, link: str, device: str, inode: str, place: str) -> bool:
        return (
            place == "here"
            or link.startswith(MEMORY_FILES)
            or int(device) in self.own.devices
            or (int(device), int(inode)) in self.own.files
        )

    def _fd(
        self, _: str, link: str, device: str, inode: str, mode: str, place: str, __: str
    ) -> bool:
        return stat.S_ISFIFO(int(mode, 8)) or self._belongs(link, device, inode, place)

    def _exe(self, _: str, link: str, device: str, inode: str, __: str, place: str, w: str) -> bool:
        return self._belongs(link, device, inode, place) and not (w and link.startswith("/memfd:"))

    def _cwd(self, _: str, link: str, device: str, inode: str, __: str, place: str, w: str) -> bool:
        return self._belongs(link, device, inode, place)

    _root = _cwd

    def _map(self, name: str, inode: str, place: str) -> bool:
        return (
            place == "here"
            or name.startswith(("[", *MEMORY_FILES))
            or int(inode) in {number for _, number in self.own.files}
        )

    def _status(self, name: str, *values: str) -> bool:
        if name.startswith("Cap"):
            return int(values[0], 16) & ~self.own.capabilities == 0
        return set(values) <= (self.own.seccomp if name == "Seccomp" else self.own.users)

    def _namespaces(self, links: str) -> bool:
        return set(links.split("\1")) - {""} <= self.own.namespaces

    def _cgroup(self, text: str) -> bool:
        return text in self.own.cgroups

    def _environ(self, entry: str) -> bool:
        return entry in ENVIRONMENT or entry.startswith(("LISTEN_", "OWN_"))


class Trace:
    """A container whose first process is the tracer."""

    def __init__(self, bundle, pyrunc, tracer: Path, host: Host) -> None:
        self.bundle = bundle
        self.pyrunc = pyrunc
        self.host = host
        self.own = Own()
        self.arguments = ["/tracer", str(host.secret), str(host.plant)]
        program = bundle.rootfs / "tracer"
        program.write_bytes(tracer.read_bytes())
        program.chmod(0o755)
        (bundle.rootfs / "marker").write_text(MARKER)
        bundle.rootfs.chmod(0o777)
        self.environment = {**os.environ, "PYRUNC_TEST_SECRET": MARKER}

    def give_capabilities(self, *names: str) -> None:
        sets = [f"CAP_{name}" for name in (*DOCKERS, "SYS_PTRACE", *names)]
        self.bundle.process["capabilities"] = dict.fromkeys(
            ("bounding", "effective", "permitted"), sets
        )

    def start(self, forge: int = 0) -> None:
        self.bundle.process["args"] = self.arguments + ([str(forge)] if forge else [])
        self.container = self.pyrunc.start(self.bundle)
        self._wait_for("ready")
        self.pid = self.pyrunc.state(self.container)["pid"]
        # Quick enough also where other tests are at work.
        os.setpriority(os.PRIO_PROCESS, self.pid, -20)
        self.own.give_tree(self.bundle.rootfs)
        self.own.give_container(self.pid)
        self.own.give_file(Path("/dev/null"))
        status = Path(f"/proc/{self.pid}/status").read_text()
        words = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        self.own.capabilities = int(words["CapBnd"], 16)
        self.own.users |= set((words["Uid"] + words["Gid"]).split())
        self.own.seccomp = {words["Seccomp"]}

    def exec(self, *words: str, options: tuple[str, ...] = (), **how):
        """Have a process enter, and take its stdio for the container's."""
        how.setdefault("env", self.environment)
        result = self.pyrunc("exec", *options, self.container.id, *words, **how)
        self.give_stdio(result)
        return result

    def give_stdio(self, result) -> None:
        self.own.give_file(result._stdout)
        self.own.give_file(result._stderr)

    def repeat(self, times: int, act: Callable[[], object]) -> None:
        """Act that often, and on until half as many processes were stopped early."""
        report = self.bundle.rootfs / "report"
        for number in range(6 * times):
            act()
            if number + 1 >= times:
                lines = [line.split("\t") for line in report.read_text().splitlines()]
                early = sum(w[2] == "first" and is_early(w[1], w[4]) for w in lines)
                if early >= times / 2:
                    return

    def end(self) -> Sightings:
        root = self.bundle.rootfs
        (root / "stop").touch()
        self.pyrunc.wait(self.container)
        text = (root / "report").read_text(errors="replace")
        assert "\tend\n" in text, text[-2000:]
        sightings = Sightings(text, self.own)
        sightings.findings += [f"planted on the host: {n}" for n in os.listdir(self.host.open)]
        return sightings

    def _wait_for(self, name: str) -> None:
        end = time.monotonic() + 20
        while not (self.bundle.rootfs / name).exists():
            assert time.monotonic() < end, self.container
            time.sleep(0.01)


class Taker:
    """Takes the descriptors that are sent to a socket: terminals, seccomp listeners."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.taken: list[int] = []
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(path))
        self._socket.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                while (message := socket.recv_fds(connection, 65536, 8))[0]:
                    self.taken += message[1]

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for descriptor in self.taken:
            os.close(descriptor)
