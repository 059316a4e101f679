"""Bare machines: minimal roots of Debian, in which a stranger follows the README.

They are made by mmdebstrap once, into build/roots/RELEASE (or the directory that PYRUNC_ROOTS
names, as bare-RELEASE), and never written to: each test has a layer of its own above one, or a
copy.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
RELEASES = ("bookworm", "trixie")
#: Debian's archive of what comes next may be a copy from some days ago.
_OPTIONS = {"sid": ['--aptopt=Acquire::Check-Valid-Until "false"']}
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
_SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

#: Enters a machine: a layer above the template or a copy of it, its own processes and mounts.
#: pivot_root, as a chrooted process may not make user namespaces (user_namespaces(7)).
_ENTER = """
mount --make-rprivate /
cd "$PLACE"
if test -d upper; then
    mount -t overlay machine -o "lowerdir=$TEMPLATE,upperdir=upper,workdir=work" root
else
    mount --bind root root
fi
cd root
mount -t proc proc proc
# The cgroups are the host's, and tests name theirs by their pid: two machines beside each other, or
# a machine and the host, must not have the same ones. Where that cannot be, all else can.
echo "$LAST_PID" >proc/sys/kernel/ns_last_pid 2>/dev/null || :
mount --rbind /sys sys
mount --rbind /dev dev
mkdir -p before
pivot_root . before
cd /
umount -l /before
exec setpriv --reuid="$USER_ID" --regid="$USER_ID" --clear-groups \\
    /usr/bin/env -i $SETTINGS sh -euc "$SCRIPT"
"""


class Machine:
    """A bare machine; what is changed in it stays until the test is over.

    ``copied``: its files lie on the file system of the host, as overlays and engines want it.
    """

    def __init__(self, release: str, template: Path, place: Path, *, copied: bool = False) -> None:
        self.release = release
        self._template = template
        self._place = place
        place.mkdir(parents=True)
        if copied:
            subprocess.run(["cp", "-a", "--reflink=auto", template, place / "root"], check=True)
        for name in () if copied else ("upper", "work", "root"):
            (place / name).mkdir()
        self._files = place / ("root" if copied else "upper")
        self.put(Path("/etc/resolv.conf"), "etc/resolv.conf")
        if CERTIFICATES.exists():
            # A network may have certificates of its own.
            self.put(CERTIFICATES, "run/certificates.crt")

    def put(self, source: Path, target: str) -> None:
        """Copy a file or a directory of the host to ``target``, a path without the first slash."""
        to = self._files / target
        # What the layer brings has to look like what it covers.
        for parent in reversed(to.relative_to(self._files).parents):
            (self._files / parent).mkdir(exist_ok=True, mode=0o755)
        if source.is_dir():
            shutil.copytree(source, to, symlinks=True, dirs_exist_ok=True)
        else:
            shutil.copy(source, to)

    def take(self, source: str, target: Path) -> None:
        """Copy a file of the machine, which has changed it, to the host."""
        shutil.copy(self._files / source, target)

    def put_checkout(self, target: str = "home/pyrunc") -> str:
        """Copy the sources and return where they are: what git knows, and what it would add."""
        command = ["git", "-C", str(CHECKOUT), "ls-files", "-z", "-co", "--exclude-standard"]
        listed = subprocess.run(command, capture_output=True, check=True).stdout
        for name in filter(None, os.fsdecode(listed).split("\0")):
            if (CHECKOUT / name).exists():
                self.put(CHECKOUT / name, f"{target}/{name}")
        return f"/{target}"

    def run(
        self,
        script: str,
        *,
        user: int = 0,
        network: bool = True,
        timeout: float = 280,
        settings: tuple[str, ...] = (),
        output: TextIO | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a script of sh(1), which ends at the first failure, with almost no environment.

        ``output``: a file that gets what it prints as it comes.
        """
        command = ["unshare", "--mount", "--pid", "--fork", "--kill-child"]
        if not network:
            command.append("--net")
        every = ["HOME=/root" if user == 0 else "HOME=/home/somebody", f"PATH={_SEARCH_PATH}"]
        every += ["PIP_CERT=/run/certificates.crt", "SSL_CERT_FILE=/run/certificates.crt"]
        environment = {
            "PATH": _SEARCH_PATH,
            "TEMPLATE": str(self._template),
            "PLACE": str(self._place),
            "USER_ID": str(user),
            "LAST_PID": str(random.randrange(1000, 30000)),
            "SETTINGS": " ".join([*every, *settings]),
            "SCRIPT": script,
        }
        done = subprocess.run(
            [*command, "sh", "-euc", _ENTER],
            env=environment, text=True, check=False, timeout=timeout,
            stdin=subprocess.DEVNULL, stdout=output or subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        if output is not None:
            done.stdout = Path(output.name).read_text(errors="replace")
        return done

    def must(self, script: str, **options: object) -> str:
        """Run a script that has to succeed and return what it printed."""
        done = self.run(script, **options)  # type: ignore[arg-type]
        assert done.returncode == 0, f"{self.release}: exit code {done.returncode}\n{done.stdout}"
        return done.stdout

    def install(self, *packages: str) -> None:
        """Install Debian packages; a machine without the network skips the test."""
        quiet = "apt-get -q -y --no-install-recommends"
        done = self.run(f"{quiet} update && {quiet} install {' '.join(packages)}")
        if done.returncode != 0:
            pytest.skip(f"no network to Debian's archive: {done.stdout[-200:]}")


def _template(release: str) -> Path:
    named = os.environ.get("PYRUNC_ROOTS")
    place = Path(named, f"bare-{release}") if named else CHECKOUT / "build/roots" / release
    if (place / "usr/bin/dpkg").exists():
        return place
    if shutil.which("mmdebstrap") is None:
        pytest.skip("no mmdebstrap to make a bare root of Debian with")
    place.parent.mkdir(parents=True, exist_ok=True)
    made = place.with_name(f".{place.name}.{os.getpid()}")
    command = ["mmdebstrap", "--variant=minbase", *_OPTIONS.get(release, []), release, str(made)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        shutil.rmtree(made, ignore_errors=True)
        pytest.skip(f"no network to make a bare root of {release}: {done.stderr[-200:]}")
    made.rename(place)
    return place


@contextlib.contextmanager
def bare_machine(release: str, *, copied: bool = False) -> Iterator[Machine]:
    """Make a machine and remove it."""
    if os.geteuid() != 0:
        pytest.skip("only root can enter a bare root of Debian")
    # The upper layer may not be on an overlay itself, as /tmp of a container would be.
    place = CHECKOUT / "build" / f"machine-{release}-{os.getpid()}"
    shutil.rmtree(place, ignore_errors=True)
    try:
        yield Machine(release, _template(release), place, copied=copied)
    finally:
        shutil.rmtree(place, ignore_errors=True)


@pytest.fixture(params=RELEASES)
def machine(request: pytest.FixtureRequest) -> Iterator[Machine]:
    with bare_machine(request.param) as made:
        yield made
