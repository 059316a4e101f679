"""`exec`: what the process is, where it is, and what the caller learns of its end."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from pathlib import Path

import pytest
from exec_fixtures import box, status_of

__all__ = ["box"]


CAPABILITY_BITS = {"CAP_KILL": 5, "CAP_NET_BIND_SERVICE": 10, "CAP_NET_ADMIN": 12}


@pytest.fixture
def shared(box):
    return box()


def test_output_and_exit_code_are_the_process_s(box, pyrunc):
    container = box()
    done = pyrunc.exec(container, "sh", "-c", "echo out; echo err >&2; exit 42")
    assert (done.code, done.stdout, done.stderr) == (42, "out\n", "err\n")


@pytest.mark.parametrize("code", [0, 1, 126, 127, 128, 254, 255])
def test_every_exit_code_passes(box, pyrunc, code):
    assert pyrunc.exec(box(), "sh", "-c", f"exit {code}").code == code


@pytest.mark.parametrize(("name", "number"), [("KILL", 9), ("TERM", 15), ("SEGV", 11)])
def test_death_by_signal_is_128_and_the_number(box, pyrunc, name, number):
    done = pyrunc.exec(box(), "sh", "-c", f"kill -{name} $$")
    assert done.code == 128 + number


def test_defaults_come_from_the_container_s_process(box, pyrunc):
    container = box(
        process={
            "cwd": "/tmp",
            "user": {"uid": 7, "gid": 8, "additionalGids": [20, 21], "umask": 0o27},
            "env": ["PATH=/bin", "COLOUR=red"],
            "rlimits": [{"type": "RLIMIT_CORE", "soft": 5, "hard": 6}],
            "noNewPrivileges": True,
        }
    )
    script = "pwd; id -u; id -g; id -G; umask; echo $COLOUR; ulimit -c; ulimit -Hc"
    done = pyrunc.exec(container, "sh", "-c", script)
    # `ulimit -c` counts blocks of 512 bytes.
    assert done.stdout.split("\n")[:6] == ["/tmp", "7", "8", "8 20 21", "0027", "red"]
    status = pyrunc.exec(container, "cat", "/proc/self/status", "/proc/self/limits").stdout
    assert status_of(status)["NoNewPrivs"] == "1"
    assert "Max core file size        5                    6 " in status


def test_flags_override_them(box, pyrunc):
    container = box(process={"user": {"uid": 7, "gid": 8, "additionalGids": [20]}})
    script = "pwd; id -u; id -g; id -G; echo $A $B"
    done = pyrunc(
        "exec", "--cwd", "/var", "-u", "11:12", "-g", "30", "-g", "31", "-e", "A=1", "--env", "B=2",
        "-e", "A=3", container.id, "sh", "-c", script,
    )  # fmt: skip
    assert done.stdout.split("\n")[:5] == ["/var", "11", "12", "12 20 30 31", "3 2"]


def test_into_a_created_container(make_bundle, pyrunc):
    container = pyrunc.create(make_bundle(args=["true"]))
    done = pyrunc.exec(container, "sh", "-c", "echo $$; hostname; exit 5")
    assert (done.code, done.stdout.split()[1]) == (5, "box"), done
    assert pyrunc.state(container)["status"] == "created"


def test_refused_by_a_stopped_container(make_bundle, pyrunc):
    container = pyrunc.start(make_bundle(args=["true"]))
    pyrunc.wait(container)
    done = pyrunc.exec(container, "true")
    assert done.code == 255
    assert "cannot exec in a stopped container" in done.stderr


def test_two_dashes_before_the_program_are_no_program(shared, pyrunc):
    done = pyrunc.exec(shared, "--", "echo", "--", "-n")
    assert (done.code, done.stdout) == (0, "-- -n\n")
    done = pyrunc.exec(shared, "--")
    assert done.code == 255
    assert "process args cannot be empty" in done.stderr


def test_paused_container(box, pyrunc):
    container = box()
    assert pyrunc("pause", container.id).code == 0
    done = pyrunc.exec(container, "true")
    assert done.code == 255
    assert "cannot exec in a paused container (unless with --ignore-paused)" in done.stderr
    results = []
    thread = threading.Thread(
        target=lambda: results.append(
            pyrunc("exec", "--ignore-paused", container.id, "sh", "-c", "exit 9")
        )
    )
    thread.start()
    time.sleep(0.3)
    assert results == []
    assert pyrunc("resume", container.id).code == 0
    thread.join(10)
    assert [r.code for r in results] == [9]


def test_unknown_container(pyrunc):
    done = pyrunc("exec", "nobody", "true")
    assert done.code == 255
    assert "container does not exist" in done.stderr


def test_process_file(box, pyrunc):
    container = box(process={"rlimits": [{"type": "RLIMIT_NOFILE", "soft": 77, "hard": 78}]})
    path = container.bundle.path / "process.json"
    process = {
        "args": [
            "sh",
            "-c",
            "pwd; id -u; echo $X; umask; ulimit -n; grep CapEff /proc/self/status",
        ],
        "cwd": "/tmp",
        "env": ["PATH=/bin", "X=y"],
        "user": {"uid": 0, "gid": 3, "umask": 0o77},
    }
    path.write_text(json.dumps(process))
    done = pyrunc("exec", "-p", path, container.id)
    assert done.stdout.split("\n")[:5] == ["/tmp", "0", "y", "0077", "77"], done
    assert "0000000020000420" in done.stdout


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"args": []}, "args"),
        ({"cwd": "relative"}, "cwd"),
        ({"user": {"uid": -1}}, "uid"),
        ({"rlimits": [{"type": "RLIMIT_X", "soft": 1, "hard": 1}]}, "RLIMIT_X"),
        ({"oomScoreAdj": 5000}, "oomScoreAdj"),
    ],
)
def test_process_file_with_a_mistake(box, pyrunc, change, words):
    container = box()
    path = container.bundle.path / "process.json"
    path.write_text(json.dumps({"args": ["true"], "cwd": "/", **change}))
    done = pyrunc("exec", "-p", path, container.id)
    assert done.code == 255
    assert words in done.stderr


def test_detached(box, pyrunc):
    container = box()
    pid_file = container.bundle.path / "pid"
    done = pyrunc(
        "exec", "-d", "--pid-file", pid_file, container.id, "sh", "-c", "echo there; sleep 100"
    )
    assert done.code == 0
    pid = pid_file.read_text()
    assert pid.isdigit()
    assert os.readlink(f"/proc/{pid}/exe") == "/bin/busybox"
    for _ in range(100):
        if done.stdout:
            break
        time.sleep(0.02)
    assert done.stdout == "there\n"


def test_detached_reports_a_missing_program(box, pyrunc):
    container = box()
    pid_file = container.bundle.path / "pid"
    done = pyrunc("exec", "-d", "--pid-file", pid_file, container.id, "nothing")
    assert done.code == 255
    assert 'exec: \\"nothing\\": executable file not found in $PATH' in done.stderr
    assert not pid_file.exists()


def test_a_pid_file_that_cannot_be_written_leaves_no_process(box, pyrunc):
    container = box()
    done = pyrunc("exec", "-d", "--pid-file", "/nowhere/pid", container.id, "sleep", "12345")
    assert done.code == 255
    assert "/nowhere/pid" in done.stderr
    for _ in range(100):
        if len(json.loads(pyrunc("ps", "-f", "json", container.id).stdout)) == 1:
            break
        time.sleep(0.02)
    else:
        pytest.fail("the process lives on")


def test_pidfd_socket(box, pyrunc, tmp_path):
    container = box()
    path = tmp_path / "pidfd.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        pid_file = tmp_path / "pid"
        done = pyrunc(
            "exec",
            "-d",
            "--pidfd-socket",
            path,
            "--pid-file",
            pid_file,
            container.id,
            "sleep",
            "99",
        )
        assert done.code == 0, done
        connection, _ = listener.accept()
        with connection:
            _, descriptors, _, _ = socket.recv_fds(connection, 100, 1)
    told = Path(f"/proc/self/fdinfo/{descriptors[0]}").read_text()
    os.close(descriptors[0])
    assert f"Pid:\t{pid_file.read_text()}\n" in told


def test_oom_score(box, pyrunc):
    container = box(process={"oomScoreAdj": 321})
    assert pyrunc.exec(container, "cat", "/proc/self/oom_score_adj").stdout == "321\n"
    path = container.bundle.path / "process.json"
    process = {"args": ["cat", "/proc/self/oom_score_adj"], "cwd": "/", "env": ["PATH=/bin"]}
    path.write_text(json.dumps(process))
    assert pyrunc("exec", "-p", path, container.id).stdout == "321\n"
    path.write_text(json.dumps({**process, "oomScoreAdj": 500}))
    assert pyrunc("exec", "-p", path, container.id).stdout == "500\n"


def test_sub_cgroups(box, pyrunc):
    container = box()
    pid = pyrunc.state(container)["pid"]
    own = dict(line.split(":")[1:] for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines())
    if "pids" not in own:
        pytest.skip("needs the pids hierarchy of cgroup v1")
    path = Path(f"/sys/fs/cgroup/pids{own['pids']}/sub")
    path.mkdir()
    try:
        done = pyrunc("exec", "--cgroup", "pids:sub", container.id, "cat", "/proc/self/cgroup")
        lines = [line.split(":")[1:] for line in done.stdout.splitlines()]
        assert ["pids", f"{own['pids']}/sub"] in lines, done
        assert ["memory", own["memory"]] in lines
        for wanted, words in (
            ("pids:..", "bad sub cgroup path"),
            ("../other", "bad sub cgroup path"),
            ("pids:../../..", "bad sub cgroup path"),
            ("nonsense:sub", "unknown controller nonsense"),
            (":sub", "invalid --cgroup argument"),
            ("pids:missing", "missing"),
        ):
            done = pyrunc("exec", "--cgroup", wanted, container.id, "true")
            assert done.code == 255, wanted
            assert words in done.stderr
        done = pyrunc("exec", "--cgroup", "pids:/", "--cgroup", "memory:/", container.id, "true")
        assert done.code == 0, done
        done = pyrunc("exec", "--cgroup", "a", "--cgroup", "b", container.id, "true")
        assert "missing <controller>: prefix" in done.stderr
    finally:
        for _ in range(50):
            try:
                path.rmdir()
                break
            except OSError:
                time.sleep(0.02)


@pytest.mark.parametrize("number", range(3, 31))
def test_a_working_directory_behind_a_descriptor_is_refused(shared, pyrunc, number):
    """CVE-2024-21626, through exec."""
    done = pyrunc("exec", "--cwd", f"/proc/self/fd/{number}", shared.id, "pwd")
    assert done.code == 255
    assert "chdir to cwd" in done.stderr, done


def test_a_working_directory_that_is_a_link_to_one_is_refused(shared, pyrunc):
    for number in range(3, 31):
        link = shared.bundle.rootfs / f"link{number}"
        link.symlink_to(f"/proc/self/fd/{number}")
        done = pyrunc("exec", "--cwd", f"/link{number}", shared.id, "pwd")
        assert done.code == 255, done


@pytest.mark.parametrize("no_new_privileges", [True, False])
def test_a_seccomp_agent_gets_a_listener_for_each_process(
    make_bundle, pyrunc, tmp_path, no_new_privileges
):
    path = tmp_path / "agent.sock"
    bundle = make_bundle(
        args=["sleep", "1000"],
        process={"noNewPrivileges": no_new_privileges},
        linux={
            "seccomp": {
                "defaultAction": "SCMP_ACT_ALLOW",
                "listenerPath": str(path),
                "listenerMetadata": "of-the-test",
                "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY"}],
            }
        },
    )
    told = []

    def take(listener):
        for _ in range(2):
            connection, _ = listener.accept()
            with connection:
                message, descriptors, _, _ = socket.recv_fds(connection, 65536, 1)
            told.append(json.loads(message))
            # Without anybody who answers the call is not there (seccomp_unotify(2)).
            os.close(descriptors[0])

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        thread = threading.Thread(target=take, args=(listener,))
        thread.start()
        container = pyrunc.start(bundle)
        done = pyrunc.exec(container, "sh", "-c", "mkdir /tmp/d; echo went on")
        thread.join(10)
    assert done.stdout == "went on\n", done
    assert "Function not implemented" in done.stderr
    init = pyrunc.state(container)["pid"]
    assert [t["state"]["id"] for t in told] == [container.id] * 2
    assert [t["metadata"] for t in told] == ["of-the-test"] * 2
    assert told[0]["pid"] == init
    assert told[1]["pid"] != init
    assert told[1]["state"]["pid"] == init
    assert [t["fds"] for t in told] == [["seccompFd"]] * 2


def test_a_seccomp_agent_that_is_not_there(make_bundle, pyrunc, tmp_path):
    path = tmp_path / "agent.sock"
    bundle = make_bundle(args=["sleep", "1000"])
    bundle.linux["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "listenerPath": str(path),
        "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}],
    }
    done = pyrunc.create(bundle)
    assert done.code == 1
    assert "cannot send the seccomp listener to" in done.stderr
