"""What is said when something cannot be done, in the words that engines turn into exit codes."""

from __future__ import annotations

import json

import pytest


@pytest.fixture
def refuses(pyrunc, tmp_path):
    """Create must fail with these words, in one line, and leave nothing."""

    def check(bundle, *words, options=()):
        done = pyrunc.create(bundle, *options)
        assert done.code == 1
        assert done.stdout == ""
        for word in words:
            assert word in done.stderr
        assert "internal error" not in done.stderr
        assert "runc" not in done.stderr.replace("pyrunc", "")
        assert done.stderr.count("\n") == 1
        assert pyrunc("state", done.id).code == 1
        left = list((tmp_path / "pyrunc-state").glob("[!@]*"))
        assert left == []
        return done

    return check


def test_a_program_that_is_not_in_path(make_bundle, refuses):
    refuses(make_bundle(args=["nope"]), 'exec: \\"nope\\": executable file not found in $PATH')


def test_a_path_that_is_not_there(make_bundle, refuses):
    words = 'exec: \\"/bin/nope\\": stat /bin/nope: no such file or directory'
    refuses(make_bundle(args=["/bin/nope"]), words)


def test_a_program_without_permission(make_bundle, refuses):
    bundle = make_bundle(args=["/plain"])
    (bundle.rootfs / "plain").write_text("x")
    refuses(bundle, 'exec: \\"/plain\\"', "permission denied")


def test_a_program_that_the_user_may_not_execute(make_bundle, refuses):
    bundle = make_bundle(args=["/bin/only-root"], process={"user": {"uid": 1000, "gid": 1000}})
    program = bundle.rootfs / "bin/only-root"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o700)
    refuses(bundle, 'exec: \\"/bin/only-root\\"', "permission denied")


def test_a_directory(make_bundle, refuses):
    refuses(make_bundle(args=["/bin"]), 'exec: \\"/bin\\"', "is a directory")


def starts_with_error(pyrunc, bundle, *words):
    container = pyrunc.create(bundle)
    assert container.code == 0, container
    started = pyrunc("start", container.id)
    assert started.code == 1
    for word in words:
        assert word in started.stderr
    pyrunc.wait(container)
    assert pyrunc("delete", container.id).code == 0


def test_start_reports_a_format_that_cannot_be_executed(make_bundle, pyrunc):
    bundle = make_bundle(args=["/garbage"])
    (bundle.rootfs / "garbage").write_bytes(b"\x7fELF and nonsense")
    (bundle.rootfs / "garbage").chmod(0o755)
    starts_with_error(pyrunc, bundle, "exec /garbage: exec format error")


def test_start_reports_a_missing_interpreter(make_bundle, pyrunc):
    bundle = make_bundle(args=["/run.sh"])
    (bundle.rootfs / "run.sh").write_text("#!/usr/bin/missing\n")
    (bundle.rootfs / "run.sh").chmod(0o755)
    starts_with_error(pyrunc, bundle, "exec /run.sh: no such file or directory")


def test_run_reports_it_as_well_and_leaves_nothing(make_bundle, pyrunc):
    bundle = make_bundle(args=["/run.sh"])
    (bundle.rootfs / "run.sh").write_text("#!/usr/bin/missing\n")
    (bundle.rootfs / "run.sh").chmod(0o755)
    for options in ([], ["--detach"]):
        done = pyrunc.run(bundle, *options)
        assert done.code == 1
        assert "exec /run.sh: no such file or directory" in done.stderr
        assert pyrunc("state", done.id).code == 1


def test_five_mistakes_are_one_entry_with_their_paths(make_bundle, refuses, tmp_path):
    bundle = make_bundle()
    bundle.config["ociVersion"] = 1
    bundle.process["cwd"] = "relative"
    bundle.process["args"] = "true"
    bundle.config["mounts"][1]["destination"] = 7
    bundle.linux["namespaces"][0]["type"] = "nonsense"
    done = refuses(bundle)
    for path in ("ociVersion", "process.cwd", "process.args", "mounts[1].destination",
                 "linux.namespaces[0].type"):  # fmt: skip
        assert path in done.stderr
    # Nothing was touched, not even the state root.
    assert not (tmp_path / "pyrunc-state").exists()


def test_json_log_has_one_object_a_line(make_bundle, pyrunc, tmp_path):
    bundle = make_bundle(args=["nope"])
    bundle.save()
    log = tmp_path / "log.json"
    done = pyrunc("--log", log, "--log-format", "json", "create", "--bundle", bundle.path, "x")
    assert done.code == 1
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    assert entries[-1].keys() == {"level", "msg", "time"}
    assert 'exec: "nope": executable file not found in $PATH' in entries[-1]["msg"]
    assert 'exec: "nope": executable file not found in $PATH' in done.stderr


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a b", "é", "a\x1b[31m", "x" * 1025, "a:b"])
def test_ids_that_are_no_names(make_bundle, pyrunc, name):
    bundle = make_bundle()
    bundle.save()
    done = pyrunc("create", "--bundle", bundle.path, name)
    assert done.code == 1
    assert "invalid container ID format" in done.stderr
    assert "\x1b" not in done.stderr


@pytest.mark.parametrize("name", ["a", "A-Z_0+9.", "..."])
def test_ids_that_are(make_bundle, pyrunc, name):
    bundle = make_bundle()
    bundle.save()
    pyrunc.ids.append(name)
    assert pyrunc("create", "--bundle", bundle.path, name).code == 0


def test_a_missing_root_file_system(make_bundle, refuses):
    bundle = make_bundle(root={"path": "nowhere"})
    refuses(bundle, "nowhere", "no such file or directory")


def test_a_missing_bundle(pyrunc):
    done = pyrunc("create", "--bundle", "/nonexistent", "x")
    assert done.code == 1
    assert "/nonexistent" in done.stderr


@pytest.mark.parametrize("option", ["--console-socket", "--pidfd-socket"])
def test_a_socket_that_nobody_listens_at(make_bundle, refuses, option):
    bundle = make_bundle()
    bundle.process["terminal"] = option == "--console-socket"
    refuses(bundle, "/nonexistent/socket", options=(option, "/nonexistent/socket"))


def test_a_pid_file_that_cannot_be_written(make_bundle, refuses):
    refuses(make_bundle(), "/nonexistent/pid", options=("--pid-file", "/nonexistent/pid"))


def test_a_terminal_without_a_console_socket(make_bundle, refuses):
    refuses(make_bundle(process={"terminal": True}), "console socket")


def test_a_mount_that_fails_names_itself(make_bundle, refuses):
    bundle = make_bundle()
    bundle.bind("/nonexistent/source", "/mnt")
    refuses(bundle, "bind /nonexistent/source to /mnt", "no such file or directory")


def test_a_namespace_that_is_none(make_bundle, refuses):
    bundle = make_bundle()
    bundle.namespace("network", "/etc/passwd")
    refuses(bundle, "network namespace /etc/passwd", "not a namespace")


def test_a_cgroup_limit_that_the_kernel_refuses(make_bundle, refuses):
    bundle = make_bundle()
    bundle.linux["resources"]["cpu"] = {"cpus": "999"}
    refuses(bundle)


def test_a_file_where_the_state_root_should_be(make_bundle, pyrunc, tmp_path):
    (tmp_path / "pyrunc-state").write_text("")
    bundle = make_bundle()
    assert pyrunc.create(bundle).code == 1
    (tmp_path / "pyrunc-state").unlink()
