"""Runs inside the virtual machine, as root: the launcher behind a transition of AppArmor's."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from guest_cgroups import ROOT, run

TOP = Path(__file__).resolve().parents[3]
LAUNCHER = TOP / "build/bin/pyrunc"
USER = 1000
#: The caller may execute a shell in its own domain, and pyrunc in another, as each row says.
PROFILES = """
profile pyrunc-caller {{
  file,
  signal,
  capability,
  /{{usr/,}}bin/* ix,
  {launcher} {transition} -> pyrunc-other,
}}
profile pyrunc-other flags=(attach_disconnected) {{
  file,
  signal,
  capability,
  /** ix,
}}
"""

pytestmark = [
    pytest.mark.skipif(not ROOT, reason="loading a profile needs root"),
    pytest.mark.skipif(
        not Path("/sys/kernel/security/apparmor/profiles").exists(), reason="AppArmor is not active"
    ),
]


@pytest.fixture(scope="module")
def launcher(tmp_path_factory):
    """The command as it is installed, where every user may start it."""
    if not LAUNCHER.exists():
        pytest.skip("the launcher is not built")
    top = tmp_path_factory.mktemp("installed")
    for directory in (top, *list(top.parents)[:2]):
        directory.chmod(0o755)
    (top / "bin").mkdir()
    shutil.copy(LAUNCHER, top / "bin/pyrunc")
    script = top / "bin/pyrunc-python"
    boot = f"import sys; sys.path.insert(0, {str(TOP / 'src')!r}); sys.argv[0] = 'pyrunc'"
    text = f"#!{sys.executable}\n{boot}\nfrom pyrunc.cli.main import main\nmain()\n"
    script.write_text(text)
    script.chmod(0o755)
    library = top / f"lib/python{sys.version_info[0]}.{sys.version_info[1]}/site-packages/pyrunc"
    shutil.copytree(TOP / "src/pyrunc", library, ignore=shutil.ignore_patterns("__pycache__"))
    for path in (top / "lib").rglob("*"):
        path.chmod(path.stat().st_mode & ~0o022 | (0o555 if path.is_dir() else 0o444))
    return top / "bin/pyrunc"


@pytest.fixture
def called(launcher, tmp_path):
    """A function that calls it from a shell in one domain, by a transition to another."""

    def call(transition, user):
        profiles = tmp_path / "profiles"
        profiles.write_text(PROFILES.format(launcher=launcher, transition=transition))
        run("apparmor_parser", "--replace", str(profiles))
        who = {"user": user, "group": user, "extra_groups": []} if user else {}
        words = ["aa-exec", "-p", "pyrunc-caller", "--", "/bin/sh", "-c"]
        return subprocess.run(
            [*words, f"cat /proc/self/attr/current; {launcher} --version"],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=120,
            cwd="/", env={"PYRUNC_SNAPSHOT": "0", "PATH": "/usr/sbin:/usr/bin"}, **who,
        )  # fmt: skip

    return call


@pytest.mark.parametrize("user", [0, USER])
def test_a_transition_that_scrubs_is_refused(called, user):
    """AT_SECURE with ids and capabilities that are the caller's: the domain alone is lent.

    Seen: it worked, and handed LD_LIBRARY_PATH on to the interpreter, which is in the new domain.
    """
    done = called("Px", user)
    assert "pyrunc-caller (enforce)" in done.stdout, done
    assert "pyrunc " not in done.stdout, done
    assert done.returncode == 1, done
    assert "rights that its caller does not have" in done.stderr
    assert "AppArmor: px" in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr


@pytest.mark.parametrize("user", [0, USER])
def test_a_transition_that_does_not_works(called, user):
    """Who wrote the policy says with it that the caller is trusted."""
    done = called("px", user)
    assert "pyrunc-caller (enforce)" in done.stdout, done
    assert done.returncode == 0, done
    assert "pyrunc version" in done.stdout
