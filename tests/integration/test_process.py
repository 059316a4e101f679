"""Properties of ``process`` as the kernel and the program itself see them; bad values refused."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from process_fixtures import inside

from pyrunc.linux.processes import prctl

__all__ = ["inside"]


@pytest.mark.parametrize(
    ("kind", "label", "soft", "hard"),
    [
        ("RLIMIT_AS", "Max address space", 1 << 40, (1 << 40) + 5),
        ("RLIMIT_CORE", "Max core file size", 0, 12345),
        ("RLIMIT_CPU", "Max cpu time", 1000, 2000),
        ("RLIMIT_DATA", "Max data size", 1 << 39, 1 << 39),
        ("RLIMIT_FSIZE", "Max file size", 1 << 20, 1 << 21),
        ("RLIMIT_LOCKS", "Max file locks", 3, 4),
        ("RLIMIT_MEMLOCK", "Max locked memory", 4096, 8192),
        ("RLIMIT_MSGQUEUE", "Max msgqueue size", 10, 20),
        ("RLIMIT_NICE", "Max nice priority", 0, 0),
        ("RLIMIT_NOFILE", "Max open files", 9, 99),
        ("RLIMIT_NPROC", "Max processes", 500, 600),
        ("RLIMIT_RSS", "Max resident set", 1 << 30, 1 << 31),
        ("RLIMIT_RTPRIO", "Max realtime priority", 0, 0),
        ("RLIMIT_RTTIME", "Max realtime timeout", 7, 8),
        ("RLIMIT_SIGPENDING", "Max pending signals", 5, 6),
        ("RLIMIT_STACK", "Max stack size", 1 << 22, 1 << 23),
    ],
)
def test_each_limit(make_bundle, pyrunc, kind, label, soft, hard):
    bundle = make_bundle(args=["cat", "/proc/self/limits"])
    bundle.process["rlimits"] = [{"type": kind, "soft": soft, "hard": hard}]
    done = pyrunc.run(bundle)
    (line,) = [line for line in done.stdout.splitlines() if line.startswith(label)]
    assert line[len(label) :].split()[:2] == [str(soft), str(hard)]


def test_no_limit_at_all(inside):
    unlimited = {"type": "RLIMIT_CPU", "soft": 2**64 - 1, "hard": 2**64 - 1}
    done = inside(["grep", "cpu", "/proc/self/limits"], {"rlimits": [unlimited]})
    assert done.stdout.split()[3:5] == ["unlimited", "unlimited"], done


@pytest.mark.parametrize(
    "limit",
    [
        {"type": "RLIMIT_WRONG", "soft": 1, "hard": 1},
        {"type": "RLIMIT_CPU", "soft": 2, "hard": 1},
        {"type": "RLIMIT_CPU", "soft": -1, "hard": 1},
        {"type": "RLIMIT_CPU", "hard": 1},
    ],
)
def test_wrong_limits(inside, limit):
    done = inside(["true"], {"rlimits": [limit]})
    assert done.code != 0
    assert "rlimits[0]" in done.stderr


def test_a_limit_given_twice(inside):
    limit = {"type": "RLIMIT_CPU", "soft": 5, "hard": 5}
    done = inside(["true"], {"rlimits": [limit, limit]})
    assert done.code != 0
    assert "rlimits[1].type: expected each only once" in done.stderr


def test_a_limit_above_what_the_kernel_takes_is_named(make_bundle, pyrunc):
    limit = {"type": "RLIMIT_NOFILE", "soft": 1 << 40, "hard": 1 << 40}
    done = pyrunc.create(make_bundle(process={"rlimits": [limit]}))
    assert done.code == 1
    assert f"set RLIMIT_NOFILE to {1 << 40}:{1 << 40}: operation not permitted" in done.stderr


@pytest.mark.parametrize(
    ("umask", "mode"), [(0, "666"), (0o77, "600"), (0o27, "640"), (None, "644")]
)
def test_umask(inside, umask, mode):
    user = {"uid": 0, "gid": 0} | ({} if umask is None else {"umask": umask})
    done = inside(["sh", "-c", "umask; echo >/tmp/f; stat -c %a /tmp/f"], {"user": user})
    assert done.stdout.split() == [f"{0o22 if umask is None else umask:04o}", mode], done


def test_umask_that_is_none(inside):
    done = inside(["true"], {"user": {"uid": 0, "gid": 0, "umask": "077"}})
    assert done.code != 0
    assert "umask" in done.stderr


def test_an_ambient_capability_that_cannot_be_raised_is_warned_about(make_bundle, pyrunc):
    bundle = make_bundle(args=["grep", "CapAmb", "/proc/self/status"])
    bundle.process["capabilities"]["ambient"] = ["CAP_KILL"]
    done = pyrunc.run(bundle)
    assert done.stdout.split() == ["CapAmb:", "0" * 16]
    assert "level=warning" in done.stderr
    assert "have no effect: [CAP_KILL]" in done.stderr


def test_what_spec_writes_runs_without_a_warning(make_bundle, pyrunc, tmp_path):
    assert pyrunc("spec", "--bundle", tmp_path).code == 0
    written = json.loads((tmp_path / "config.json").read_text())
    assert "ambient" not in written["process"]["capabilities"]
    done = pyrunc.run(make_bundle(process={"capabilities": written["process"]["capabilities"]}))
    assert (done.code, done.stderr) == (0, "")


def test_personality(make_bundle, pyrunc):
    bundle = make_bundle(args=["uname", "-m"], linux={"personality": {"domain": "LINUX32"}})
    shown = pyrunc.run(bundle).stdout.strip()
    assert shown in ("i686", "armv8l")
    bundle.process["args"] = ["sleep", "1000"]
    assert pyrunc.exec(pyrunc.start(bundle), "uname", "-m").stdout.strip() == shown


@pytest.mark.parametrize("personality", [{"domain": "LINUX64"}, {}, {"domain": 8}])
def test_wrong_personality(make_bundle, pyrunc, personality):
    done = pyrunc.create(make_bundle(linux={"personality": personality}))
    assert done.code == 1
    assert "personality" in done.stderr


def test_missing_cwd_is_made(make_bundle, pyrunc):
    bundle = make_bundle(args=["pwd"])
    bundle.process["cwd"] = "/new/deep/directory"
    assert pyrunc.run(bundle).stdout == "/new/deep/directory\n"


def test_missing_cwd_of_exec_is_an_error(make_bundle, pyrunc):
    container = pyrunc.start(make_bundle(args=["sleep", "1000"]))
    done = pyrunc("exec", "--cwd", "/nothing", container.id, "true")
    assert done.code == 255
    assert "chdir to cwd ('/nothing') set in config.json: no such file" in done.stderr.replace(
        "\\", ""
    )


@pytest.mark.parametrize("cwd", ["", "relative", "./x"])
def test_wrong_cwd(make_bundle, pyrunc, cwd):
    bundle = make_bundle()
    bundle.process["cwd"] = cwd
    done = pyrunc.run(bundle)
    assert done.code == 1
    assert "cwd" in done.stderr


def test_cwd_that_only_the_user_may_enter(make_bundle, pyrunc):
    bundle = make_bundle(args=["pwd"])
    (bundle.rootfs / "own").mkdir(mode=0o700)
    os.chown(bundle.rootfs / "own", 44, 44)
    bundle.process["cwd"] = "/own"
    bundle.process["user"] = {"uid": 44, "gid": 44}
    assert pyrunc.run(bundle).stdout == "/own\n"


def test_cwd_that_the_user_may_not_enter(make_bundle, pyrunc):
    """Root has entered it; the user may be there, but not come back."""
    bundle = make_bundle(args=["sh", "-c", "pwd; ls"])
    (bundle.rootfs / "closed").mkdir(mode=0o700)
    bundle.process["cwd"] = "/closed"
    bundle.process["user"] = {"uid": 45, "gid": 45}
    done = pyrunc.run(bundle)
    assert done.stdout == "/closed\n", done
    assert "Permission denied" in done.stderr
    bundle.process["args"] = ["sleep", "1000"]
    bundle.process["cwd"] = "/"
    done = pyrunc("exec", "--cwd", "/closed", pyrunc.start(bundle).id, "sh", "-c", "pwd; ls")
    assert done.stdout == "/closed\n", done


def test_groups(inside):
    user = {"uid": 5, "gid": 6, "additionalGids": [7, 8, 4294967294]}
    done = inside(["grep", "-E", "^(Uid|Gid|Groups)", "/proc/self/status"], {"user": user})
    uid, gid, groups = (line.split()[1:] for line in done.stdout.splitlines())
    assert uid == ["5"] * 4
    assert gid == ["6"] * 4
    assert sorted(groups) == ["4294967294", "7", "8"]


def test_no_group_of_the_caller_stays(inside):
    done = inside(["grep", "Groups", "/proc/self/status"], {"user": {"uid": 0, "gid": 0}})
    assert done.stdout.split() == ["Groups:"]


@pytest.mark.parametrize(
    "user", [{"uid": -1}, {"gid": 4294967295}, {"additionalGids": [-1]}, {"uid": "0"}]
)
def test_wrong_users(inside, user):
    done = inside(["true"], {"user": {"uid": 0, "gid": 0, **user}})
    assert done.code != 0
    assert "user" in done.stderr


@pytest.mark.parametrize("value", [True, False])
def test_no_new_privileges(inside, value):
    done = inside(["grep", "NoNewPrivs", "/proc/self/status"], {"noNewPrivileges": value})
    assert done.stdout.split() == ["NoNewPrivs:", str(int(value))]


def test_capability_sets_are_exactly_those_asked_for(inside):
    sets = {
        "bounding": ["CAP_KILL", "CAP_CHOWN", "CAP_NET_RAW"],
        "permitted": ["CAP_KILL", "CAP_CHOWN"],
        "effective": ["CAP_KILL"],
        "inheritable": ["CAP_CHOWN"],
        "ambient": ["CAP_CHOWN"],
    }
    user = {"uid": 9, "gid": 9}
    done = inside(
        ["grep", "Cap", "/proc/self/status"],
        {"capabilities": sets, "user": user, "noNewPrivileges": False},
    )
    seen = dict(line.split() for line in done.stdout.splitlines())
    # capabilities(7): execve by another than root keeps the ambient ones.
    assert int(seen["CapBnd:"], 16) == 1 << 5 | 1 << 0 | 1 << 13
    assert int(seen["CapAmb:"], 16) == int(seen["CapInh:"], 16) == 1 << 0
    assert int(seen["CapEff:"], 16) == int(seen["CapPrm:"], 16) == 1 << 0


def test_no_capabilities(inside):
    done = inside(["grep", "Cap", "/proc/self/status"], {"capabilities": {}})
    if inside.how == "process file":
        return  # what the file leaves out is the container's
    assert {line.split()[1] for line in done.stdout.splitlines()} == {"0" * 16}, done


def test_capabilities_that_cannot_be_granted_are_warned_about(make_bundle, pyrunc):
    """Unknown ones, and one that the runtime itself is without."""

    def without_chown():
        prctl(24, 0)  # PR_CAPBSET_DROP, CAP_CHOWN

    bundle = make_bundle(args=["grep", "CapBnd", "/proc/self/status"])
    for names in bundle.process["capabilities"].values():
        names[:] = ["CAP_KILL", "CAP_CHOWN", "CAP_NO_SUCH", "kill"]
    done = pyrunc.run(bundle, preexec_fn=without_chown)
    assert done.stdout.split() == ["CapBnd:", f"{1 << 5:016x}"], done
    assert done.stderr.count("level=warning") == 1
    words = "ignoring unknown or unavailable capabilities: [CAP_CHOWN CAP_NO_SUCH kill]"
    assert words in done.stderr


@pytest.mark.parametrize("annotation", ["1", "0", None])
def test_groups_of_the_caller_stay_when_an_annotation_asks_for_them(
    make_bundle, pyrunc, annotation
):
    bundle = make_bundle(args=["grep", "Groups", "/proc/self/status"])
    if annotation:
        bundle.config["annotations"] = {"run.oci.keep_original_groups": annotation}
    done = pyrunc.run(bundle, extra_groups=[4321, 1234])
    groups = ["1234", "4321"] if annotation == "1" else []
    assert done.stdout.split() == ["Groups:", *groups]


def test_console_size_is_ignored_without_a_terminal(make_bundle, pyrunc):
    size = {"height": 1 << 40, "width": 1 << 40}
    assert pyrunc.run(make_bundle(process={"consoleSize": size})).code == 0


def test_environment(inside):
    env = ["PATH=/bin", "A=1", "EMPTY=", "EQUALS=a=b", "A=2", "UNI=gr\u00fc\u00df", "SPACE=a b\nc"]
    done = inside(["sh", "-c", 'echo "$A|$EMPTY|$EQUALS|$UNI|$SPACE"'], {"env": env})
    assert done.stdout == "2||a=b|gr\u00fc\u00df|a b\nc\n"


def test_nothing_of_the_caller_s_environment(make_bundle, pyrunc, monkeypatch):
    monkeypatch.setenv("OF_THE_CALLER", "1")
    bundle = make_bundle(args=["env"])
    lines = pyrunc.run(bundle).stdout.split()
    assert sorted(lines) == ["HOME=/root", "PATH=/bin", "TERM=xterm"]


def test_session_keyring(make_bundle, pyrunc):
    """A new one for the container, shared by what is executed in it; the caller's if so asked."""
    look = ["sh", "-c", "cat /proc/keys"]
    bundle = make_bundle(args=["sleep", "1000"])
    bundle.linux["maskedPaths"] = []
    if not Path("/proc/keys").exists():
        pytest.skip("a kernel without keys")
    container = pyrunc.start(bundle)
    assert f"_ses.{container.id}" in pyrunc.exec(container, *look).stdout
    container = pyrunc.create(bundle, "--no-new-keyring")
    assert pyrunc("start", container.id).code == 0
    assert f"_ses.{container.id}" not in pyrunc.exec(container, *look).stdout


def test_it_leads_a_session_of_its_own(inside):
    done = inside(["sh", "-c", "cat /proc/$$/stat; echo $$"], {})
    fields = done.stdout.partition(")")[2].split()
    # Process group and session are its own number, and there is no terminal.
    assert fields[2] == fields[3] == done.stdout.split()[-1]
    assert fields[4] == "0"
