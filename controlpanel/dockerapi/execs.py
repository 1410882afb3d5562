"""exec: create, start (a stream both ways, or detached), resize, inspect."""

from __future__ import annotations

import base64
from typing import Any, Final

from controlpanel.containers.projection import container
from controlpanel.dockerapi import attach, relay, schema
from controlpanel.dockerapi.exchange import Exchange
from controlpanel.dockerapi.schema import Kind
from controlpanel.execs import services
from controlpanel.execs.projection import ExecView
from engine.errors import Internal, InvalidArgument, QuotaExceeded, Unsupported
from engine.model import keys
from engine.model.execution import ExecSpec

_CREATE: Final[dict[str, Kind]] = {
    "User": schema.string,
    "Privileged": schema.boolean,
    "Tty": schema.boolean,
    "ConsoleSize": schema.size,
    "AttachStdin": schema.boolean,
    "AttachStderr": schema.boolean,
    "AttachStdout": schema.boolean,
    "DetachKeys": schema.string,
    "Env": schema.strings,
    "WorkingDir": schema.string,
    "Cmd": schema.strings,
}
_START: Final[dict[str, Kind]] = {"Detach": schema.boolean, "Tty": schema.boolean, "ConsoleSize": schema.size}
_STDOUT: Final = 1


async def create(exchange: Exchange) -> None:
    body = await _body(exchange, _CREATE, "ExecOptions")
    if body.get("Privileged") and not (await container(exchange.actor, exchange.params["id"])).spec.privileged:
        raise Unsupported("privileged is not supported: a command has the capabilities of its container")
    tty = body.get("Tty", False)
    asked = ExecSpec(
        id="",
        args=tuple(body.get("Cmd", ())),
        env=tuple(body.get("Env", ())),
        cwd=body.get("WorkingDir", ""),
        user=body.get("User", ""),
        tty=tty,
        console_size=_console_size(exchange, body) if tty else (),
        stdin=body.get("AttachStdin", False),
        stdout=body.get("AttachStdout", False),
        stderr=body.get("AttachStderr", False),
    )
    view = await services.create(exchange.actor, exchange.params["id"], asked, detach_keys=body.get("DetachKeys", ""))
    await exchange.reply_json({"Id": view.id}, 201)


async def start(exchange: Exchange) -> None:
    """What the host refuses (a command that isn't there) is said in the stream, as moby does; the client learns its
    exit code from an inspect."""
    body = await _body(exchange, _START, "ExecStartOptions")
    size = _console_size(exchange, body) if body.get("Tty") else ()
    exec_id = exchange.params["id"]
    if body.get("Detach"):
        started = await services.start(exchange.actor, exec_id, detached=True, console_size=size)
        relay.close(started.writer)
        await exchange.reply(200)
        return
    tty = bool(body.get("Tty"))
    try:
        started = await services.start(exchange.actor, exec_id, console_size=size)
    except (InvalidArgument, QuotaExceeded, Internal) as error:  # the host's, which tried: it is the exec's end
        text = f"{error.message}\r\n".encode()
        await exchange.hijack(attach.output_type(exchange, tty=tty))
        await exchange.stream_send(text if tty else bytes((_STDOUT, 0, 0, 0)) + len(text).to_bytes(4, "big") + text)
        return
    try:
        await exchange.hijack(attach.output_type(exchange, tty=started.view.spec.tty))
        await relay.both_ways(exchange, started.reader, started.writer, stdin=started.view.spec.stdin)
        if started.reader.at_eof():
            await services.finished(exec_id)
    finally:
        relay.close(started.writer)


async def resize(exchange: Exchange) -> None:
    height, width = attach.size(exchange, "h", "height"), attach.size(exchange, "w", "width")
    await services.resize(exchange.actor, exchange.params["id"], height, width)
    await exchange.reply(200)


async def inspect(exchange: Exchange) -> None:
    await exchange.reply_json(describe(await services.look(exchange.actor, exchange.params["id"])))


def describe(view: ExecView) -> dict[str, Any]:
    spec = view.spec
    process: dict[str, Any] = {"tty": spec.tty, "entrypoint": spec.args[0], "arguments": list(spec.args[1:]), "privileged": False}
    if spec.user:
        process["user"] = spec.user
    return {
        "ID": view.id,
        "Running": view.is_running,
        "ExitCode": view.exit_code,
        "ProcessConfig": process,
        "OpenStdin": spec.stdin,
        "OpenStderr": spec.stderr,
        "OpenStdout": spec.stdout,
        "CanRemove": False,
        "ContainerID": view.container,
        "DetachKeys": base64.b64encode(keys.parse(view.detach_keys) if view.detach_keys else b"").decode(),
        "Pid": view.pid,
    }


async def _body(exchange: Exchange, members: dict[str, Kind], name: str) -> dict[str, Any]:
    """No body is an empty one."""
    data = await exchange.read_json()
    return schema.decode(members, schema.parse(data), name, f"container.{name}") if data.strip() else {}


def _console_size(exchange: Exchange, body: dict[str, Any]) -> tuple[int, ...]:
    """[height, width]; clients before 1.42 don't mean it."""
    size = tuple(body.get("ConsoleSize") or ())
    return size if exchange.version >= (1, 42) and any(size) else ()
