"""Find out which functions the usual commands call, for the start-up image (image.py).

    launcher/called.py [--add] [--package DIRECTORY]

Writes ``called.txt`` beside this file, or adds to it: cgroups v1 and v2 call for different
functions, so this is run once on a host of each kind. It needs root, busybox, and pyrunc's
package, installed for the interpreter that runs this or in DIRECTORY.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "benchmarks"))
from measure import Bench, engine_configs  # noqa: E402

#: Runs a command and notes the functions it calls, those of the builder before it becomes init.
WATCHED = """
import posix, sys
sys.path.append(sys.argv.pop(1))
report = posix.open(sys.argv.pop(1), posix.O_WRONLY | posix.O_APPEND | posix.O_CLOEXEC)
called = set()
def watch(frame, event, _):
    if event == "call":
        called.add(frame.f_code)
def tell():
    sys.setprofile(None)
    lines = "".join(f"{code.co_filename}\\t{code.co_qualname}\\n" for code in called)
    posix.write(report, lines.encode())
leave = posix._exit
def leave_and_tell(code):
    tell()
    leave(code)
posix._exit = leave_and_tell
from pyrunc.process import seal
execute = seal.execute_init
def execute_and_tell(*arguments):
    called.add(execute.__code__)
    tell()
    execute(*arguments)
seal.execute_init = execute_and_tell
sys.setprofile(watch)
sys.argv[0] = "pyrunc"
from pyrunc.cli.main import main
main()
"""


def as_engines_make_it(config: dict[str, Any]) -> dict[str, Any]:
    """Return ``config`` with what the ones in benchmarks/configs have been freed from."""
    config = json.loads(json.dumps(config))
    config["process"] |= {
        "oomScoreAdj": 0,
        "rlimits": [{"type": "RLIMIT_CORE", "hard": 0, "soft": 0}],
    }
    true = {"path": "/bin/true", "args": ["true"]}
    config["hooks"] = {"createRuntime": [true], "poststop": [true]}
    for source, target in (("/etc/hostname", "/etc/hostname"), ("/tmp", "/data")):
        mount = {"destination": target, "type": "bind", "source": source}
        config["mounts"].append(mount | {"options": ["rbind", "rprivate", "ro"]})
    for namespace in config["linux"]["namespaces"]:
        if namespace["type"] == "network":
            namespace["path"] = "/proc/self/ns/net"
    return config


def call_all(pyrunc: list[str], base: Path) -> None:
    """Run every usual command, with the flags that engines give."""
    (base / "state").mkdir(mode=0o700)
    bench = Bench([], base, 1, "", "")

    def call(*words: str) -> None:
        log = ["--root", str(base / "state"), "--log", str(base / "log"), "--log-format", "json"]
        null = subprocess.DEVNULL
        subprocess.run([*pyrunc, *log, *words], check=True, stdin=null, stdout=null)

    call("spec", "--bundle", str(base))
    default = json.loads((base / "config.json").read_text())
    process = base / "process.json"
    configs = [default, as_engines_make_it(default), *engine_configs().values()]
    for number, spec in enumerate(configs):
        name = f"called{os.getpid()}-{number}"
        spec["process"] |= {"args": ["sleep", "100"], "terminal": False}
        sleeper = bench.bundle(f"sleep{number}", spec)
        process.write_text(json.dumps(spec["process"] | {"args": ["true"]}))
        pid_file = ["--pid-file", str(base / "pid")]
        call("create", "--bundle", sleeper, *pid_file, name)
        call("state", name)
        call("start", name)
        call("state", name)
        call("list")
        call("exec", name, "true")
        call("exec", "--process", str(process), "--detach", *pid_file, name)
        call("kill", name, "KILL")
        while '"stopped"' not in subprocess.run(
            [*pyrunc, "--root", str(base / "state"), "state", name],
            capture_output=True, text=True, check=True,
        ).stdout:  # fmt: skip
            pass
        call("delete", name)
        call("run", "--detach", "--bundle", sleeper, name)
        call("delete", "--force", name)
        spec["process"]["args"] = ["true"]
        short = bench.bundle(f"true{number}", spec)
        # Twice: the first may compile its filter and find no state root.
        call("run", "--bundle", short, name)
        call("run", "--bundle", short, name)


def main() -> None:
    """Parse the options, run the commands, write the list."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--add", action="store_true", help="keep what is listed already")
    parser.add_argument("--package", help="the directory that holds the package")
    options = parser.parse_args()
    package = options.package
    if package is None:
        import pyrunc

        package = str(Path(str(pyrunc.__file__)).parents[1])
    with tempfile.TemporaryDirectory(prefix="pyrunc-called-") as directory:
        report = Path(directory, "report")
        report.touch()
        pyrunc_command = [sys.executable, "-I", "-S", "-X", "utf8", "-c", WATCHED]
        call_all([*pyrunc_command, package, str(report)], Path(directory))
        lines = set(report.read_text().splitlines())
    listed = HERE / "called.txt"
    found = set(listed.read_text().splitlines()) if options.add else set()
    for line in lines:
        path, name = line.split("\t")
        if path.startswith(package + "/") and "<" not in name:
            module = path.removeprefix(package + "/").removesuffix(".py").replace("/", ".")
            found.add(f"{module} {name}")
    listed.write_text("".join(f"{line}\n" for line in sorted(found)))


if __name__ == "__main__":
    main()
