"""A tracer in the container gets nothing from processes that enter it, or are made beside it.

The tracer (tracer.c) seizes each process of its pid namespace at once and walks it from system call
to system call; at each stop it looks at all that the process holds and tries to use it.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from below_filters import before_procfs_of_another
from traced import HERE, MARKER, Host, Taker, Trace

from pyrunc.security.capabilities import NAMES

USERS = 100000
NOTIFYING = {
    "defaultAction": "SCMP_ACT_ALLOW",
    "syscalls": [{"names": ["acct"], "action": "SCMP_ACT_NOTIFY"}],
}


@pytest.fixture(scope="session")
def tracer(compiled):
    return compiled("tracer", (HERE / "tracer.c").read_text())


@pytest.fixture
def host(public_path):
    return Host(public_path)


@pytest.fixture
def make_trace(make_bundle, pyrunc, tracer, host):
    def make(**changes):
        trace = Trace(make_bundle(**changes), pyrunc, tracer, host)
        trace.give_capabilities()
        return trace

    return make


@pytest.fixture
def taker(tmp_path):
    made = Taker(tmp_path / "taker.sock")
    yield made
    made.close()


@pytest.fixture
def victim():
    """A process of the host that must not be touched."""
    process = subprocess.Popen(["sleep", "1000"])
    yield process
    process.kill()
    process.wait()


def enter(trace, **how):
    done = trace.exec("true", **how)
    assert done.code == 0, done


def own_users(bundle):
    """Map the container's ids to others of the host's; what it is to write is theirs."""
    bundle.user_namespace(host=USERS)
    bundle.give_to(USERS)


def every_capability():
    last = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
    return [name.removeprefix("CAP_") for name in NAMES[: last + 1]]


def assert_clean(trace):
    sightings = trace.end()
    assert sightings.findings == []
    if not sightings.early:
        pytest.skip("this machine is too busy: the tracer was never quick enough")


@pytest.mark.parametrize("everything", [False, True], ids=["docker's and ptrace", "all"])
def test_exec(make_trace, factor, everything):
    """Seen failing: init forked into the pid namespace with the cgroup's birthplace still open.

    The tracer went up from there, read the host's file and made one, in each run of 50.
    """
    trace = make_trace()
    if everything:
        trace.give_capabilities(*every_capability())
    trace.start()
    trace.repeat((20 if everything else 50) * factor, lambda: enter(trace))
    assert_clean(trace)


@pytest.mark.parametrize(
    "options",
    [
        ("--preserve-fds", "1"),
        ("--user", "1000:1000"),
        ("--cap", "CAP_KILL", "--no-new-privs"),
        ("--cwd", "/tmp", "--env", "OWN_A=b"),
    ],
    ids=lambda words: words[0],
)
def test_exec_with(make_trace, factor, tmp_path, options):
    trace = make_trace()
    trace.start()
    trace.own.users.add("1000")
    (tmp_path / "given").touch()
    given = os.open(tmp_path / "given", os.O_RDWR)
    trace.own.give_file(given)
    numbers = (3,) if options[0] == "--preserve-fds" else ()
    how = {"pass_fds": numbers, "preexec_fn": lambda: os.dup2(given, 3)} if numbers else {}
    trace.repeat(10 * factor, lambda: enter(trace, options=options, **how))
    os.close(given)
    assert_clean(trace)


@pytest.mark.parametrize("mode", ["plain", "notify"])
def test_exec_under_a_filter(make_trace, taker, factor, mode):
    """What shows itself is filtered already: a process without a filter could be used instead."""
    trace = make_trace()
    section = dict(NOTIFYING)
    if mode == "plain":
        section["syscalls"] = [{"names": ["acct"], "action": "SCMP_ACT_ERRNO"}]
    else:
        section["listenerPath"] = str(taker.path)
    trace.bundle.linux["seccomp"] = section
    trace.start()
    trace.repeat(15 * factor, lambda: enter(trace))
    assert_clean(trace)


def test_exec_with_a_terminal(make_trace, taker, factor):
    trace = make_trace()
    trace.start()
    options = ("--tty", "--detach", "--console-socket", str(taker.path))
    trace.repeat(15 * factor, lambda: enter(trace, options=options))
    assert_clean(trace)


def test_exec_into_a_user_namespace(make_trace, public_path, factor):
    trace = make_trace(at=public_path / "tracer")
    own_users(trace.bundle)
    trace.start()
    trace.repeat(20 * factor, lambda: enter(trace))
    assert_clean(trace)


def neighbour(trace, make_bundle, at=None, *, user=False):
    """A bundle in the tracer's pid namespace, and in its user namespace."""
    bundle = make_bundle(args=["true"], at=at)
    bundle.namespace("pid", f"/proc/{trace.pid}/ns/pid")
    if user:
        bundle.namespace("user", f"/proc/{trace.pid}/ns/user")
        bundle.give_to(USERS)
    bundle.process["capabilities"] = trace.bundle.process["capabilities"]
    return bundle


@pytest.fixture(params=[False, True], ids=["procfs by option", "by a process"])
def below(request):
    """How `create` runs: as it is, or as before Linux 6.18 (foreign_proc.py)."""
    return before_procfs_of_another() if request.param else {}


def create_beside(trace, bundle, times, *options, **how):
    """Make and delete containers, whose own things may be seen."""
    pyrunc = trace.pyrunc
    if how:
        # This filter is the runtime's own; what comes from there has it, too.
        trace.own.seccomp.add("2")

    def create():
        created = pyrunc.create(bundle, *options, env=trace.environment, **how)
        if "a process there interfered" in created.stderr:
            # As it may (foreign_proc.py), but for nothing more than this. What it was made in
            # may have been seen, and cannot be asked for any more.
            trace.own.give_cgroup_like(trace.container.id, created.id)
            return
        assert created.code == 0, created
        trace.give_stdio(created)
        trace.own.give_container(pyrunc.state(created)["pid"])
        assert pyrunc("start", created.id, env=trace.environment).code == 0
        pyrunc.wait(created)
        assert pyrunc("delete", created.id).code == 0

    trace.repeat(times, create)
    trace.own.give_tree(bundle.rootfs)


@pytest.mark.parametrize("everything", [False, True], ids=["docker's and ptrace", "all"])
def test_create_in_a_joined_pid_namespace(make_trace, make_bundle, factor, below, everything):
    trace = make_trace()
    if everything:
        trace.give_capabilities(*every_capability())
    trace.start()
    create_beside(trace, neighbour(trace, make_bundle), 4 * factor, **below)
    assert_clean(trace)


def test_create_in_joined_user_and_pid_namespaces(
    make_trace, make_bundle, public_path, factor, below
):
    """A pod with users of its own: the builder must not be the neighbour's to trace."""
    trace = make_trace(at=public_path / "tracer")
    own_users(trace.bundle)
    trace.start()
    bundle = neighbour(trace, make_bundle, public_path / "other", user=True)
    create_beside(trace, bundle, 8 * factor, **below)
    assert_clean(trace)


def test_create_with_a_terminal_in_a_joined_pid_namespace(
    make_trace, make_bundle, taker, factor, below
):
    trace = make_trace()
    trace.start()
    bundle = neighbour(trace, make_bundle)
    bundle.process["terminal"] = True
    create_beside(trace, bundle, 4 * factor, "--console-socket", str(taker.path), **below)
    assert_clean(trace)


@pytest.mark.parametrize("kind", ["createContainer", "startContainer"])
@pytest.mark.parametrize("user", [False, True], ids=["host's users", "own users"])
def test_hooks_in_a_joined_pid_namespace(
    make_trace, make_bundle, public_path, factor, below, kind, user
):
    """Hooks of the container's are the container's own; nothing of the host is in their hands."""
    trace = make_trace(at=public_path / "tracer")
    if user:
        own_users(trace.bundle)
    trace.start()
    bundle = neighbour(trace, make_bundle, public_path / "other", user=user)
    bundle.config["hooks"] = {kind: [{"path": "/bin/true", "args": ["true"], "env": ["OWN_A=b"]}]}
    create_beside(trace, bundle, 4 * factor, **below)
    assert_clean(trace)


def test_a_listener_in_a_joined_pid_namespace(make_trace, make_bundle, taker, factor, below):
    trace = make_trace()
    trace.start()
    bundle = neighbour(trace, make_bundle)
    bundle.linux["seccomp"] = {**NOTIFYING, "listenerPath": str(taker.path)}
    # The tracer is not filtered itself; those that are come and go.
    trace.own.seccomp |= {"2"}
    create_beside(trace, bundle, 4 * factor, **below)
    assert_clean(trace)


@pytest.mark.parametrize("notify", [False, True])
def test_what_init_says_to_the_runtime_cannot_be_forged(make_trace, taker, victim, factor, notify):
    """A number written into a pipe of init's must not be taken for the pid of our own child."""
    trace = make_trace()
    if notify:
        trace.bundle.linux["seccomp"] = {**NOTIFYING, "listenerPath": str(taker.path)}
    trace.start(forge=victim.pid)
    pid_file = trace.bundle.path / "pid"

    def enter_with_a_pid_file():
        # It may fail, but not hang, and not touch others.
        trace.exec("true", options=("--pid-file", str(pid_file)))
        assert victim.poll() is None
        assert not pid_file.exists() or pid_file.read_text() != str(victim.pid)

    trace.repeat(10 * factor, enter_with_a_pid_file)
    # There is nothing to write to.
    assert not trace.end().forged


def test_what_a_created_init_says_cannot_be_forged(make_trace, make_bundle, victim, factor):
    trace = make_trace()
    trace.start(forge=victim.pid)
    bundle = neighbour(trace, make_bundle)

    def create_and_start():
        created = trace.pyrunc.create(bundle)
        trace.pyrunc("start", created.id)
        trace.pyrunc("delete", "--force", created.id)
        assert victim.poll() is None

    trace.repeat(4 * factor, create_and_start)
    assert trace.end().forged


def test_the_tracer_would_see_the_hosts_things(make_trace, pyrunc, host):
    """A hostile thing handed in on purpose is found by all the ways there are to look."""
    trace = make_trace()
    trace.start()
    directory = os.open(host.open, os.O_RDONLY | os.O_DIRECTORY)
    number = 3
    result = pyrunc(
        "exec", "--preserve-fds", "1", "--env", f"FOREIGN={MARKER}", trace.container.id,
        "sleep", "0.3",
        pass_fds=(number,), preexec_fn=lambda: os.dup2(directory, number),
    )  # fmt: skip
    os.close(directory)
    trace.give_stdio(result)
    assert result.code == 0
    found = " ".join(trace.end().findings)
    for words in (
        f"fd 3 {host.open}", "used read the host's secret", "used planted a file",
        f"environ FOREIGN={MARKER}", "used read the runtime's environment", "planted on the host",
    ):  # fmt: skip
        assert words in found
