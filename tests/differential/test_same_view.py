"""The same config gives the same view from inside, whichever runtime runs it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from cases import CASES, Case

from runtimes import Runtime, mount_missing_controllers

sys.path.append(str(Path(__file__).resolve().parents[1] / "integration"))
from views import parse_mountinfo

if TYPE_CHECKING:
    from collections.abc import Callable

#: What the container's program writes: each section after a line with its name.
LOOK = r"""
section() { echo "== $1"; }
p=/proc/$$
section mounts; cat $p/mountinfo
# By the shell itself: while it forks for another program it blocks all signals (glibc 2.41).
section status; while IFS= read -r line; do case $line in
    Uid*|Gid*|Groups*|Cap*|NoNewPrivs*|Seccomp:*|Umask*|SigBlk*|SigIgn*) echo "$line" ;;
    esac; done <$p/status
section limits; cat $p/limits
section environment; tr '\0' '\n' < $p/environ
section cwd; readlink $p/cwd
section devices; ls -ln /dev | awk '{ if ($1 ~ /^[bc]/) print $1, $3, $4, $5, $6, $10;
    else print $1, $3, $4, $9, $10, $11 }'
section directories; for d in / /proc /sys /dev /volume /volume/* /dev/* /new /real; do
    test -d "$d" && stat -c '%n %a %u %g' "$d"; done
section maps; cat $p/uid_map; cat $p/gid_map; cat $p/setgroups
section names; hostname; cat /proc/sys/kernel/domainname
section namespaces; for n in cgroup ipc mnt net pid time user uts; do readlink $p/ns/$n; done
section descriptors; ls $p/fd
section scheduling; awk '{ print $19, $41 }' $p/stat; cat $p/oom_score_adj $p/personality
section session; awk '{ print ($1 == $5), ($1 == $6), $7 }' $p/stat
section parameters; cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax
section cgroups; cat $p/cgroup
section interfaces; cat /sys/class/net/lo/flags
"""


class Difference(NamedTuple):
    """A way in which another runtime's view differs, and why it should."""

    #: "runc", "crun", or both.
    others: str
    section: str
    #: Applied to a section's lines of both views before they are compared.
    without: Callable[[list[str]], list[str]]
    reason: str
    #: Names of the cases in which it shows (regular expression); elsewhere nothing is forgiven.
    cases: str = ".*"


def drop(pattern: str) -> Callable[[list[str]], list[str]]:
    """Leave lines out that match."""
    return lambda lines: [line for line in lines if not re.search(pattern, line)]


def replace(pattern: str, text: str = "") -> Callable[[list[str]], list[str]]:
    """Leave a part of the lines out."""
    return lambda lines: [re.sub(pattern, text, line) for line in lines]


#: Every difference that is meant to be; docs/differences-from-runc.md tells of them as well.
DIFFERENCES = (
    Difference(
        "runc",
        "mounts",
        replace(r"^(/proc/keys|/file) is .*", r"\1 is masked"),
        "A masked file is covered with the host's null device, read-only, not with the "
        "container's own, which could be anything (CVE-2025-31133).",
    ),
    Difference(
        "runc",
        "mounts",
        replace(r"\[(shared|unbindable)\]", "[]"),
        "rootfsPropagation is what the root has in the end; runc 1.1 makes it private again.",
        r"root propagation (r?shared|unbindable)|mount rbind rshared",
    ),
    Difference(
        "runc crun",
        "mounts",
        replace(r"^(/sys/fs/cgroup is) .*", r"\1 a tmpfs"),
        "`ro` of a cgroup mount holds for the directory of the hierarchies, too.",
        r"cgroups.*|writable cgroups",
    ),
    Difference(
        "runc crun",
        "mounts",
        replace(r"is cgroup \S+", "is cgroup"),
        "The source of a cgroup mount is a word that nobody reads.",
        r".*cgroups.*",
    ),
    Difference(
        "runc crun",
        "mounts",
        replace(r"^(/volume is tmpfs .*\[\]) .*", r"\1"),
        "A tmpfs takes the mode of what it covers as an option; runc changes it afterwards.",
        r"tmpfs with a copy|tmpfs over a directory",
    ),
    Difference(
        "crun",
        "directories",
        drop(r"^/volume "),
        "crun 1.8 leaves a tmpfs with tmpcopyup at mode 1777.",
        r"tmpfs with a copy",
    ),
    Difference(
        "crun",
        "mounts",
        replace(r"^(/sys is sysfs .*\]) r[ow]$", r"\1"),
        "`ro` makes a new file system read-only as well as the mount, as mount(8) does.",
    ),
    Difference(
        "crun",
        "mounts",
        replace(r"^(/sys/firmware is tmpfs tmpfs .*\]) .*", r"\1"),
        "The tmpfs that masks directories is read-only itself, like runc's.",
    ),
    Difference(
        "crun",
        "mounts",
        replace(r"(relatime|nosuid,relatime),ro", "ro"),
        "A read-only path keeps the other options of the mount that it lies on.",
        r"proc with options",
    ),
    Difference(
        "crun",
        "mounts",
        replace(r"^(/volume is .*),r[ow]\)", r"\1)"),
        "Of contrary options the last one holds.",
        r"mount bind ro rw",
    ),
    Difference(
        "crun",
        "mounts",
        replace(r"^(/dev/\S+ is devtmpfs .*)\(noexec,nosuid,", r"\1("),
        "Devices bound into a user namespace have the options that the host's have.",
        r".*user namespace.*|several mappings",
    ),
    Difference(
        "crun",
        "mounts",
        replace(r"^(/proc/keys is .*)\[shared\]", r"\1[]"),
        "Below a shared mount a cover is shared as well; it is in no other namespace.",
        r"root propagation r?shared|mount rbind rshared",
    ),
    Difference(
        "crun",
        "mounts",
        drop(r"^/sys(/fs/cgroup.*|/kernel/.*)? is "),
        "Where the host's /sys must stand in for a new one, it has the options that the config "
        "gives, with what is mounted in it; crun drops them. Both cover the host's cgroups.",
        r"user namespace, network of the host",
    ),
    Difference("crun", "devices", drop("core -> "), "/dev/core is there when /proc/kcore is."),
    Difference(
        "crun",
        "environment",
        drop("^HOME=/$"),
        "HOME is set for users that are not in /etc/passwd as well, as runc does.",
    ),
    Difference(
        "crun",
        "cgroups",
        lambda _: [],
        "Without cgroupsPath the cgroup lies below the caller's, as runc has it, and only in "
        "hierarchies that are mounted.",
    ),
    Difference(
        "crun",
        "mounts",
        drop(r"^/sys/fs/cgroup/(memory|hugetlb|net_cls|net_prio|perf_event) "),
        "As above.",
        r".*cgroups.*",
    ),
)


@pytest.fixture(scope="session")
def memory_directory():
    """A directory in memory for the bundles: hundreds of root file systems are made."""
    path = Path(tempfile.mkdtemp(prefix="pyrunc-differential-", dir="/var/tmp"))
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", path], check=True)
    yield path
    subprocess.run(["umount", "-l", path], check=True)
    path.rmdir()


@pytest.fixture(scope="session")
def all_controllers(memory_directory: Path):
    """A prefix that lets crun find every v1 controller: mounted once, since that is slow."""
    prepare = mount_missing_controllers()
    if not Path("/sys/fs/cgroup/memory").exists() or not prepare:
        yield []
        return
    with subprocess.Popen([*prepare, "sleep", "100000"]) as holder:
        while Path(f"/proc/{holder.pid}/comm").read_text() != "sleep\n":
            time.sleep(0.01)
        yield ["nsenter", f"--mount=/proc/{holder.pid}/ns/mnt"]
        holder.kill()


@pytest.fixture
def other_runtimes(tmp_path: Path, all_controllers: list[str]):
    """The runtimes to compare with, by name: those that are installed."""
    found = {}
    for name in ("runc", "crun"):
        if path := shutil.which(name):
            prefix = all_controllers if name == "crun" else []
            found[name] = Runtime(name, [*prefix, path], tmp_path)
    if not found:
        pytest.skip("neither runc nor crun is installed")
    yield found
    for runtime in found.values():
        runtime.remove_all()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.replace(" ", "-"))
def test_same_view(case: Case, make_bundle, pyrunc, other_runtimes, memory_directory):
    ours = view(case, pyrunc, make_bundle, memory_directory)
    unexplained = []
    for name, runtime in other_runtimes.items():
        if name in case.others:
            theirs = view(case, runtime, make_bundle, memory_directory)
            unexplained += compare(case, name, ours, theirs)
    assert not unexplained, "\n".join(unexplained)


def view(case: Case, runtime: Runtime, make_bundle: Any, directory: Path) -> dict[str, list[str]]:
    """Run the case's config and return what the container saw, by section."""
    bundle = make_bundle(["sh", "-c", LOOK], at=directory / "bundle")
    try:
        case.change(bundle)
        result = runtime.run(bundle, *case.options, umask=0o022)
    finally:
        shutil.rmtree(bundle.path)
    assert result.code == 0, (runtime.name, result)
    sections: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in result.stdout.splitlines():
        if line.startswith("== "):
            lines = sections.setdefault(line[3:], [])
        else:
            lines.append(line.replace(result.id, "ID"))
    sections["mounts"] = normal_mounts(sections["mounts"])
    sections["namespaces"] = [
        line if same_as_host(line) else line.partition(":")[0] + ":new"
        for line in sections["namespaces"]
    ]
    # Only the runtimes' own; the order of hierarchies and other services' do not matter.
    sections["cgroups"] = sorted(line.partition(":")[2] for line in sections["cgroups"])
    return sections


def same_as_host(link: str) -> bool:
    return any(os.readlink(f"/proc/self/ns/{name}") == link for name in os.listdir("/proc/self/ns"))


def normal_mounts(lines: list[str]) -> list[str]:
    """Return mounts without what differs from run to run, ordered by place.

    Nor from one runc to the next: since 1.3 what covers a masked directory is as small as can be.
    """
    small = {"nr_inodes=1", "size=4k"}
    ordered = sorted(parse_mountinfo("\n".join(lines)), key=lambda line: line.point)
    return [
        f"{line.point} is {line.kind} {line.source} {line.root}"
        f" ({','.join(sorted(line.options))})"
        f" [{','.join(sorted(line.tags))}] {','.join(sorted(set(line.superblock) - small))}"
        for line in ordered
    ]


def compare(
    case: Case, other: str, ours: dict[str, list[str]], theirs: dict[str, list[str]]
) -> list[str]:
    """Return the lines in which the views differ though no difference is meant to be."""
    found = []
    for section, mine in ours.items():
        other_s = theirs.get(section, [])
        for difference in DIFFERENCES:
            if (
                other in difference.others.split()
                and section == difference.section
                and re.fullmatch(difference.cases, case.name)
            ):
                mine, other_s = difference.without(mine), difference.without(other_s)  # noqa: PLW2901
        if mine != other_s:
            found += [f"{section}: pyrunc: {line}" for line in mine if line not in other_s]
            found += [f"{section}: {other}: {line}" for line in other_s if line not in mine]
            if sorted(mine) == sorted(other_s):
                found.append(f"{section}: in another order in {other}: {other_s}")
    return found
