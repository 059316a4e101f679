"""What `state` tells at each moment of a checkpoint and a restore (CRIU calls a script there)."""

from __future__ import annotations

import json
import shlex

import pytest
from checkpoints import COUNTER, goes_on, images, number_in, restore, save, wait_for

__all__ = ["images", "restore"]


@pytest.fixture
def asked(make_bundle, pyrunc, tmp_path):
    """A bundle whose CRIU asks for the state at each moment; what was told, in order."""
    bundle = make_bundle()
    state = shlex.join([*pyrunc.command, "state"])
    script = tmp_path / "ask"
    script.write_text(
        "#!/bin/sh\n"
        f'told=$({state} $(cat {tmp_path}/name) 2>&1 | tr -d "\\n")\n'
        f'echo "$CRTOOLS_SCRIPT_ACTION $told" >> {tmp_path}/told\n'
    )
    script.chmod(0o755)
    (tmp_path / "criu.conf").write_text(f"action-script {script}\n")
    bundle.config["annotations"] = {"org.criu.config": str(tmp_path / "criu.conf")}
    bundle.shell(COUNTER)

    def told():
        lines = (tmp_path / "told").read_text().splitlines()
        (tmp_path / "told").unlink()
        return {moment: json.loads(state) for moment, _, state in (x.partition(" ") for x in lines)}

    return bundle, told


def test_it_runs_until_it_is_gone_and_is_created_until_it_runs(
    asked, pyrunc, images, restore, tmp_path
):
    bundle, told = asked
    container = pyrunc.start(bundle)
    wait_for(lambda: number_in(bundle.rootfs / "tmp/count") > 3)
    (tmp_path / "name").write_text(container.id)
    pid = pyrunc.state(container)["pid"]
    save(pyrunc, container, images)
    states = told()
    assert {"pre-dump", "post-dump"} <= states.keys()
    for moment, state in states.items():
        assert state["status"] in ("running", "paused"), moment
        assert state["pid"] == pid
    # The id of the next one, which `restore` of the fixture takes.
    new_id, pyrunc.new_id = pyrunc.new_id, lambda: name
    name = new_id()
    (tmp_path / "name").write_text(name)
    restored = restore(bundle, images)
    pyrunc.new_id = new_id
    states = told()
    assert {"pre-restore", "setup-namespaces", "post-restore", "post-resume"} <= states.keys()
    assert {state["status"] for state in states.values()} == {"creating"}
    assert states["pre-restore"]["pid"] == 0
    assert states["post-restore"]["pid"] == pyrunc.state(restored)["pid"]
    assert pyrunc.state(restored)["status"] == "running"
    assert goes_on(bundle, 3)
