"""The library for asyncio: the names of :mod:`pyrunc`, to be awaited.

>>> async def main():
...     async with pyrunc.aio.Sandbox(memory="256M") as box:
...         result = await box.run(["echo", "hello"], text=True)
...         return result.stdout
>>> asyncio.run(main())
'hello\\n'

Uses sandbox/ and all below. Begin with ``faces``; the logic is :mod:`pyrunc.sandbox.logic`'s.

A task that is cancelled while it waits for a run ends that run first: when the cancellation comes
out of ``run``, no process of the container is left.
"""

from __future__ import annotations

from pyrunc.aio.faces import DEVNULL, PIPE, STDOUT, Process, Sandbox, run
from pyrunc.aio.runtime import Container, Runtime

__all__ = ["DEVNULL", "PIPE", "STDOUT", "Container", "Process", "Runtime", "Sandbox", "run"]
