"""Leaving the program that has executed this: what an engine and its like begin with."""

from __future__ import annotations

import gc
import os
import signal

from pyrunc.linux import processes as p


def stand_apart() -> None:
    """Go on as a process that the program does not wait for, with nothing of what it inherited.

    It is the reaper of all that it brings forth (PR_SET_CHILD_SUBREAPER).
    """
    _forget_the_program()
    # Forks share what was loaded: the collector must not write to it.
    gc.freeze()
    if os.fork():
        # The program waits for this process only.
        os._exit(0)
    os.setsid()
    p.prctl(p.PR_SET_CHILD_SUBREAPER, 1)


def _forget_the_program() -> None:
    """Undo what a process inherits: signals, directory, umask, a small limit of descriptors."""
    for number in signal.valid_signals():
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.chdir("/")
    os.umask(0o022)
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
