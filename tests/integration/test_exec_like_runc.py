"""`exec` beside runc's: the same exit code, the same output, and the words that engines look for.

The two runtimes get the same bundle and the same command line. Where runc has no words worth
keeping, only code and output are compared.
"""

from __future__ import annotations

import json

import pytest

NOT_FOUND = "executable file not found in $PATH"
MISSING = "no such file or directory"

# (name, options, command, words in stderr)
SITUATIONS = [
    ("true", [], ["true"], ""),
    ("exit 1", [], ["sh", "-c", "exit 1"], ""),
    ("exit 126", [], ["sh", "-c", "exit 126"], ""),
    ("exit 127", [], ["sh", "-c", "exit 127"], ""),
    ("exit 255", [], ["sh", "-c", "exit 255"], ""),
    ("killed", [], ["sh", "-c", "kill -9 $$"], ""),
    ("terminated", [], ["sh", "-c", "kill -TERM $$"], ""),
    ("segfault", [], ["sh", "-c", "kill -SEGV $$"], ""),
    ("shell's own 127", [], ["sh", "-c", "nothing"], ""),
    ("output", [], ["echo", "a", "", "b c"], ""),
    ("environment", [], ["env"], ""),
    ("environment added", ["-e", "A=1", "-e", "B=2"], ["env"], ""),
    ("environment replaced", ["-e", "TERM=dumb"], ["sh", "-c", "echo $TERM"], ""),
    ("empty variable", ["-e", "A="], ["sh", "-c", "echo ${A-unset}"], ""),
    ("PATH replaced", ["-e", "PATH=/nowhere"], ["true"], NOT_FOUND),
    ("PATH empty", ["-e", "PATH="], ["true"], NOT_FOUND),
    ("PATH with two", ["-e", "PATH=/nowhere:/bin"], ["true"], ""),
    ("HOME", [], ["sh", "-c", "echo $HOME"], ""),
    ("HOME of another", ["-u", "33"], ["sh", "-c", "echo $HOME"], ""),
    ("HOME of nobody", ["-u", "4444"], ["sh", "-c", "echo $HOME"], ""),
    ("user", ["-u", "5"], ["id"], ""),
    ("user and group", ["--user", "5:6"], ["id"], ""),
    ("user with groups", ["-u", "5:6", "-g", "7", "-g", "8"], ["id"], ""),
    ("user by name", ["-u", "root"], ["true"], ""),
    ("user and bad group", ["-u", "0:x"], ["true"], ""),
    ("cwd", ["--cwd", "/tmp"], ["pwd"], ""),
    ("cwd missing", ["--cwd", "/nowhere"], ["pwd"], MISSING),
    ("cwd is a file", ["--cwd", "/file"], ["pwd"], "not a directory"),
    ("cwd forbidden", ["--cwd", "/private", "-u", "5"], ["pwd"], ""),
    ("cwd relative", ["--cwd", "tmp"], ["pwd"], "Cwd must be an absolute path"),
    ("missing by name", [], ["nothing"], NOT_FOUND),
    ("missing by path", [], ["/nothing"], MISSING),
    ("missing relative", [], ["./nothing"], MISSING),
    ("directory", [], ["/bin"], "is a directory"),
    ("not executable", [], ["/file"], "permission denied"),
    ("not executable by name", ["-e", "PATH=/"], ["file"], ""),
    ("forbidden to the user", ["-u", "5"], ["/root-only"], "permission denied"),
    ("below a forbidden directory", ["-u", "5"], ["/private/true"], "permission denied"),
    ("below a file", [], ["/file/true"], "not a directory"),
    ("missing interpreter", [], ["/no-interpreter"], MISSING),
    ("no format", [], ["/no-format"], "exec format error"),
    ("empty program", [], [""], ""),
    ("relative program", ["--cwd", "/bin"], ["./true"], ""),
    ("dangling link", [], ["/dangling"], MISSING),
    ("endless link", [], ["/endless"], "too many levels of symbolic links"),
    ("link out of the root", [], ["/outwards"], MISSING),
    ("no new privileges", ["--no-new-privs"], ["grep", "NoNewPrivs", "/proc/self/status"], ""),
    ("capability", ["--cap", "CAP_NET_ADMIN"], ["grep", "Cap", "/proc/self/status"], ""),
    ("capability unknown", ["--cap", "CAP_NOTHING"], ["true"], ""),
    ("user's capabilities", ["-u", "5"], ["grep", "Cap", "/proc/self/status"], ""),
    ("limits", [], ["grep", "open files", "/proc/self/limits"], ""),
    ("groups of nobody", [], ["grep", "Groups", "/proc/self/status"], ""),
    ("umask", [], ["sh", "-c", "umask"], ""),
    ("signals", [], ["grep", "Sig[BI]", "/proc/self/status"], ""),
    ("session", [], ["sh", "-c", "cut -d' ' -f5,6,7 /proc/self/stat | tr -d 0-9"], ""),
    ("hostname", [], ["hostname"], ""),
    ("terminal", ["-t"], ["sh", "-c", "stty size </dev/null; echo x"], ""),
    ("terminal detached", ["-t", "-d"], ["true"], "cannot allocate tty if"),
    ("console socket alone", ["--console-socket", "/s"], ["true"], "cannot use console socket if"),
    ("detached", ["-d"], ["true"], ""),
    ("detached and missing", ["-d"], ["nothing"], NOT_FOUND),
    ("preserved and closed", ["--preserve-fds", "1"], ["true"], "preserved-fd"),
    ("bad sub cgroup", ["--cgroup", "../../x"], ["true"], "bad sub cgroup path"),
    ("flags of the program", [], ["echo", "-n", "--cwd", "/x"], ""),
]  # fmt: skip
# What runc's own answer cannot be compared with, and why.
DIFFERENT = {
    # runc has no terminal to copy its attributes from and refuses.
    "terminal": (0, None),
    # runc 1.1 says that it ignores it, in a line of Go's log without words to rely on.
    "capability unknown": (0, ""),
    # runc 1.1 has its process exit with 1, later ones with 255, like all that exec cannot do.
    "missing interpreter": (255, ""),
    "no format": (255, ""),
    # Its words of 1.1 are the errno's; engines know those of 1.2.
    "directory": (255, ""),
    "bad sub cgroup": (255, ""),
    # Descriptor 3 is one of runc's own, so that it finds it open.
    "preserved and closed": (255, ""),
}


@pytest.fixture(scope="module")
def prepare():
    def prepare_rootfs(bundle):
        root = bundle.rootfs
        (root / "etc/passwd").write_text(
            "root:x:0:0::/root:/bin/sh\nann:x:33:33::/home/ann:/bin/sh\n"
        )
        (root / "file").write_text("text\n")
        (root / "file").chmod(0o644)
        (root / "private").mkdir(mode=0o700)
        (root / "private/true").symlink_to("/bin/busybox")
        (root / "root-only").write_text("#!/bin/sh\n")
        (root / "root-only").chmod(0o700)
        (root / "no-interpreter").write_text("#!/nothing\n")
        (root / "no-format").write_bytes(b"\x00\x01\x02")
        for name in ("no-interpreter", "no-format"):
            (root / name).chmod(0o755)
        (root / "dangling").symlink_to("/nothing")
        (root / "endless").symlink_to("endless")
        (root / "outwards").symlink_to("../../../../../../../../../usr/bin/env")
        return bundle

    return prepare_rootfs


@pytest.fixture
def pair(make_bundle, prepare, pyrunc, runc):
    """The same container under both runtimes."""

    def start(**changes):
        made = []
        for runtime in (pyrunc, runc):
            bundle = prepare(make_bundle(args=["sleep", "1000"], **changes))
            made.append((runtime, runtime.start(bundle)))
        return made

    return start


def test_each_situation(pair):
    """One pair of containers for all: starting them is what takes time."""
    containers = pair()
    wrong = []
    for name, options, command, words in SITUATIONS:
        ours, theirs = (r("exec", *options, c.id, *command) for r, c in containers)
        code, output = DIFFERENT.get(name, (theirs.code, theirs.stdout))
        if ours.code != code:
            wrong.append((name, "exit code", ours, theirs))
        if output is not None and normal(name, ours.stdout) != normal(name, output):
            wrong.append((name, "output", ours, theirs))
        if words and words not in ours.stderr:
            wrong.append((name, "our words", ours, theirs))
        if words and name not in DIFFERENT and words not in theirs.stderr:
            wrong.append((name, "their words", ours, theirs))
    assert not wrong, "\n" + "\n".join(map(str, wrong))


def normal(name, output):
    """The order of an environment means nothing."""
    return sorted(output.splitlines()) if name.startswith("environment") else output


PROCESSES = [
    ("plain", {}, 0),
    ("terminal false", {"terminal": False}, 0),
    ("no env", {"env": []}, 0),
    ("user", {"user": {"uid": 5, "gid": 6, "additionalGids": [7]}}, 0),
    ("no capabilities", {"capabilities": {}}, 0),
    ("some capabilities", {"capabilities": {"bounding": ["CAP_KILL"], "effective": ["CAP_KILL"],
                                           "permitted": ["CAP_KILL"]}}, 0),
    # Alike, since runc's Go runtime raises the soft limit of open files to the hard one at times.
    ("limits", {"rlimits": [{"type": "RLIMIT_NOFILE", "soft": 30, "hard": 30}]}, 0),
    ("no new privileges", {"noNewPrivileges": True}, 0),
    ("no args", {"args": []}, 255),
    ("no cwd", {"cwd": ""}, 255),
    ("relative cwd", {"cwd": "tmp"}, 255),
]  # fmt: skip


def test_each_process_file(pair, tmp_path):
    # runc 1.1 takes the caller's limits where the file has none, we the container's.
    containers = pair(process={"noNewPrivileges": False, "rlimits": []})
    script = "id; env | sort; pwd; grep -E 'Cap|NoNew' /proc/self/status; ulimit -n; umask"
    wrong = []
    for name, change, code in PROCESSES:
        process = {"args": ["/bin/sh", "-c", script], "cwd": "/", "env": ["PATH=/bin", "X=1"]}
        path = tmp_path / "process.json"
        path.write_text(json.dumps({**process, **change}))
        ours, theirs = (r("exec", "--process", path, c.id) for r, c in containers)
        if not ours.code == theirs.code == code:
            wrong.append((name, "exit code", ours, theirs))
        if ours.stdout != theirs.stdout:
            wrong.append((name, "output", ours, theirs))
    assert not wrong, "\n" + "\n".join(map(str, wrong))


def test_each_status(pair, make_bundle):
    """Created, paused, stopped, gone."""
    for runtime, container in pair():
        assert runtime("pause", container.id).code == 0
        done = runtime.exec(container, "true")
        assert done.code == 255
        assert "cannot exec in a paused container" in done.stderr
        assert runtime("resume", container.id).code == 0
        assert runtime("kill", container.id, "KILL").code == 0
        runtime.wait(container)
        done = runtime.exec(container, "true")
        assert done.code == 255
        assert "cannot exec in a stopped container" in done.stderr
        assert runtime("delete", container.id).code == 0
        done = runtime.exec(container, "true")
        assert done.code == (255 if runtime.name == "pyrunc" else done.code)
        assert "container does not exist" in done.stderr
        created = runtime.create(make_bundle(args=["true"]))
        assert runtime.exec(created, "sh", "-c", "exit 9").code == 9
