"""Users without root against each other: nobody reaches another's containers or records."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest
from stepping import is_alive

from public_command import for_everybody

#: No account is needed for an id; these are nobody's.
ALICE, MALLORY = 47111, 47112


@pytest.fixture
def as_user(pyrunc, public_path):
    """Run the command as a user, with a runtime directory of its own like the one of a login."""
    command = for_everybody(pyrunc.command[: pyrunc.command.index("--root")])

    def run(uid, *words):
        directory = public_path / f"run-{uid}"
        if not directory.exists():
            directory.mkdir(mode=0o700)
            os.chown(directory, uid, uid)
        environment = {"PATH": "/usr/bin:/bin", "XDG_RUNTIME_DIR": str(directory), "HOME": "/"}
        # Files, not pipes: a container that runs on would hold those open.
        with (public_path / "out").open("w+") as out, (public_path / "err").open("w+") as err:
            done = subprocess.run(
                [*command, *map(str, words)], user=uid, group=uid, extra_groups=[], cwd="/",
                env=environment, stdout=out, stderr=err, text=True, check=False,
                stdin=subprocess.DEVNULL, timeout=60,
            )  # fmt: skip
            out.seek(0)
            err.seek(0)
            done.stdout, done.stderr = out.read(), err.read()
        return done

    return run


@pytest.fixture
def alices(make_bundle, public_path, as_user):
    """A container of Alice's that runs; her state root."""
    bundle = make_bundle(["sleep", "1000"], at=public_path / "bundle")
    one = [{"containerID": 0, "hostID": ALICE, "size": 1}]
    bundle.linux.update(uidMappings=one, gidMappings=one)
    bundle.namespace("user")
    del bundle.linux["resources"]
    bundle.config["mounts"][2]["options"].remove("gid=5")
    bundle.give_to(ALICE)
    os.chown(bundle.path, ALICE, ALICE)
    bundle.save()
    made = as_user(ALICE, "run", "--detach", "--bundle", bundle.path, "alices")
    if made.returncode and "user namespace" in made.stderr:
        pytest.skip(f"users may make no user namespaces here: {made.stderr}")
    assert made.returncode == 0, made.stderr
    root = public_path / f"run-{ALICE}" / "pyrunc"
    yield root
    as_user(ALICE, "delete", "--force", "alices")


def test_another_users_container_is_out_of_reach(alices, as_user, tally):
    """Even when its state root is named: its directory is closed, and pyrunc does not trust it."""
    commands = (
        ("state", "alices"), ("kill", "alices", "KILL"), ("exec", "alices", "true"), ("list",),
        ("delete", "--force", "alices"), ("pause", "alices"), ("ps", "alices"), ("start", "alices"),
        ("update", "--pids-limit", "1", "alices"), ("run", "new"), ("create", "alices"),
    )  # fmt: skip
    for words in commands:
        done = as_user(MALLORY, "--root", alices, *words)
        wrong = []
        if "internal error" in done.stderr or "Traceback" in done.stderr:
            wrong.append(done.stderr)
        if words[0] not in ("delete", "list") and done.returncode == 0:
            wrong.append("it worked")
        if "alices" in done.stdout:
            wrong.append(f"it told {done.stdout!r}")
        tally(" ".join(words), wrong)
    state = as_user(ALICE, "state", "alices")
    assert '"running"' in state.stdout, state.stderr


def test_what_is_in_the_state_root_is_for_its_owner_alone(alices):
    for path in (alices, *alices.rglob("*")):
        status = path.lstat()
        assert status.st_uid == ALICE, path
        assert not status.st_mode & 0o077, (path, oct(status.st_mode))


@pytest.mark.parametrize("who", [MALLORY, 0])
def test_a_state_root_that_another_user_has_made_is_refused(
    make_bundle, as_user, public_path, pyrunc, who
):
    """Mallory leaves a record that names another's process, where Alice or root may look."""
    trap = public_path / "trap"
    trap.mkdir(mode=0o777)
    trap.chmod(0o777)
    victim = subprocess.Popen(["sleep", "1000"], user=ALICE)
    try:
        started = Path(f"/proc/{victim.pid}/stat").read_text().rsplit(")", 1)[1].split()[19]
        (trap / "x").mkdir()
        (trap / "x/state.json").write_text(
            f'{{"format": 1, "ociVersion": "1.0.2", "id": "x", "bundle": "/b", "rootfs": "/r", '
            f'"created": "2020-01-01T00:00:00Z", "phase": "created", "pid": {victim.pid}, '
            f'"startTime": {started}}}'
        )
        (trap / "x/config.json").write_text("{}")
        for path in (trap / "x", *(trap / "x").iterdir()):
            os.chown(path, MALLORY, MALLORY)
        for words in (("kill", "x", "KILL"), ("delete", "--force", "x")):
            if who:
                done = as_user(ALICE, "--root", trap, *words)
                code, stderr = done.returncode, done.stderr
            else:
                pyrunc.command[-1] = str(trap)
                result = pyrunc(*words)
                code, stderr = result.code, result.stderr
            assert code == 1, stderr
            assert is_alive(victim.pid), f"{words} has killed another's process"
    finally:
        victim.send_signal(signal.SIGKILL)
        victim.wait()
        shutil.rmtree(trap)
