"""The installed command: it starts the same whatever surrounds it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

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


@pytest.mark.parametrize(
    "how",
    [
        """"$(dirname -- "$(realpath -- "$0")")"/'python' "$0" "$@\"""",
        """"$(CDPATH= cd -- "$(dirname -- "$0")" && echo "$PWD")"/'python' "$0" "$@\"""",
    ],
)
def test_an_environment_that_may_be_moved(place: Path, how: str) -> None:
    """uv writes into its scripts how to find the interpreter, instead of a path."""
    script(place, f"#!/bin/sh\n'''exec' {how}\n' '''")
    (place / "python").symlink_to(base_python())
    link_package(place.parent / "lib" / minor_name() / "site-packages")
    assert version(place / "pyrunc").startswith("pyrunc version ")
    moved = place.parent.rename(place.parents[1] / "moved to where spaces are")
    assert version(moved / "bin/pyrunc").startswith("pyrunc version ")


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


STARTUP = BIN.parent / "lib/pyrunc"

#: A package that tells what it finds, instead of pyrunc.
TELLING = """
def main(told):
    import codecs, os, posix, sys
    print(codecs.__spec__.name, sys.modules["encodings"].__file__)
    print(sorted({*os.environ, *map(os.fsdecode, posix.environ)}), sys.path[0], file=sys.stderr)
"""


@pytest.mark.skipif(not STARTUP.exists(), reason="the package `encodings` is not installed here")
@pytest.mark.parametrize(
    ("directory", "short"), [("top", True), ("t o:p", False), ("top/without", False)]
)
def test_the_short_start_leaves_no_trace(tmp_path: Path, directory: str, short: bool) -> None:
    """A package `encodings` is in the search path for the interpreter's start, and then no more."""
    top = tmp_path / directory
    (top / "bin").mkdir(parents=True)
    shutil.copy(LAUNCHER, top / "bin/pyrunc")
    if "without" not in directory:
        shutil.copytree(STARTUP, top / "lib/pyrunc")
    script(top / "bin", f"#!{base_python()}")
    package = top / "lib" / minor_name() / "site-packages/pyrunc"
    (package / "cli").mkdir(parents=True)
    (package / "cli/main.py").write_text(TELLING)
    done = run(top / "bin/pyrunc", env={"PYTHONPATH": "/nowhere", "PYTHON_OTHER": "1", "KEPT": "1"})
    assert done.returncode == 0, done
    assert done.stdout.startswith(f"codecs {top}/lib/pyrunc/encodings/") is short, done.stdout
    # LC_CTYPE is what Python sets for the "C" locale.
    assert done.stderr.replace("'LC_CTYPE'", "").replace(", ", "").startswith("['KEPT'] "), done
    assert str(top) not in done.stderr


CODECS = r"""
import codecs, sys
assert sys.modules["encodings"].__file__.startswith(sys.argv[1]), sys.modules["encodings"].__file__
assert b"\xc3\xa9".decode() == chr(233) and chr(233).encode("UTF8") == b"\xc3\xa9"
decoder = codecs.getincrementaldecoder("utf-8")()
assert decoder.decode(b"\xc3") == "" and decoder.decode(b"\xa9") == chr(233)
for decode in (codecs.getdecoder("utf-8"), lambda text: decoder.decode(text, True)):
    try:
        decode(b"\xc3")
    except UnicodeDecodeError:
        continue
    raise AssertionError("half a character is taken")
assert codecs.getreader("utf-8")(open("/dev/null", "rb")).read() == ""
codecs.getwriter("utf-8")(open("/dev/null", "wb")).write("x")
assert b"\xe9".decode("latin-1") == b"\xe9".decode("iso8859-15") == chr(233)
assert codecs.lookup("cp1252").name == "cp1252" and codecs.lookup("utf-8").name == "utf-8"
assert "x.y".encode("idna") == b"x.y"
try:
    codecs.lookup("no-such")
except LookupError:
    import encodings.aliases, encodings.ascii, email.message, locale
    print("all there")
"""


@pytest.mark.skipif(not STARTUP.exists(), reason="the package `encodings` is not installed here")
def test_all_codecs_are_there_though_the_start_brings_but_one() -> None:
    command = [base_python(), "-sP", "-S", "-X", "utf8", "-c", CODECS, str(STARTUP)]
    done = run(*command, env={"PYTHONPATH": str(STARTUP)})
    assert (done.stdout, done.stderr) == ("all there\n", "")


def copy_of_the_package(place: Path) -> Path:
    """Install a copy that a test may damage."""
    script(place, f"#!{base_python()}")
    copied = place.parent / "lib" / minor_name() / "site-packages/pyrunc"
    shutil.copytree(package(), copied)
    return copied


def test_debug_tells_the_lines_of_an_internal_error(place: Path, tmp_path: Path) -> None:
    """The start-up image has no line numbers: with --debug the files themselves are imported."""
    broken = copy_of_the_package(place) / "cli/list.py"
    broken.write_text(broken.read_text().replace("def call(", "def call(*_):\n    1 / 0\ndef _("))
    done = run(place / "pyrunc", "--debug", "--root", str(tmp_path), "list")
    number = broken.read_text().splitlines().index("    1 / 0") + 1
    assert done.returncode == 1
    assert f"{broken}" in done.stderr and f"line {number}, in call" in done.stderr, done.stderr
    # The image does not know of the damage.
    assert run(place / "pyrunc", "--root", str(tmp_path), "list").returncode == 0


@pytest.mark.parametrize("options", [[], ["--debug"]], ids=["image", "files"])
def test_system_calls_can_do_without_the_native_module(
    place: Path, make_bundle: Callable[..., Any], pyrunc: Any, options: list[str]
) -> None:
    """As under a Python without the stable ABI: `_ctypes` makes them."""
    native = copy_of_the_package(place) / "linux/_syscall.abi3.so"
    if not native.exists():
        pytest.skip("pyrunc.linux._syscall was not built here")
    native.unlink()
    pyrunc.command = [str(place / "pyrunc"), *options, *pyrunc.command[-2:]]
    bundle = make_bundle()
    bundle.shell("echo $$; exit 3")
    done = pyrunc.run(bundle)
    assert (done.code, done.stdout) == (3, "1\n"), done
    bundle.shell("sleep 100")
    assert pyrunc.exec(pyrunc.start(bundle), "true").code == 0


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
