"""Which descriptors the container's program gets: those asked for, and no other."""

from __future__ import annotations

import os
import select
import subprocess

import pytest


@pytest.fixture
def leaked(pyrunc, tmp_path):
    """Let the command have descriptors 3 to 9, as engines leak them.

    $LISTEN_PID is the command's own, unless a test says otherwise.
    """
    leak = tmp_path / "leak"
    leak.write_text("secret")
    redirections = " ".join(f"{number}<{leak}" for number in range(3, 10))
    script = f'export LISTEN_PID=${{LISTEN_PID-$$}}; exec "$@" {redirections}'
    pyrunc.command = ["sh", "-c", script, "sh", *pyrunc.command]
    return leak


@pytest.fixture(params=["run", "exec", "create"])
def program(request, make_bundle, pyrunc, tmp_path):
    """Return how to run a shell script in a container, one way or another."""

    def carry_out(script, *options, env=None, **how):
        environment = {**os.environ, **(env or {})}
        if request.param == "exec":
            container = pyrunc.start(make_bundle(args=["sleep", "1000"]))
            return pyrunc(
                "exec", *options, container.id, "sh", "-c", script, env=environment, **how
            )
        bundle = make_bundle()
        bundle.shell(script)
        if request.param == "run":
            return pyrunc.run(bundle, *options, env=environment, **how)
        container = pyrunc.create(bundle, *options, env=environment, **how)
        assert container.code == 0, container
        assert pyrunc("start", container.id).code == 0
        pyrunc.wait(container)
        return container

    return carry_out


# Listing the directory would show the descriptor that it takes.
OPEN = "i=0; while [ $i -lt 64 ]; do [ -e /proc/self/fd/$i ] && echo $i; i=$((i+1)); done; true"


def test_nothing_that_the_caller_leaks(program, leaked):
    done = program(OPEN)
    assert done.stdout.split() == ["0", "1", "2"], done


def test_preserved(program, leaked):
    done = program(OPEN + "; cat <&4", "--preserve-fds", "3")
    assert done.stdout.split() == ["0", "1", "2", "3", "4", "5", "secret"], done


def test_preserving_what_is_not_open_is_an_error(make_bundle, pyrunc):
    done = pyrunc.create(make_bundle(), "--preserve-fds", "2")
    assert done.code == 1
    assert "preserved-fd 3 (of 2)" in done.stderr
    container = pyrunc.start(make_bundle(args=["sleep", "1000"]))
    done = pyrunc("exec", "--preserve-fds", "1", container.id, "true")
    assert done.code == 255
    assert "preserved-fd 3 (of 1)" in done.stderr


def test_announced(program, leaked):
    script = f"echo $LISTEN_FDS $LISTEN_FDNAMES $(($LISTEN_PID == $$)); {OPEN}; cat <&4"
    done = program(script, env={"LISTEN_FDS": "2", "LISTEN_FDNAMES": "web:log"})
    assert done.stdout.split() == ["2", "web:log", "1", "0", "1", "2", "3", "4", "secret"], done


def test_announced_and_preserved(program, leaked):
    script = f"echo $LISTEN_FDS; {OPEN}"
    done = program(script, "--preserve-fds", "2", env={"LISTEN_FDS": "1"})
    assert done.stdout.split() == ["1", "0", "1", "2", "3", "4", "5"], done


def test_announced_but_closed(program, leaked):
    """Descriptors 3 to 9 are there, the others are not."""
    done = program("echo fds=$LISTEN_FDS", env={"LISTEN_FDS": "100"})
    assert done.stdout == "fds=7\n", done


@pytest.mark.parametrize("value", ["", "x", "-1", "99999999999999999999", "0"])
def test_announced_with_nonsense(program, leaked, value):
    done = program(f"echo fds=$LISTEN_FDS; {OPEN}", env={"LISTEN_FDS": value})
    assert done.stdout.split() == ["fds=", "0", "1", "2"], done


@pytest.mark.parametrize("pid", ["", "1", "0", "-1", "x", "99999999999999999999"])
def test_announced_to_somebody_else_or_to_nobody(program, leaked, pid):
    """Seen: without $LISTEN_PID whatever lay at 3 went into the container."""
    environment = {"LISTEN_FDS": "2", "LISTEN_PID": pid}
    done = program(f"echo fds=$LISTEN_FDS; {OPEN}", env=environment)
    assert done.stdout.split() == ["fds=", "0", "1", "2"], done


@pytest.mark.parametrize("closed", ["0", "1", "2", "0 1 2"])
def test_a_closed_stdio_never_becomes_another_file(make_bundle, pyrunc, tmp_path, closed):
    bundle = make_bundle(at=tmp_path / "b")
    # Looked at from a substitution's child: a redirection would replace what is looked at.
    links = "; ".join(f"link{n}=$(readlink /proc/$$/fd/{n})" for n in range(3))
    script = f"echo; echo >&2; {links}; echo $link0 $link1 $link2 >/result"
    bundle.process["args"] = ["sh", "-c", script]
    bundle.save()
    name = pyrunc.new_id()
    words = [*pyrunc.command, "run", "--bundle", str(bundle.path), name]
    shell = " ".join(f"{n}>&-" for n in closed.split())
    done = subprocess.run(
        ["sh", "-c", f'exec "$@" {shell}', "sh", *words],
        stdin=subprocess.PIPE, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done
    links = (bundle.rootfs / "result").read_text().split()
    for number in range(3):
        if str(number) in closed:
            assert links[number] == "/dev/null", links
        else:
            assert links[number].startswith("pipe:"), links


@pytest.mark.parametrize("closed", [[0], [1], [2], [0, 1, 2]])
def test_exec_with_closed_stdio(make_bundle, pyrunc, closed):
    container = pyrunc.start(make_bundle(args=["sleep", "1000"]))
    shell = " ".join(f"{n}>&-" for n in closed)
    done = subprocess.run(
        ["sh", "-c", f'exec "$@" {shell}', "sh", *pyrunc.command, "exec", container.id,
         "sh", "-c", "echo x; echo y >&2; exit 4"],
        stdin=subprocess.DEVNULL, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 4, done


def test_stdio_is_inherited_as_it_is(make_bundle, pyrunc, tmp_path):
    """Not copied: what the program has is the caller's very pipe."""
    read, write = os.pipe()
    bundle = make_bundle(args=["readlink", "/proc/self/fd/0"])
    done = pyrunc.run(bundle, stdin=read)
    assert done.stdout == f"pipe:[{os.fstat(read).st_ino}]\n"
    os.close(read)
    os.close(write)


def test_stdio_belongs_to_the_user(program_user):
    done = program_user("echo again >/dev/stdout; stat -L -c %u /proc/self/fd/1")
    assert "again" in done.stdout or "9" in done.stdout, done


@pytest.fixture
def program_user(make_bundle, pyrunc):
    def carry_out(script):
        container = pyrunc.start(make_bundle(args=["sleep", "1000"]))
        return pyrunc("exec", "-u", "9", container.id, "sh", "-c", script)

    return carry_out


def test_a_created_container_holds_nothing_of_the_callers(make_bundle, pyrunc):
    """Else a pipe's reader waits until the start, and a tracer inside reads a host's file."""
    reading, writing = os.pipe()
    created = pyrunc.create(make_bundle(args=["sleep", "100"]), pass_fds=(writing,))
    os.close(writing)
    assert select.select([reading], [], [], 5)[0], "somebody has the pipe open"
    assert os.read(reading, 1) == b""
    os.close(reading)
    pid = pyrunc.state(created)["pid"]
    numbers = [n for n in os.listdir(f"/proc/{pid}/fd") if int(n) > 2]
    names = [os.path.basename(os.readlink(f"/proc/{pid}/fd/{n}")) for n in numbers]
    assert sorted(names) == ["exec.fifo", "result.fifo"]
