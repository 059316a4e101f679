"""A Python interpreter with its imports done, saved once and restored for each task.

Takes root, and CRIU in $PATH. Each copy begins with the same memory, and so with the same state of
the module random: what must differ between copies has to come from outside, or be seeded anew.
"""

import os
import tempfile
import time
from pathlib import Path

import pyrunc

WARM = """
import argparse, asyncio, decimal, email.message, http.client, json, sqlite3, unittest
print("ready", flush=True)
exec(input())
"""
TASKS = [f"print({number}, json.dumps(str(decimal.Decimal({number}) / 7)))" for number in range(5)]


def root_of_the_host(path: Path) -> None:
    """Make a root file system of nothing but the host's /usr, which is mounted there."""
    (path / "usr").mkdir()
    for name in ("bin", "lib", "lib64", "sbin"):
        if os.path.islink(f"/{name}"):
            (path / name).symlink_to(os.readlink(f"/{name}"))


def main() -> None:
    """Save an interpreter once it is ready, and give each task a copy."""
    with tempfile.TemporaryDirectory() as directory:
        rootfs, images = Path(directory, "rootfs"), Path(directory, "images")
        rootfs.mkdir()
        root_of_the_host(rootfs)
        runtime = pyrunc.Runtime(Path(directory, "state"))
        spec = pyrunc.Spec.default(rootfs, ["python3", "-c", WARM]).with_mount("/usr", "/usr")
        with runtime.create(spec, stdin=pyrunc.PIPE, stdout=pyrunc.PIPE) as container:
            begun = time.monotonic()
            container.start()
            assert container.process is not None
            assert container.process.stdout is not None
            assert container.process.stdout.readline() == b"ready\n"
            print(f"started in {time.monotonic() - begun:.3f} s")
            container.checkpoint(images)
        for task in TASKS:
            begun = time.monotonic()
            with runtime.restore(images, stdin=pyrunc.PIPE, stdout=pyrunc.PIPE) as copy:
                assert copy.process is not None
                took = time.monotonic() - begun
                output, _ = copy.process.communicate(f"{task}\n".encode())
                print(f"restored in {took:.3f} s: {output.decode().strip()}")


if __name__ == "__main__":
    main()
