"""A container sees the same whether its runtime began in a snapshot or in the ordinary way.

What the kernel keeps of a process is inherited: descriptors, signals, limits, environment. The
container's program, one that `exec` starts, and hooks show all that, and both ways are compared.
"""

from __future__ import annotations

import json
import re
import signal

import pytest
from snapshots import IN_USE, installation, needed

__all__ = ["installation"]
pytestmark = needed

#: What is different at each start, whatever the runtime: numbers, counters, addresses.
VARYING = re.compile(
    r"^(Pid|PPid|Tgid|Ngid|NSpid|NSpgid|NSsid|NStgid|TracerPid|State|Vm\w+|Rss\w+|Hugetlb\w+"
    r"|FDSize|\w+_ctxt_switches|Cpus_allowed\w*|SigPnd|ShdPnd|SigQ):.*\n",
    re.MULTILINE,
)
LOOK = """\
echo "== fd"; for f in /proc/self/fd/*; do echo "${f##*/} $(readlink "$f")"; done
echo "== fdinfo"; grep -h flags /proc/self/fdinfo/[012]
echo "== status"; cat /proc/self/status
echo "== limits"; cat /proc/self/limits
echo "== env"; env | sort
echo "== cwd"; readlink /proc/self/cwd; pwd; umask; nice
echo "== exe"; readlink /proc/$$/exe
echo "== personality"; cat /proc/self/personality 2>/dev/null
echo "== oom"; cat /proc/self/oom_score_adj
echo "== autogroup"; cat /proc/self/loginuid /proc/self/timerslack_ns 2>/dev/null
echo "== cgroup"; cat /proc/self/cgroup
echo "== mounts"; cut -d ' ' -f 4- /proc/self/mountinfo
echo "== maps"; cat /proc/self/maps
echo "== end"
"""


def seen(text: str) -> dict[str, str]:
    """Take what was shown apart, without what is never the same."""
    text = VARYING.sub("", text)
    text = re.sub(r"test-\d+-\d+", "ID", text)
    text = re.sub(r"(pipe|socket|anon_inode|mnt|net|pid|uts|ipc):\[\d+\]", r"\1", text)
    text = re.sub(r"/proc/\d+/fd", "/proc/N/fd", text)
    text = re.sub(r"/(bundle|rootfs|tmp\w*|out|pyrunc-)[\w.-]*", r"/\1", text)
    text = re.sub(r"(master|shared|propagate_from):\d+", r"\1", text)
    # Addresses, and with them how far the heap reaches.
    text = re.sub(r"^[0-9a-f]+-[0-9a-f]+ .* (?=\S*$)", "", text, flags=re.MULTILINE)
    parts = re.split(r"^== (\w+)\n", text, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


@pytest.fixture
def both_ways(installation, make_bundle, pyrunc, tmp_path, monkeypatch):
    """Return what the program, `exec` and hooks see, from a snapshot and without one."""

    def look(**how):
        installation.serve(pyrunc)
        found = []
        for wish in ("1", "0"):
            monkeypatch.setenv("PYRUNC_SNAPSHOT", wish)
            assert (installation.status() == IN_USE) == (wish == "1")
            out = tmp_path / f"out{wish}"
            out.mkdir()
            bundle = make_bundle()
            (bundle.rootfs / "look").write_text(LOOK)
            script = tmp_path / "look"
            script.write_text(LOOK)
            bundle.config["hooks"] = {
                kind: [{"path": "/bin/sh", "args": ["sh", "-c", f"sh {script} >{out}/{kind} 2>&1"]}]
                for kind in ("createRuntime", "poststart", "poststop")
            }
            bundle.config["hooks"]["createContainer"] = [
                {"path": "/bin/sh", "args": ["sh", "-c", f"sh {script} >{out}/inside 2>&1"]}
            ]
            bundle.shell("sh /look >/shown; sleep 100")
            container = pyrunc.start(bundle, **how)
            while (
                not (bundle.rootfs / "shown").exists()
                or "== end" not in (bundle.rootfs / "shown").read_text()
            ):
                pass
            views = {"program": seen((bundle.rootfs / "shown").read_text())}
            views["exec"] = seen(pyrunc.exec(container, "sh", "/look").stdout)
            assert pyrunc("delete", "--force", container.id, **how).code == 0
            for path in out.iterdir():
                views[path.name] = seen(path.read_text())
                # The host's mounts are everybody's.
                views[path.name].pop("mounts", None)
            found.append(views)
        return found

    return look


def test_program_exec_and_hooks_see_the_same(both_ways):
    restored, ordinary = both_ways()
    assert restored.keys() == ordinary.keys() >= {"program", "exec", "createRuntime", "poststop"}
    for who, what in ordinary.items():
        for part, text in what.items():
            assert restored[who][part] == text, (who, part)


def test_also_when_signals_are_ignored_or_blocked(both_ways):
    numbers = (signal.SIGHUP, signal.SIGUSR2, signal.SIGPIPE, signal.SIGQUIT)
    previous = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGWINCH})
    try:
        restored, ordinary = both_ways()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for number, action in previous.items():
            signal.signal(number, action)
    for who, what in ordinary.items():
        assert restored[who] == what, who


def test_nothing_of_it_is_in_the_container(installation, make_bundle, pyrunc):
    """Neither open nor mapped nor mounted nor named in the environment."""
    installation.serve(pyrunc)
    assert installation.status() == IN_USE
    bundle = make_bundle()
    bundle.shell(
        "cat /proc/*/maps /proc/*/environ /proc/*/cmdline /proc/self/mountinfo;"
        "ls -l /proc/*/fd /proc/*/exe; ls -la /run"
    )
    shown = pyrunc.run(bundle).stdout
    assert "busybox" in shown
    assert "snapshot" not in shown.replace(bundle.path.name, "").lower()


def test_the_builder_is_told_apart_from_nobody(installation, make_bundle, pyrunc):
    """A hook runs while the builder waits: what it shows is the launcher, as its memory is."""
    installation.serve(pyrunc)
    bundle = make_bundle(args=["true"])
    look = "readlink /proc/$PPID/exe; tr '\\0' ' ' </proc/$PPID/cmdline; ls -l /proc/$PPID/fd"
    out = bundle.path / "out"
    bundle.config["hooks"] = {
        "createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", f"({look}) >{out} 2>&1"]}]
    }
    assert pyrunc.run(bundle).code == 0
    shown = out.read_text()
    assert shown.startswith(f"{installation.launcher}\n"), shown
    # The snapshot itself is closed once it is mapped.
    assert "@snapshot" not in shown
    assert json.dumps(str(bundle.path))[1:-1] in shown
