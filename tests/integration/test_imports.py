"""The hot path loads what it needs and nothing more: a module costs some 0.06 ms of a command's 20.

A newcomer fails here until it has its reason below, or is loaded lazily.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import pyrunc as package

#: Where the package under test is: the sources, or the installed ones.
SOURCE = str(Path(str(package.__file__)).parents[1])

#: Every command.
COMMON = {
    "__future__": "annotations stay strings; the statement is an import like any other",
    "errno": "numbers of errors to tell apart",
    "_json": "the C half of the json package",
    "_struct": "packing",
    "fcntl": "locks; built into the interpreter, as a rule",
    "select": "waiting; built into the interpreter, as a rule",
    "time": "the start of a process; loaded by every interpreter anyway",
    "pyrunc": "the package",
    "pyrunc.cli": "the room",
    "pyrunc.cli.commands": "the table of commands and global options",
    "pyrunc.cli.flags": "what was typed",
    "pyrunc.cli.log": "where errors go",
    "pyrunc.cli.main": "global options, choice of the command",
    "pyrunc.cli.paths": "--root is given, and made absolute",
    "pyrunc.cgroups": "the room",
    "pyrunc.cgroups.frozen": "paused is a status",
    "pyrunc.container": "the room",
    "pyrunc.container.record": "the room",
    "pyrunc.container.record.entry": "a container's directory",
    "pyrunc.container.record.place": "whose it is",
    "pyrunc.container.record.record": "what a record must hold",
    "pyrunc.container.settings": "the global options, resolved",
    "pyrunc.container.record.state": "the status of a container",
    "pyrunc.container.record.store": "the record on disk",
    "pyrunc.errors": "every error",
    "pyrunc.linux": "the room",
    "pyrunc.linux.files": "files opened by descriptor",
    "pyrunc.linux.libc": "raw system calls, should there be any",
    "pyrunc.linux.numbers": "their numbers",
    "pyrunc.linux.process_stat": "whether a process is still the one recorded",
    "pyrunc.snapshot": "the room",
    "pyrunc.snapshot.started": "whether the process began in a snapshot",
    "pyrunc.spec": "the room",
    "pyrunc.spec.json_text": "the record is JSON",
    "pyrunc.trace": "the stand-in that makes --trace cost nothing when it is off",
}
#: Whatever makes system calls that `posix` does not have.
RAW_CALLS = {"pyrunc.linux._syscall": "makes system calls, and nothing else"}
#: Whatever does more to a process than look at it: `state` and `list` do not.
PROCESSES = {"pyrunc.linux.processes": "makes, signals and waits for them"}
#: Whatever brings a process into a container's cgroups, or removes them.
CGROUPS = {
    "pyrunc.cgroups.cgroupfs": "writing the small files",
    "pyrunc.cgroups.driver": "picks the driver of the host or of the record",
    "pyrunc.cgroups.joining": "it gets into those of v1 later, beside the runtime's work",
    "pyrunc.cgroups.entrance": "a process gets into the cgroups by itself",
    "pyrunc.cgroups.tree": "who is in them, and their removal",
    "pyrunc.cgroups.v1": "the driver, on a v1 host",
    "pyrunc.cgroups.v2": "the driver, on a v2 host",
}
#: What hands a launch program to init.
LAUNCH = {
    "pyrunc.linux.refusals": "whether another way must be prepared before the fork",
    **RAW_CALLS,
    "pyrunc.process": "the room",
    "pyrunc.process.attributes": "limits, scheduling, affinity",
    "pyrunc.process.channel": "what builder, init and runtime say to each other",
    "pyrunc.container.undertaking": "carrying out the runtime's list, and undoing it",
    "pyrunc.container.shared_steps": "steps that create and exec have in common",
    "pyrunc.container.process_facts": "what the host has of what the process asks for",
    "pyrunc.plan": "the room",
    "pyrunc.plan.facts": "what the planner may know of the host",
    "pyrunc.plan.process": "what is planned for create and exec alike",
    "pyrunc.process.shared_page": "how init tells whom it brought forth in a pid namespace",
    "pyrunc.ids": "which numbers are users and groups",
    "pyrunc.process.descriptors": "which descriptors are passed on",
    "pyrunc.process.failure": "what init reports when a call fails",
    "pyrunc.process.last_mile": "from root's to the user's program's rights",
    "pyrunc.process.late": "what is filled in at last",
    "pyrunc.process.launch": "the launch program",
    "pyrunc.process.launch_format": "how it is laid out for init",
    "pyrunc.process.namespaces": "clone and setns",
    "pyrunc.process.program": "finding the program in the container",
    "pyrunc.process.seal": "the sealed copy of init",
    "pyrunc.security": "the room",
    "pyrunc.security.capabilities": "which ones the program gets",
    "pyrunc.step": "namespaces and program have steps of the plan",
}
CREATE = {
    **PROCESSES,
    **CGROUPS,
    **LAUNCH,
    "pyrunc.cgroups.device_filter": "the device rules, on a v2 host",
    "pyrunc.cgroups.devices": "the device rules that every container has",
    "pyrunc.cgroups.host": "how the host's cgroups are mounted",
    "pyrunc.cgroups.paths": "where the container's cgroup lies",
    "pyrunc.container.making.cgroup_owner": "whose the container's cgroup is, on a v2 host",
    "pyrunc.process.mapped_ids": "the ids of its owner, on a v2 host",
    "pyrunc.cgroups.v1_limits": "the limits, on a v1 host",
    "pyrunc.cgroups.v2_limits": "the limits, on a v2 host",
    "pyrunc.cli.create": "the command's flags; `run` has them too",
    "pyrunc.container.making.builder": "what makes the container from inside",
    "pyrunc.container.making.create": "the operation",
    "pyrunc.container.making.create_options": "its flags",
    "pyrunc.container.making": "the room",
    "pyrunc.container.making.making": "what the runtime's steps share",
    "pyrunc.container.making.runtime_plan": "the planner's first list",
    "pyrunc.container.making.steps": "what it is made of",
    "pyrunc.container.making.interrupts": "a signal undoes what is half made",
    "pyrunc.container.teardown": "undoing",
    "gc": "may not run in the memory that builder and runtime have in common; built in",
    "pyrunc.container.making.same_memory": "of a builder that asks for nothing",
    "pyrunc.container.making.spawn": "the fork",
    "pyrunc.container.record.first": "what is on record before there is a process",
    "pyrunc.container.record.timestamps": "when it was created",
    "pyrunc.linux.mounts": "the mount system calls",
    "pyrunc.linux.own_directory": "where devices may be made",
    "pyrunc.linux.vfork": "a child with this process's memory",
    "pyrunc.linux.sockets": "the loopback interface",
    "pyrunc.plan.first_process": "what init does",
    "pyrunc.plan.mounts": "which step each mount becomes",
    "pyrunc.plan.plan": "the result of planning",
    "pyrunc.plan.planner": "from config to steps",
    "pyrunc.process.console": "the planner's steps for a terminal",
    "pyrunc.process.hooks": "the planner's step for hooks, and the state's JSON",
    "pyrunc.process.tty": "loaded by console",
    "pyrunc.rootfs": "the room",
    "pyrunc.rootfs.cgroup_mount": "steps",
    "pyrunc.rootfs.devices": "steps",
    "pyrunc.rootfs.mount": "steps",
    "pyrunc.rootfs.options": "what mount options mean",
    "pyrunc.rootfs.protect": "steps",
    "pyrunc.rootfs.root": "steps",
    "pyrunc.rootfs.target": "what may be mounted on",
    "pyrunc.spec.config": "the check of config.json",
    "pyrunc.spec.id_mappings": "the check of id mappings",
    "pyrunc.spec.kinds": "what kinds of values there are",
    "pyrunc.spec.linux": "the check of its linux part",
    "pyrunc.spec.load": "reading and checking",
    "pyrunc.spec.process": "the check of its process part",
    "pyrunc.spec.resources": "the check of linux.resources",
    "pyrunc.spec.seccomp": "the check of linux.seccomp",
    "pyrunc.spec.sysctl": "the check of linux.sysctl",
}
RELAY = {"pyrunc.process.foreground": "signals and the end, in the foreground"}
START = {
    **PROCESSES,
    "pyrunc.cli.start": "the command",
    "pyrunc.container.start": "the operation",
    "pyrunc.process": "the room",
    "pyrunc.process.channel": "the byte that lets init go on",
    "pyrunc.container.undertaking": "carrying out the runtime's list, and undoing it",
    "pyrunc.step": "what steps are made of",
}
DELETE = {"pyrunc.container.delete": "the operation", "pyrunc.container.teardown": "the cgroup"}
OUTPUT = {"pyrunc.cli.output": "stdout may be a pipe that nobody reads"}
ALLOWED = {
    "create": CREATE,
    "start": START,
    "run": {**CREATE, **RELAY, **DELETE, **START, "pyrunc.cli.run": "the command"}
    | {"pyrunc.container.run": "the operation"},
    "exec": {**PROCESSES, **CGROUPS, **LAUNCH, **RELAY, "pyrunc.cli.execute": "the command"}
    | {
        "pyrunc.cli.create": "flags in common",
        "pyrunc.container.entering.exec_process": "which process to execute",
        "pyrunc.container.entering.execute": "the operation",
        "pyrunc.container.entering": "the room",
        "pyrunc.container.entering.entering": "what is found out about the container",
        "pyrunc.container.entering.runtime_plan": "the planner's first list",
        "pyrunc.container.entering.steps": "what it is made of",
        "pyrunc.plan.executed_process": "what init does",
        "pyrunc.container.entering.namespaces": "those of the container's process",
        "pyrunc.process.mapped_ids": "what its user is called here",
    },
    "state": {**OUTPUT, "pyrunc.cli.state": "the command"},
    "list": {
        **OUTPUT,
        "pyrunc.cli.list": "the command",
        "pyrunc.cli.text": "control characters are not shown as they are",
    },
    "kill": {
        **PROCESSES,
        "pyrunc.cli.kill": "the command",
        "pyrunc.cli.signals": "names of signals",
        "pyrunc.container.kill": "the operation",
    },
    "delete": {**PROCESSES, **CGROUPS, **DELETE, "pyrunc.cli.delete": "the command"},
}

PROBE = f"""\
import sys
before = set(sys.modules)
import posix
sys.path.insert(0, {SOURCE!r})
report = sys.argv.pop(1)
leave = posix._exit
def tell(code):
    with open(report, "w") as file:
        file.write(" ".join(sorted(set(sys.modules) - before - {{"posix"}})))
    leave(code)
posix._exit = tell
sys.argv[0] = "pyrunc"
from pyrunc.cli.main import main
main()
"""


@pytest.fixture
def probed(pyrunc, tmp_path):
    """Return what runs a command and tells which modules it had loaded at its end."""
    at = next(i for i, word in enumerate(pyrunc.command) if word == "--root")
    report = tmp_path / "modules"
    command = [sys.executable, "-I", "-S", "-X", "utf8", "-c", PROBE, str(report)]

    def run(*words):
        before = list(pyrunc.command)
        pyrunc.command[:at] = command
        try:
            done = pyrunc(*words)
        finally:
            pyrunc.command[:] = before
        assert done.code == 0, done
        return set(report.read_text().split())

    return run


def test_no_hot_command_loads_a_newcomer(make_bundle, pyrunc, probed):
    sleeper = make_bundle(args=["sleep", "1000"])
    sleeper.save()
    short = make_bundle(args=["true"])
    short.save()
    name = pyrunc.new_id()
    loaded = {
        "create": probed("create", "-b", str(sleeper.path), name),
        "start": probed("start", name),
        "exec": probed("exec", name, "true"),
        "state": probed("state", name),
        "list": probed("list"),
        "kill": probed("kill", name, "KILL"),
        "delete": probed("delete", "--force", name),
        "run": probed("run", "-b", str(short.path), pyrunc.new_id()),
    }
    newcomers = {
        command: sorted(modules - COMMON.keys() - ALLOWED[command].keys())
        for command, modules in loaded.items()
    }
    assert not any(newcomers.values()), f"give reasons, or load lazily: {newcomers}"
