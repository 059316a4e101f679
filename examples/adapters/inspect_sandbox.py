"""A sandbox for Inspect (the package `inspect_ai`): what a model's tools run is in a container.

Import this module where a task is defined, and say `Task(..., sandbox="pyrunc")`, or
`sandbox=("pyrunc", "python.tar")` for an image's archive instead of the host's /usr.
"""

from __future__ import annotations

import tempfile
from typing import Literal, overload

from inspect_ai.util import (
    ExecResult,
    OutputLimitExceededError,
    SandboxEnvironment,
    SandboxEnvironmentConfigType,
    SandboxEnvironmentLimits,
    SandboxUserUnsupportedError,
    sandboxenv,
)

import pyrunc

HOME = "/work"


@sandboxenv(name="pyrunc")
class PyruncSandbox(SandboxEnvironment):
    """One `pyrunc.Sandbox` for each sample."""

    def __init__(self, box: pyrunc.aio.Sandbox) -> None:
        super().__init__()
        self.box = box

    @classmethod
    async def sample_init(
        cls, task_name: str, config: SandboxEnvironmentConfigType | None, metadata: dict[str, str]
    ) -> dict[str, SandboxEnvironment]:
        rootfs = config if isinstance(config, str) else None
        box = pyrunc.aio.Sandbox(rootfs=rootfs, memory="1G", pids=256, disk="1G", best_effort=True)
        await box.open()
        with tempfile.TemporaryDirectory() as empty:
            await box.put(empty, HOME)
        return {"default": cls(box)}

    @classmethod
    async def sample_cleanup(
        cls,
        task_name: str,
        config: SandboxEnvironmentConfigType | None,
        environments: dict[str, SandboxEnvironment],
        interrupted: bool,
    ) -> None:
        for environment in environments.values():
            await environment.as_type(PyruncSandbox).box.close()

    async def exec(
        self,
        cmd: list[str],
        input: str | bytes | None = None,
        cwd: str | None = None,
        env: dict[str, str] | None = None,
        user: str | None = None,
        timeout: int | None = None,
        timeout_retry: bool = True,
        concurrency: bool = True,
    ) -> ExecResult[str]:
        if user is not None:
            raise SandboxUserUnsupportedError("all programs of a sandbox run as one user")
        try:
            result = await self.box.run(
                cmd, input=input, cwd=_path(cwd or ""), env=env, timeout=timeout, output="10M",
                text=True,
            )  # fmt: skip
        except pyrunc.ProgramNotFound as error:
            return ExecResult(False, 127, "", str(error))
        if result.status == "timeout":
            # It has ended everything in the sandbox but its files.
            raise TimeoutError(f"{cmd[0]} has not ended in {timeout} seconds")
        code = result.returncode if result.returncode >= 0 else 128 - result.returncode
        return ExecResult(result.ok, code, result.stdout, result.stderr)

    async def write_file(self, file: str, contents: str | bytes) -> None:
        await self._check(file, "-w")
        await self.box.write_file(_path(file), contents)

    @overload
    async def read_file(self, file: str, text: Literal[True] = True) -> str: ...

    @overload
    async def read_file(self, file: str, text: Literal[False]) -> bytes: ...

    async def read_file(self, file: str, text: bool = True) -> str | bytes:
        most = SandboxEnvironmentLimits.MAX_READ_FILE_SIZE
        await self._check(file, "-r")
        content = await self.box.read_file(_path(file), limit=most + 1)
        if len(content) > most:
            raise OutputLimitExceededError(SandboxEnvironmentLimits.MAX_READ_FILE_SIZE_STR, None)
        return content.decode() if text else content

    async def _check(self, file: str, right: str) -> None:
        """Refuse what the sandbox's user may not, or what is a directory; files go in by root."""
        script = f'[ ! -e "$0" ] || {{ [ ! -d "$0" ] || exit 2; [ {right} "$0" ]; }}'
        match (await self.box.run(["sh", "-c", script, _path(file)])).returncode:
            case 1:
                raise PermissionError(f"permission denied: {file}")
            case 2:
                raise IsADirectoryError(f"{file} is a directory")


def _path(path: str) -> str:
    """Return a path as seen from the sample's directory."""
    return path if path.startswith("/") else f"{HOME}/{path}".rstrip("/")
