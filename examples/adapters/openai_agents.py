"""A sandbox client for the OpenAI Agents SDK (the package `openai-agents`).

    client = PyruncClient()
    session = await client.create(manifest=Manifest(...), options=PyruncOptions(memory="1G"))
    async with session:
        await session.exec("python3 main.py")

or as the `client` of `SandboxRunConfig`, for an agent that works in it.
"""

from __future__ import annotations

import io
import tarfile
import tempfile
import uuid
from pathlib import Path
from typing import Any, Literal

from agents.sandbox.errors import ExecTimeoutError, WorkspaceReadNotFoundError
from agents.sandbox.manifest import Manifest
from agents.sandbox.session import (
    BaseSandboxClient,
    BaseSandboxClientOptions,
    BaseSandboxSession,
    SandboxSession,
    SandboxSessionState,
)
from agents.sandbox.snapshot import SnapshotBase, SnapshotSpec, resolve_snapshot
from agents.sandbox.types import ExecResult, User

import pyrunc


class PyruncOptions(BaseSandboxClientOptions):
    """What a sandbox is made of, and how much it may use."""

    type: Literal["pyrunc"] = "pyrunc"
    rootfs: str | None = None
    memory: str = "1G"
    pids: int = 256
    disk: str = "1G"
    network: bool = False


class PyruncState(SandboxSessionState):
    """What of a session can be written down: a new sandbox is filled from its snapshot."""

    type: Literal["pyrunc"] = "pyrunc"
    options: PyruncOptions = PyruncOptions()


class PyruncSession(BaseSandboxSession):
    """A session in a `pyrunc.Sandbox`."""

    def __init__(self, state: PyruncState) -> None:
        self.state = state
        self._box: pyrunc.aio.Sandbox | None = None

    @property
    def box(self) -> pyrunc.aio.Sandbox:
        """The sandbox, once the session has started."""
        if self._box is None:
            raise RuntimeError("the session has not started, or is over")
        return self._box

    @property
    def _root(self) -> str:
        return self.state.manifest.root

    async def _ensure_backend_started(self) -> None:
        if self._box is not None:
            return
        limits: dict[str, Any] = self.state.options.model_dump()
        del limits["type"]
        self._box = await pyrunc.aio.Sandbox(**limits, best_effort=True).open()
        with tempfile.TemporaryDirectory() as empty:
            await self._box.put(empty, self._root)

    async def _shutdown_backend(self) -> None:
        box, self._box = self._box, None
        if box is not None:
            await box.close()

    async def running(self) -> bool:
        return self._box is not None

    async def _exec_internal(
        self, *command: str | Path, timeout: float | None = None
    ) -> ExecResult:
        words = [str(word) for word in command]
        environment = await self.state.manifest.environment.resolve()
        try:
            result = await self.box.run(words, cwd=self._root, env=environment, timeout=timeout)
        except pyrunc.ProgramNotFound as error:
            return ExecResult(stdout=b"", stderr=str(error).encode(), exit_code=127)
        if result.status == "timeout":
            # It has ended everything in the sandbox but its files.
            raise ExecTimeoutError(command=words, timeout_s=timeout)
        return ExecResult(stdout=result.stdout, stderr=result.stderr, exit_code=result.returncode)

    async def read(self, path: Path, *, user: str | User | None = None) -> io.IOBase:
        _refuse(user)
        place = self.normalize_path(path)
        try:
            return io.BytesIO(await self.box.read_file(place.as_posix()))
        except pyrunc.FileMissing as error:
            raise WorkspaceReadNotFoundError(path=path, cause=error) from error

    async def write(self, path: Path, data: io.IOBase, *, user: str | User | None = None) -> None:
        _refuse(user)
        place = self.normalize_path(path, for_write=True)
        content = data.read()
        await self.box.write_file(place.as_posix(), content)

    async def persist_workspace(self) -> io.IOBase:
        skipped = {path.as_posix() for path in self._persist_workspace_skip_relpaths()}
        packed = io.BytesIO()
        with tempfile.TemporaryDirectory() as directory:
            await self.box.get(self._root, f"{directory}/copy")
            with tarfile.open(fileobj=packed, mode="w") as archive:
                for path in sorted(Path(directory, "copy").rglob("*")):
                    name = path.relative_to(Path(directory, "copy"))
                    if not any(p.as_posix() in skipped for p in (name, *name.parents)):
                        archive.add(path, name.as_posix(), recursive=False)
        packed.seek(0)
        return packed

    async def hydrate_workspace(self, data: io.IOBase) -> None:
        with tempfile.TemporaryDirectory() as directory:
            with tarfile.open(fileobj=io.BytesIO(data.read())) as archive:
                _unpack(archive, directory)
            await self.box.put(directory, self._root)


def _unpack(archive: tarfile.TarFile, directory: str) -> None:
    """Unpack what a sandbox may have made: nothing of it may end up elsewhere."""
    if hasattr(tarfile, "data_filter"):
        archive.extractall(directory, filter="data")
        return
    # Python before 3.11.4, which has no filters. Links come last: nothing is written through one.
    links = []
    for member in archive:
        path = Path(directory, member.name)
        if ".." in path.parts or not path.is_relative_to(directory):
            raise ValueError(f"the archive would write to {member.name}")
        if member.issym():
            links.append((path, member.linkname))
        elif member.isfile() or member.isdir():
            archive.extract(member, directory)
    for path, target in links:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(target)


class PyruncClient(BaseSandboxClient[PyruncOptions]):
    """Makes such sessions."""

    backend_id = "pyrunc"
    supports_default_options = True

    async def create(
        self,
        *,
        snapshot: SnapshotSpec | SnapshotBase | None = None,
        manifest: Manifest | None = None,
        options: PyruncOptions | None = None,
    ) -> SandboxSession:
        session_id = uuid.uuid4()
        state = PyruncState(
            session_id=session_id,
            manifest=self._validate_manifest_for_create(manifest or Manifest()),
            snapshot=resolve_snapshot(snapshot, str(session_id)),
            options=options or PyruncOptions(),
        )
        return self._wrap_session(PyruncSession(state))

    async def delete(self, session: SandboxSession) -> SandboxSession:
        await session._inner._shutdown_backend()
        return session

    async def resume(self, state: SandboxSessionState) -> SandboxSession:
        """Make a sandbox anew: it has ended with its program, the snapshot has not."""
        assert isinstance(state, PyruncState)
        state = state.model_copy(update={"workspace_root_ready": False})
        return self._wrap_session(PyruncSession(state))

    def deserialize_session_state(self, payload: dict[str, object]) -> SandboxSessionState:
        return self._deserialize_session_state_payload(payload, PyruncState)


def _refuse(user: str | User | None) -> None:
    if user is not None:
        raise NotImplementedError("all programs of a sandbox run as one user")
