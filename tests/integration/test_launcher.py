"""The installed command: it starts the same whatever surrounds it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent
LAUNCHER = BIN / "pyrunc"
pytestmark = pytest.mark.skipif(not LAUNCHER.exists(), reason="pyrunc is not installed here")


def version(command: str | Path, **options: object) -> str:
    done = run(command, "--version", **options)
    assert (done.returncode, done.stderr) == (0, ""), done
    return done.stdout.partition("\n")[0]


def run(command: str | Path, *words: str, **options: object) -> subprocess.CompletedProcess[str]:
    options = {"capture_output": True, "stdin": subprocess.DEVNULL} | options
    return subprocess.run([str(command), *words], text=True, timeout=30, check=False, **options)  # type: ignore[call-overload, no-any-return]


@pytest.fixture
def poisoned(tmp_path: Path) -> Path:
    """A directory with modules that must not be imported."""
    directory = tmp_path / "poisoned"
    directory.mkdir()
    names = "json posix _ctypes os site sitecustomize usercustomize encodings pyrunc __future__"
    for name in names.split():
        (directory / f"{name}.py").write_text('raise SystemExit("poisoned")\n')
    return directory


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """An empty bin directory with the launcher in it."""
    directory = tmp_path / "top/bin"
    directory.mkdir(parents=True)
    shutil.copy(LAUNCHER, directory / "pyrunc")
    return directory


def script(directory: Path, first_lines: str) -> None:
    """Install pyrunc-python with these lines for its first."""
    rest = (BIN / "pyrunc-python").read_text().partition("\n")[2]
    path = directory / "pyrunc-python"
    path.write_text(f"{first_lines}\n{rest}")
    path.chmod(0o755)


def base_python() -> str:
    """Return an interpreter that is in no virtual environment."""
    return os.path.realpath(sys.executable)


def package() -> Path:
    """Return the installed package's directory."""
    minor = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    return BIN.parent / "lib" / minor / "site-packages" / "pyrunc"


def test_version() -> None:
    assert version(LAUNCHER).startswith("pyrunc version ")


def test_no_environment_at_all() -> None:
    assert version(LAUNCHER, env={}).startswith("pyrunc version ")


def test_python_variables_change_nothing(poisoned: Path) -> None:
    environment = {
        "PYTHONPATH": str(poisoned),
        "PYTHONHOME": str(poisoned),
        "PYTHONSTARTUP": str(poisoned / "os.py"),
        "PYTHONINSPECT": "1",
        "PYTHONVERBOSE": "1",
        "PYTHONPLATLIBDIR": str(poisoned),
        "PYTHONUSERBASE": str(poisoned),
        "PYTHONWARNINGS": "error",
        "PYTHONIOENCODING": "no-such-codec",
        "HOME": str(poisoned),
    }
    assert version(LAUNCHER, env=environment).startswith("pyrunc version ")


def test_preloaded_libraries_stay_out() -> None:
    environment = {"LD_PRELOAD": "/no/such.so", "LD_AUDIT": "/no/such.so"}
    done = run(LAUNCHER, "--version", env=environment)
    assert (done.returncode, done.stderr) == (0, "")


def test_modules_in_the_current_directory_change_nothing(poisoned: Path) -> None:
    assert version(LAUNCHER, cwd=poisoned).startswith("pyrunc version ")


def test_modules_beside_the_command_change_nothing(place: Path, poisoned: Path) -> None:
    for module in poisoned.iterdir():
        shutil.copy(module, place)
    script(place, f"#!{sys.executable}")
    link_package(place.parent / "lib" / minor_name() / "site-packages")
    assert version(place / "pyrunc").startswith("pyrunc version ")


def minor_name() -> str:
    return f"python{sys.version_info[0]}.{sys.version_info[1]}"


def link_package(parent: Path) -> None:
    parent.mkdir(parents=True)
    (parent / "pyrunc").symlink_to(package())


@pytest.mark.parametrize("closed", ["0<&-", "1>&-", "2>&-", "0<&- 1>&- 2>&-"])
def test_closed_standard_descriptors_are_no_trouble(tmp_path: Path, closed: str) -> None:
    """A file opened later must not become the standard output."""
    log = tmp_path / "log"
    command = f'"{LAUNCHER}" --log "{log}" --root "{tmp_path}" state no-such {closed}'
    done = run("/bin/sh", "-c", command)
    assert done.returncode == 1
    assert log.read_text().count("container does not exist") == 1
    assert log.read_text().count("\n") == 1


def test_the_interpreter_is_found_through_links(tmp_path: Path) -> None:
    (tmp_path / "one").symlink_to(LAUNCHER)
    (tmp_path / "two").symlink_to("one")
    assert version(tmp_path / "two").startswith("pyrunc version ")


def test_the_name_it_is_called_by_does_not_matter() -> None:
    done = subprocess.run(
        ["../../nonsense", "--version"],
        executable=LAUNCHER, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.startswith("pyrunc version ")


def test_arguments_come_through_unchanged() -> None:
    words = ["", "two words", "--", "-c", "\udcff", "é", "'\"$x`"]
    done = subprocess.run([LAUNCHER, "state", *words], capture_output=True, check=False, timeout=30)
    assert done.returncode == 1
    # Seven are too many for `state`; what matters is that the command's own parser says so.
    assert b"requires exactly 1 argument" in done.stderr or b"-c" in done.stderr


@pytest.mark.parametrize(
    "packages",
    [
        "lib/{version}/site-packages",
        "lib64/{version}/site-packages",
        "lib/{version}/dist-packages",
        "local/lib/{version}/dist-packages",
        "lib/python3/dist-packages",
    ],
)
def test_the_package_is_found_where_systems_put_it(place: Path, packages: str) -> None:
    script(place, f"#!{base_python()}")
    link_package(place.parent / packages.format(version=minor_name()))
    assert version(place / "pyrunc").startswith("pyrunc version ")


def test_the_package_is_found_through_site(tmp_path: Path) -> None:
    """An installation elsewhere, or in place: a .pth file tells, and only `site` reads those."""
    environment = tmp_path / "venv"
    subprocess.run(
        [sys.executable, "-m", "venv", "--without-pip", environment], check=True, timeout=60
    )
    shutil.copy(LAUNCHER, environment / "bin/pyrunc")
    script(environment / "bin", f"#!{environment}/bin/python")
    packages = environment / "lib" / minor_name() / "site-packages"
    (packages / "pyrunc.pth").write_text(f"{package().parent}\n")
    assert version(environment / "bin/pyrunc").startswith("pyrunc version ")


def test_a_checkout_works(place: Path, tmp_path: Path) -> None:
    """build/bin/pyrunc runs what is in src/."""
    checkout = tmp_path / "checkout"
    (checkout / "build").mkdir(parents=True)
    place.rename(checkout / "build/bin")
    script(checkout / "build/bin", f"#!{base_python()}")
    link_package(checkout / "src")
    assert version(checkout / "build/bin/pyrunc").startswith("pyrunc version ")


@pytest.mark.parametrize(
    "lines",
    [
        "#!{python} -sP",
        "#! {python} ",
        "#!/bin/sh\n'''exec' {python} \"$0\" \"$@\"\n' '''",
        "#!/bin/sh\n'''exec' \"{python}\" \"$0\" \"$@\"\n' '''",
    ],
)
def test_every_form_of_an_installers_line_is_understood(place: Path, lines: str) -> None:
    script(place, lines.format(python=base_python()))
    link_package(place.parent / "lib" / minor_name() / "site-packages")
    assert version(place / "pyrunc").startswith("pyrunc version ")


def test_an_interpreter_with_a_long_path_with_spaces(tmp_path: Path, place: Path) -> None:
    """More than a line for the kernel may hold."""
    home = tmp_path / "with space" / ("x" * 200) / "bin"
    home.mkdir(parents=True)
    (home / "python3").symlink_to(base_python())
    script(place, f"#!{home}/python3")
    link_package(place.parent / "lib" / minor_name() / "site-packages")
    assert version(place / "pyrunc").startswith("pyrunc version ")


def failing(place: Path) -> str:
    """Run the launcher that cannot work, and return its only line."""
    done = run(place / "pyrunc", "--version")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.count("\n") == 1
    return done.stderr


def test_a_missing_script_is_named(place: Path) -> None:
    expected = f"pyrunc: cannot open {place}/pyrunc-python: no such file or directory\n"
    assert failing(place) == expected


def test_a_missing_interpreter_is_named(place: Path) -> None:
    script(place, "#!/no/such/python3")
    expected = "pyrunc: cannot execute /no/such/python3: no such file or directory\n"
    assert failing(place) == expected


@pytest.mark.parametrize("line", ["#!python", "", "import sys", "#!", "#!  "])
def test_a_script_that_no_installer_has_touched_is_an_error(place: Path, line: str) -> None:
    script(place, line)
    assert f"{place}/pyrunc-python" in failing(place)


def test_a_missing_package_is_told(place: Path) -> None:
    script(place, f"#!{base_python()}")
    done = run(place / "pyrunc", "--version")
    if done.returncode == 0:
        pytest.skip("this interpreter has pyrunc installed for itself")
    assert failing(place).endswith("is pyrunc installed completely?\n")


def test_the_slow_way_works_too() -> None:
    assert version(BIN / "pyrunc-python") == version(LAUNCHER)


def test_the_version_tells_the_commit_that_was_built() -> None:
    """As a checkout's build writes it down; what was installed from elsewhere may not know."""
    written = BIN.parent.glob("lib/python3*/site-packages/pyrunc/COMMIT")
    commits = [path.read_text().strip() for path in written]
    if not commits:
        pytest.skip("pyrunc was not built in a git checkout")
    assert f"commit: {commits[0]}" in run(LAUNCHER, "--version").stdout.splitlines()
    assert re.fullmatch(r"[0-9a-f]{40}(-dirty)?", commits[0])
