"""What an engine is when it starts: three processes, of which two stay.

    the program
      └─ this module, executed: forks the keeper and ends, so that the program has no child more
           └─ keeper: waits for the end of the program and of the engine, then removes what is left
                └─ engine: makes the containers, one at a time
                     └─ containers, which the kernel kills when the engine ends

The keeper is the reaper of everything below it (PR_SET_CHILD_SUBREAPER). Nothing of this looks
at the program again but through a descriptor: a pidfd, and the socket that requests come through.
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

from pyrunc.engine import keeper, messages, places
from pyrunc.engine.apart import stand_apart
from pyrunc.engine.ids import EVERYBODY
from pyrunc.engine.log import Collected
from pyrunc.engine.seclusion import seclude
from pyrunc.engine.server import Server
from pyrunc.errors import Error
from pyrunc.linux import processes as p

if TYPE_CHECKING:
    from typing import NoReturn


def main(control: int, program: int, program_pid: int, *, is_secluded: bool = True) -> None:
    """Become an engine.

    :param control: the socket of the requests.
    :param program: a pidfd of the program, whose number is ``program_pid``.
    :param is_secluded: whether it has namespaces of its own, which sandboxes need.
    """
    stand_apart()
    requests = socket.socket(fileno=control)
    try:
        base = places.base_directory()
        name, lock = places.make_directory(base, program_pid)
        keeper.note_cgroups(f"{base}/{name}", name)
    except BaseException as error:
        _end(requests, error)
    engine = _fork_engine(requests, program, lock, f"{base}/{name}", name, is_secluded=is_secluded)
    requests.close()
    keeper.keep(engine, program, base, name, lock)
    os._exit(0)


def _fork_engine(
    requests: socket.socket,
    program: int,
    lock: int,
    directory: str,
    name: str,
    *,
    is_secluded: bool,
) -> int:
    """Return the pid of the engine proper, which has its ids."""
    keeper_pid = os.getpid()
    refused = ""
    while True:
        asked, theirs = messages.pair()
        engine = os.fork()
        if engine == 0:
            os.close(lock)
            os.close(program)
            asked.close()
            outside = theirs if is_secluded else None
            _serve(keeper_pid, requests, outside, directory, name)
        theirs.close()
        try:
            if messages.receive(asked):
                # Root's engine does not ask.
                from pyrunc.engine.mapping import give

                give(engine, asked, refused)
            return engine
        except Error as error:
            # A user namespace takes a mapping once: the next engine goes without.
            refused = str(error)
        finally:
            asked.close()


def _serve(
    keeper_pid: int,
    requests: socket.socket,
    outside: socket.socket | None,
    directory: str,
    name: str,
) -> NoReturn:
    """Be the engine proper, until the program has closed its end."""
    p.prctl(p.PR_SET_PDEATHSIG, p.SIGKILL)
    if os.getppid() != keeper_pid:
        os._exit(1)
    try:
        ids = EVERYBODY if outside is None else seclude(outside)
        Server(requests, directory, name, Collected()).serve(ids)
    except BaseException as error:
        _end(requests, error)
    os._exit(0)


def _end(requests: socket.socket, error: BaseException) -> NoReturn:
    """End with last words: what the program finds when it sees that the engine is lost."""
    words = str(error)
    if not isinstance(error, Error):
        import traceback

        words = "internal error: " + "".join(traceback.format_exception(error))
    try:
        requests.setblocking(False)
        messages.send(requests, words)
    except OSError:
        pass
    os._exit(1)
