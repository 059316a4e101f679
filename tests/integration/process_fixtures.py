"""A process of a container, in each of the ways that there are to give one."""

from __future__ import annotations

import json

import pytest


@pytest.fixture(params=["run", "exec", "process file"])
def inside(request, make_bundle, pyrunc):
    """Run a command in a container whose process (or exec'd process) has these properties."""

    def carry_out(command, process, linux=None):
        bundle = make_bundle(linux=linux or {})
        wanted = {**bundle.process, "args": command, **process}
        if request.param == "run":
            bundle.config["process"] = wanted
            return pyrunc.run(bundle)
        if request.param == "exec":
            bundle.config["process"] = {**wanted, "args": ["sleep", "1000"]}
        else:
            bundle.process["args"] = ["sleep", "1000"]
        container = pyrunc.create(bundle)
        if container.code:
            return container
        assert pyrunc("start", container.id).code == 0
        if request.param == "exec":
            return pyrunc.exec(container, *command)
        path = bundle.path / "process.json"
        path.write_text(json.dumps(wanted))
        return pyrunc("exec", "--process", path, container.id)

    carry_out.how = request.param
    return carry_out
