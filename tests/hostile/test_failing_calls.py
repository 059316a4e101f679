"""System calls that fail in the middle of a command: one clear line, nothing left, nothing hangs.

Each command is run from call to call (stepper.c); one call is not made, and fails with an error
that it may have on a machine that is out of memory, descriptors or space, whose disk is broken or
whose kernel forbids it.
"""

from __future__ import annotations

import errno
import random

import pytest
from stepping import Case, chosen, plain, with_everything

#: Numbers of x86_64 whose failure has more usual reasons than lack of memory or a filter.
OPENING = {2, 85, 257, 437, 428}
MAKING = {76, 77, 82, 83, 84, 87, 88, 133, 258, 259, 263, 264, 265, 266, 316}
WRITING = {1, 18, 20, 74, 75, 285}
READING = {0, 17, 19, 78, 217}
NEW_DESCRIPTORS = {22, 32, 33, 41, 53, 72, 281, 288, 292, 293, 319, 434, 438}
NEW_PROCESSES = {56, 57, 58, 435}
MOUNTING = {155, 165, 166, 272, 308, 429, 430, 431, 432, 442}
#: The interpreter's own memory, waiting, and ends.
NOT_OURS = {3, 9, 10, 11, 12, 13, 14, 15, 28, 60, 202, 218, 231, 273, 302, 318, 334}
ERRORS = (
    (OPENING, ("EMFILE", "ENFILE", "ENOMEM", "EIO", "EACCES", "EROFS", "EPERM")),
    (MAKING, ("ENOSPC", "EROFS", "EIO", "EACCES", "EDQUOT", "ENOMEM")),
    (WRITING, ("ENOSPC", "EIO", "EDQUOT", "EPERM")),
    (READING, ("EIO", "ENOMEM")),
    (NEW_DESCRIPTORS, ("EMFILE", "ENFILE", "ENOMEM", "EPERM")),
    (NEW_PROCESSES, ("EAGAIN", "ENOMEM", "EPERM", "ENOSYS")),
    ({73}, ("ENOLCK", "EINTR")),
    (MOUNTING, ("EPERM", "ENOMEM", "EBUSY", "ENOSPC", "EINVAL")),
)
#: How many calls are picked for each; `test_failing_machine.py` tries those that matter most.
COMMANDS = dict.fromkeys(
    ("create", "run", "start", "exec", "kill", "pause", "resume", "update", "delete"), 1
)
CASES = [(name, plain) for name in COMMANDS]
CASES += [(name, with_everything) for name in ("create", "run", "delete")]


def errors_of(call):
    names = next((names for calls, names in ERRORS if call in calls), ("ENOMEM", "EPERM"))
    return [getattr(errno, name) for name in names]


@pytest.mark.parametrize(("name", "content"), CASES)
def test_a_call_fails(make_bundle, pyrunc, stepper, tally, factor, public_path, name, content):
    bundle = make_bundle(at=public_path / "bundle")
    content(bundle)
    case = Case(name, pyrunc, bundle)
    counted = stepper.run("count", 0, *case.prepare())
    assert case.judge(counted) == []
    generator = random.Random(name)
    for number in chosen(counted.calls, COMMANDS[name] * factor):
        call = counted.calls[number - 1]
        if call in NOT_OURS:
            continue
        error = generator.choice(errors_of(call))
        outcome = stepper.run(str(error), number, *case.prepare())
        wrong = case.judge(outcome)
        if "internal error" in outcome.stderr or "Traceback" in outcome.stderr:
            wrong.append(outcome.stderr)
        if outcome.number != call:
            # Another call than meant, as children do not always run in the same order.
            error = -error
        tally(f"{name}, {errno.errorcode.get(error, error)} at {number} ({outcome.number})", wrong)
