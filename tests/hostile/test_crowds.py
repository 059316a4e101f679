"""Many containers at once, and many commands at once on one container."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor, wait

from stepping import left_of


def troubles(*results):
    return [
        f"{result}" for result in results
        if "internal error" in result.stderr or "Traceback" in result.stderr
    ]  # fmt: skip


def test_lifecycles_side_by_side(make_bundle, pyrunc, tally, factor):
    """500 of them, 16 at a time, in the full run; nothing of any is left."""
    bundle = make_bundle(args=["sleep", "1000"])
    bundle.save()

    def live(number):
        name = f"{prefix}-{number}"
        results = [
            pyrunc("create", "--bundle", bundle.path, name, timeout=120),
            pyrunc("start", name, timeout=120),
            pyrunc("exec", name, "true", timeout=120),
            pyrunc("state", name, timeout=120),
            pyrunc("kill", name, "KILL", timeout=120),
            pyrunc("delete", "--force", name, timeout=120),
        ]
        return name, [str(result) for result in results if result.code or result.stderr]

    prefix = pyrunc.new_id()
    with ThreadPoolExecutor(16) as pool:
        for name, wrong in pool.map(live, range(min(16 * factor, 500))):
            tally(name, wrong + left_of(pyrunc, name))


def test_commands_race_on_one_container(make_bundle, pyrunc, tally, factor):
    """Each ends, with success or with a clear error; afterwards all can be removed."""
    bundle = make_bundle(args=["sleep", "1000"])
    bundle.save()
    generator = random.Random(7)
    commands = (
        ("create", "--bundle", bundle.path), ("create", "--bundle", bundle.path), ("start",),
        ("start",), ("kill", "KILL"), ("kill", "TERM"), ("delete",), ("delete", "--force"),
        ("exec", "true"), ("exec", "sleep", "0.05"), ("pause",), ("resume",), ("state",), ("ps",),
        ("update", "--pids-limit", "50"), ("events", "--stats"), ("list",),
        ("run", "-d", "--bundle", bundle.path),
    )  # fmt: skip

    def act(words):
        command, *rest = words
        options = [
            word for word in rest if command in ("create", "run", "update", "events", "delete")
        ]
        after = [word for word in rest if word not in options]
        names = [] if command == "list" else [name]
        return command, pyrunc(command, *options, *names, *after, timeout=60)

    with ThreadPoolExecutor(10) as pool:
        for number in range(4 * factor):
            name = pyrunc.new_id()
            if number % 2:
                pyrunc("run", "-d", "--bundle", bundle.path, name)
            acting = [pool.submit(act, words) for words in generator.choices(commands, k=10)]
            while wait(acting, timeout=2).not_done:
                # One may be waiting for a program that another has frozen.
                pyrunc("resume", name)
            results = [action.result() for action in acting]
            wrong = [
                f"{command}: {result}" for command, result in results
                if troubles(result) or result.code not in (0, 1, 137, 143, 255)
            ]  # fmt: skip
            removed = pyrunc("delete", "--force", name)
            if removed.code or removed.stderr:
                wrong.append(f"delete --force: {removed}")
            if left := left_of(pyrunc, name):
                wrong += left + [f"{command} ({result.code})" for command, result in results]
            tally(f"race {number}", wrong)
            pyrunc.ids.remove(name)
