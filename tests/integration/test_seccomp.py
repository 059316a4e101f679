"""linux.seccomp as a container's program meets it (config-linux.md, "Seccomp").

Which verdict the filter gives for which arguments is for tests/unit/test_seccomp_compile.py, with
all of the operators, architectures and actions; here the kernel is asked, from inside.
"""

from __future__ import annotations

import errno
import signal
from pathlib import Path

import pytest
from seccomp_fixtures import GETPPID, caller, calling, rule, section

from pyrunc.linux.numbers import MACHINE
from pyrunc.security.libseccomp import Libseccomp
from pyrunc.security.seccomp_compile import supported_flags
from pyrunc.spec.seccomp import ACTIONS, ARCHITECTURES, FLAGS, OPERATORS

__all__ = ["caller", "calling"]


GETCWD = {"x86_64": 79, "aarch64": 17}[MACHINE]


GETCWD_32 = 183


@pytest.mark.parametrize(
    ("action", "more", "said"),
    [
        ("SCMP_ACT_ALLOW", {}, "0"),
        ("SCMP_ACT_LOG", {}, "0"),
        ("SCMP_ACT_ERRNO", {}, str(errno.EPERM)),
        ("SCMP_ACT_ERRNO", {"errnoRet": errno.ENOTTY}, str(errno.ENOTTY)),
        # Without a tracer the call is not there (seccomp(2)).
        ("SCMP_ACT_TRACE", {"errnoRet": 7}, str(errno.ENOSYS)),
        ("SCMP_ACT_TRAP", {}, "trapped"),
    ],
)
def test_action_that_the_program_survives(calling, pyrunc, action, more, said):
    bundle = calling(section(rule(action, **more)), "handle", str(GETPPID))
    result = pyrunc.run(bundle)
    assert (result.code, result.stdout) == (0, f"{said}\n"), result


@pytest.mark.parametrize(
    "action", ["SCMP_ACT_KILL", "SCMP_ACT_KILL_THREAD", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_TRAP"]
)
def test_action_that_kills(calling, pyrunc, action):
    bundle = calling(section(rule(action)), str(GETCWD), str(GETPPID), str(GETCWD))
    # A call whose number is another is not meant.
    result = pyrunc.run(bundle)
    assert result.code == 128 + signal.SIGSYS
    assert result.stdout.splitlines() == [str(errno.ERANGE)]


@pytest.mark.parametrize(
    ("op", "value", "second", "hit", "miss"),
    [
        ("SCMP_CMP_NE", 5, None, 4, 5),
        ("SCMP_CMP_LT", 5, None, 4, 5),
        ("SCMP_CMP_LE", 5, None, 5, 6),
        ("SCMP_CMP_EQ", 5, None, 5, 4),
        ("SCMP_CMP_GE", 5, None, 5, 4),
        ("SCMP_CMP_GT", 5, None, 6, 5),
        ("SCMP_CMP_MASKED_EQ", 0xF0, 0x50, 0x5A, 0x6A),
        ("SCMP_CMP_EQ", 1 << 63, None, 1 << 63, 0),
    ],
)
def test_operator(calling, pyrunc, op, value, second, hit, miss):
    arg = {"index": 2, "value": value, "op": op}
    if second is not None:
        arg["valueTwo"] = second
    seccomp = section(rule("SCMP_ACT_ERRNO", errnoRet=errno.ENOTTY, args=[arg]))
    bundle = calling(seccomp, f"{GETPPID},0,0,{hit}", f"{GETPPID},0,0,{miss}")
    assert pyrunc.run(bundle).stdout.split() == [str(errno.ENOTTY), "0"]


def test_every_name_of_an_operator_an_action_or_an_architecture_is_taken(calling, pyrunc):
    """An architecture that cannot run here changes nothing."""
    arguments = [{"index": 0, "value": 1, "valueTwo": 1, "op": op} for op in OPERATORS]
    rules = [rule("SCMP_ACT_ERRNO", "getcwd", args=[argument]) for argument in arguments]
    rules += [
        rule(action, "acct", args=[{"index": 0, "value": n, "op": "SCMP_CMP_EQ"}])
        for n, action in enumerate(ACTIONS)
        if action != "SCMP_ACT_NOTIFY"
    ]
    seccomp = section(*rules, architectures=list(ARCHITECTURES), flags=list(FLAGS))
    result = pyrunc.run(calling(seccomp, str(GETPPID)))
    assert (result.code, result.stdout) == (0, "0\n"), result


@pytest.mark.skipif(MACHINE != "x86_64", reason="the 32-bit entry of x86_64")
@pytest.mark.parametrize("listed", [True, False])
def test_the_32_bit_entry(calling, pyrunc, listed):
    free = calling(section(architectures=["SCMP_ARCH_X86"]), f"32:{GETCWD_32}")
    if pyrunc.run(free).stdout != f"{errno.ERANGE}\n":
        pytest.skip("the kernel runs no 32-bit system calls")
    seccomp = section(rule("SCMP_ACT_ERRNO", "getcwd", errnoRet=errno.ENOTTY))
    seccomp["architectures"] = ["SCMP_ARCH_X86_64", *(["SCMP_ARCH_X86"] if listed else [])]
    result = pyrunc.run(calling(seccomp, str(GETCWD), f"32:{GETCWD_32}"))
    if listed:
        assert result.stdout.split() == [str(errno.ENOTTY)] * 2
    else:
        # Never is an entry that the profile does not cover a way around it.
        assert result.code == 128 + signal.SIGSYS
        assert result.stdout.split() == [str(errno.ENOTTY)]


def test_calls_newer_than_the_profile_get_enosys(calling, pyrunc):
    """A C library falls back on an older call then; at EPERM it would give up."""
    library = Libseccomp()
    native = library.native_architecture()
    newest = library.syscall_number(native, "openat2")
    names = {library.syscall_name(native, number) for number in range(newest + 1)}
    allowed = rule("SCMP_ACT_ALLOW", *sorted(names - {None, "getppid"}))
    seccomp = {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [allowed]}
    bundle = calling(seccomp, str(GETPPID), str(newest + 20), "1000")
    said = pyrunc.run(bundle).stdout.split()
    assert said == [str(errno.EPERM), str(errno.ENOSYS), str(errno.ENOSYS)]
    seccomp["defaultErrnoRet"] = errno.EACCES
    said = pyrunc.run(calling(seccomp, str(GETPPID), "1000")).stdout.split()
    assert said == [str(errno.EACCES), str(errno.ENOSYS)]


@pytest.mark.parametrize("flags", [None, [], *([flag] for flag in FLAGS), list(FLAGS)], ids=str)
@pytest.mark.parametrize("no_new_privileges", [True, False])
def test_flags(make_bundle, pyrunc, flags, no_new_privileges):
    """Each is loaded, with privilege or without; the kernel tells of one filter."""
    for flag in flags or ():
        if flag not in supported_flags():
            pytest.skip(f"the kernel has no {flag}")
    seccomp = section(rule("SCMP_ACT_ERRNO"))
    if flags is not None:
        seccomp["flags"] = flags
    bundle = make_bundle(
        args=["sleep", "100"],
        process={"noNewPrivileges": no_new_privileges},
        linux={"seccomp": seccomp},
    )
    pid = pyrunc.state(pyrunc.start(bundle))["pid"]
    status = Path(f"/proc/{pid}/status").read_text()
    fields = dict(line.split(":\t", 1) for line in status.splitlines())
    ours = dict(line.split(":\t", 1) for line in Path("/proc/self/status").read_text().splitlines())
    assert fields["Seccomp"] == "2"
    assert int(fields["Seccomp_filters"]) == int(ours["Seccomp_filters"]) + 1


@pytest.mark.parametrize(
    ("seccomp", "where"),
    [
        (section(rule("SCMP_ACT_ALLOW", errnoRet=1)), "syscalls[0].errnoRet"),
        (section(rule("SCMP_ACT_KILL", errnoRet=0)), "syscalls[0].errnoRet"),
        (section(defaultErrnoRet=1), "defaultErrnoRet"),
        (section(rule("SCMP_ACT_KILL", names=[])), "syscalls[0].names"),
        (section(architectures=["SCMP_ARCH_VAX"]), "architectures[0]"),
        (section(flags=["SECCOMP_FILTER_FLAG_NEW_LISTENER"]), "flags[0]"),
        (section(listenerMetadata="x"), "listenerMetadata"),
        ({"defaultAction": "SCMP_ACT_NOTIFY", "listenerPath": "/x"}, "defaultAction"),
    ],
)
def test_a_mistake_is_named_by_its_path(make_bundle, pyrunc, seccomp, where):
    result = pyrunc.create(make_bundle(linux={"seccomp": seccomp}))
    assert result.code == 1
    assert f"linux.seccomp.{where}" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_an_errno_that_there_is_not_is_refused(make_bundle, pyrunc):
    """Cut to what the kernel has room for, it could make a denied call succeed."""
    seccomp = section(rule("SCMP_ACT_ERRNO", errnoRet=65536))
    result = pyrunc.create(make_bundle(linux={"seccomp": seccomp}))
    assert result.code == 1
    assert "errno 65536 of SCMP_ACT_ERRNO is not in 0..4095" in result.stderr


#: What busybox itself needs, and to become who it is, of the system calls that there are.
FEW = [
    *("read", "write", "close", "brk", "mmap", "munmap", "mprotect", "execve", "exit_group"),
    *("arch_prctl", "rt_sigaction", "prlimit64", "getuid", "set_tid_address", "set_robust_list"),
    *("nanosleep", "clock_nanosleep"),
]


PRIVILEGES = ["setgroups", "setresgid", "setresuid", "capset", "prctl"]


def listing(*names):
    return {
        "defaultAction": "SCMP_ACT_ERRNO",
        "syscalls": [{"names": list(names), "action": "SCMP_ACT_ALLOW"}],
    }


@pytest.mark.parametrize("user", [0, 1000])
@pytest.mark.parametrize("names", [FEW, [*FEW, *PRIVILEGES]], ids=["few", "and privileges"])
def test_a_list_of_a_dozen_calls_is_enough(make_bundle, pyrunc, names, user):
    """Nothing of what closes descriptors, looks at files or waits is called below the filter."""
    bundle = make_bundle(args=["sleep", "100"], process={"user": {"uid": user, "gid": user}})
    bundle.linux["seccomp"] = listing(*names)
    # Without no_new_privs the filter is loaded before the privileges are dropped.
    bundle.process["noNewPrivileges"] = names is FEW
    container = pyrunc.start(bundle)
    assert pyrunc.state(container)["status"] == "running"
    done = pyrunc.exec(container, "true")
    assert done.code == 0, done


def test_a_call_that_the_list_lacks_is_put_down_to_it(make_bundle, pyrunc):
    bundle = make_bundle(process={"noNewPrivileges": False})
    bundle.linux["seccomp"] = listing(*FEW)
    result = pyrunc.run(bundle)
    assert result.code == 1
    assert "with the filter of linux.seccomp in force: operation not permitted" in result.stderr


def test_the_list_of_an_old_engine_is_enough(make_bundle, pyrunc):
    """Docker's before 20.10, most written by hand: no close_range, openat2, faccessat2, clone3."""
    bundle = make_bundle(args=["sleep", "100"], process={"noNewPrivileges": False})
    newer = "close_range openat2 faccessat2 clone3 execveat pidfd_open pidfd_getfd epoll_pwait2"
    bundle.linux["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": newer.split(), "action": "SCMP_ACT_ERRNO"}],
    }
    container = pyrunc.start(bundle)
    assert pyrunc.exec(container, "true").code == 0


@pytest.mark.parametrize("no_new_privileges", [True, False])
def test_a_start_container_hook_is_filtered(make_bundle, pyrunc, no_new_privileges):
    bundle = make_bundle(process={"noNewPrivileges": no_new_privileges})
    bundle.linux["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}],
    }
    script = "grep ^Seccomp: /proc/self/status >/out; mkdir /made 2>>/out; exit 0"
    hook = {"path": "/bin/sh", "args": ["sh", "-c", script]}
    bundle.config["hooks"] = {"startContainer": [hook]}
    assert pyrunc.run(bundle).code == 0
    assert (bundle.rootfs / "out").read_text().startswith("Seccomp:\t2\n")
    assert not (bundle.rootfs / "made").exists()


@pytest.mark.parametrize("action", ["SCMP_ACT_ERRNO", "SCMP_ACT_KILL_PROCESS"])
def test_a_filter_that_forbids_forks_does_not_forbid_exec(make_bundle, pyrunc, action):
    """The fork into the pid namespace comes after the filter: it is let through, and it alone."""
    forks = ["clone", "clone3", "fork", "vfork"]
    bundle = make_bundle(args=["sleep", "100"], process={"noNewPrivileges": False})
    bundle.linux["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": forks, "action": action}],
    }
    container = pyrunc.start(bundle)
    done = pyrunc.exec(container, "sh", "-c", "echo $$; echo forked | cat")
    assert done.stdout.strip().isdigit(), done
    assert done.code != 0


def test_a_filter_that_forbids_forks_in_a_shared_pid_namespace(make_bundle, pyrunc):
    first = pyrunc.start(make_bundle(args=["sleep", "100"]))
    path = f"/proc/{pyrunc.state(first)['pid']}/ns/pid"
    bundle = make_bundle(process={"noNewPrivileges": False})
    bundle.shell("echo $PPID; echo forked | cat")
    spaces = bundle.linux["namespaces"]
    bundle.linux["namespaces"] = [
        {"type": "pid", "path": path} if space["type"] == "pid" else space for space in spaces
    ]
    bundle.linux["seccomp"] = {
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["clone", "clone3", "fork"], "action": "SCMP_ACT_ERRNO"}],
    }
    done = pyrunc.run(bundle)
    assert done.stdout == "0\n", done
    assert done.code != 0
