"""REST: run a command in a container to its end, or begin it and look later. Streams and terminals are the Docker API's."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any, Final

from django.http import HttpRequest
from ninja import Router, Schema, Status
from pydantic import Field

from controlpanel.base.rest import Asked
from controlpanel.execs import rows, services
from controlpanel.execs.projection import ExecView
from controlpanel.tenants.rest import actor
from engine.errors import InvalidArgument, Unavailable
from engine.model.execution import ExecSpec

router = Router()
OUTPUT_MAX: Final = 1 << 20  # bytes of each stream
TIMEOUT_MAX_S: Final = 3600
_CHUNK: Final = 256 << 10
_HEADER: Final = 8  # of a frame: stream, three zeros, length


class ExecIn(Asked):
    command: list[str] = Field(min_length=1)
    env: dict[str, str] = {}
    user: str = Field("", description="Empty: the container's.")
    working_dir: str = Field("", description="Empty: the container's.")
    stdin: str = Field("", description="What the command reads, then its end.")
    detach: bool = Field(False, description="Answer when it has begun. It runs without limit of time, and what it says is dropped.")
    timeout_s: float = Field(60, gt=0, le=TIMEOUT_MAX_S, description="Then the command is killed, and the answer is an error.")


class ExecStateOut(Schema):
    """``exit_code`` is null until it has ended; 126 and 127 of a command that could not be run."""

    id: str
    container: str = Field(description="Its id.")
    command: list[str]
    user: str
    running: bool
    exit_code: int | None
    created_at: datetime


class ExecOut(Schema):
    """Text that is not UTF-8 has marks where it isn't; each stream is cut after 1 MiB."""

    id: str
    exit_code: int
    stdout: str
    stderr: str
    truncated: bool


@router.post(
    "/tenants/{tenant}/containers/{name}/exec",
    response={200: ExecOut, 202: ExecStateOut},
    summary="Run a command in it; answers when it has ended, or has begun",
)
async def run_command(request: HttpRequest, tenant: str, name: str, payload: ExecIn) -> Any:
    who = await actor(request, tenant, "container.exec")
    spec = ExecSpec(
        id="",
        args=tuple(payload.command),
        env=tuple(f"{key}={value}" for key, value in payload.env.items()),
        cwd=payload.working_dir,
        user=payload.user,
        stdin=bool(payload.stdin),
    )
    if payload.detach and payload.stdin:
        raise InvalidArgument("a detached command reads nothing: leave stdin out")
    view = await services.create(who, name, spec)
    if payload.detach:
        detached = await services.start(who, view.id, detached=True)
        detached.writer.transport.abort()
        return Status(202, _state(await services.look(who, view.id)))
    started = await services.start(who, view.id, hang_up=True)
    try:
        async with asyncio.timeout(payload.timeout_s):
            feeding = asyncio.ensure_future(_feed(started.writer, payload.stdin.encode()))
            try:
                output = await _read(started.reader)
            finally:
                feeding.cancel()
                await asyncio.gather(feeding, return_exceptions=True)
            await services.finished(view.id)
    except TimeoutError:
        raise Unavailable(f"the command did not end within {payload.timeout_s:g} s and was killed", exec=view.id) from None
    finally:
        started.writer.transport.abort()
    return _answer(await services.look(who, view.id), output)


@router.get("/tenants/{tenant}/execs/{exec_id}", response=ExecStateOut, summary="A command that runs or ran in a container")
async def get_command(request: HttpRequest, tenant: str, exec_id: str) -> dict[str, Any]:
    who = await actor(request, tenant, "container.view")
    return _state(await services.look(who, exec_id))


def _state(view: ExecView) -> dict[str, Any]:
    return {
        "id": view.id,
        "container": view.container,
        "command": list(view.spec.args),
        "user": view.spec.user,
        "running": view.is_running,
        "exit_code": view.exit_code,
        "created_at": datetime.fromtimestamp(view.created_at_ns / 1e9, UTC),
    }


async def _feed(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(data)
    await writer.drain()
    writer.write_eof()


async def _read(reader: asyncio.StreamReader) -> dict[int, bytearray]:
    """By stream number; one byte more than is shown tells that there was more."""
    found = {1: bytearray(), 2: bytearray()}
    try:
        while True:
            header = await reader.readexactly(_HEADER)
            left = int.from_bytes(header[4:], "big")
            while left:
                piece = await reader.read(min(left, _CHUNK))
                if not piece:
                    return found
                left -= len(piece)
                stream = found.setdefault(header[0], bytearray())
                stream += piece[: OUTPUT_MAX + 1 - len(stream)]
    except asyncio.IncompleteReadError:
        return found


def _answer(view: ExecView, output: dict[int, bytearray]) -> dict[str, Any]:
    return {
        "id": view.id,
        "exit_code": view.exit_code if view.exit_code is not None else rows.LOST,
        "stdout": output[1][:OUTPUT_MAX].decode(errors="replace"),
        "stderr": output[2][:OUTPUT_MAX].decode(errors="replace"),
        "truncated": any(len(stream) > OUTPUT_MAX for stream in output.values()),
    }
