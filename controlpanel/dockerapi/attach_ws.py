"""``GET /containers/{id}/attach/ws``: an attachment over a websocket. Output comes in binary frames, both streams as they were written
and without Docker's own headers; every data frame's bytes are input."""

from __future__ import annotations

import asyncio

from controlpanel.containers import readers
from controlpanel.dockerapi import attach, relay, websocket
from controlpanel.dockerapi.exchange import Exchange
from controlpanel.hosts import streams


async def attach_ws(exchange: Exchange) -> None:
    answer = websocket.accept(exchange.header(b"sec-websocket-key"), exchange.header(b"sec-websocket-version"))
    old = exchange.version < (1, 42)  # such clients can't say which streams they want
    which = {name: old or exchange.flag(name) for name in ("stdin", "stdout", "stderr")}
    view = await attach.attachable(exchange, stdin=which["stdin"])
    which["stdin"] = which["stdin"] and view.spec.open_stdin
    words = {**which, "logs": exchange.flag("logs"), "detach_keys": attach.detach_keys(exchange), "raw": True}
    with readers.reading(view.id):
        _ok, reader, writer = await streams.open_stream("attach", view.spec.tenant, view.id, **words)
        try:
            await exchange.hijack_websocket(answer)
            down = asyncio.ensure_future(_down(exchange, reader))
            up = asyncio.ensure_future(_up(exchange, writer, stdin=which["stdin"]))
            try:
                await asyncio.wait((down, up), return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in (down, up):
                    task.cancel()
                await asyncio.gather(down, up, return_exceptions=True)
            if not down.cancelled() and down.exception() is None:
                await exchange.stream_send(websocket.close(websocket.NORMAL))
        finally:
            relay.close(writer)


async def _down(exchange: Exchange, reader: asyncio.StreamReader) -> None:
    while data := await reader.read(relay.CHUNK):
        await exchange.stream_send(websocket.frame(websocket.BINARY, data))


async def _up(exchange: Exchange, writer: asyncio.StreamWriter, *, stdin: bool) -> None:
    """Until the client closes, which ends the attachment, or breaks the protocol."""
    frames = websocket.Frames()
    while (message := await exchange.stream_receive())["type"] == "http.hijack.receive":
        try:
            data = frames.feed(message["data"])
        except websocket.Broken as broken:
            await exchange.stream_send(websocket.close(broken.code))
            return
        if frames.answers:
            await exchange.stream_send(frames.answers)
            frames.answers = b""
        if data and stdin:
            try:
                writer.write(data)
                await writer.drain()
            except OSError:
                stdin = False  # the container reads no more; its output goes on
        if frames.closed:
            return
