"""Bytes between a host's agent and a client: big reads, big writes, and whoever reads slowly makes the other wait."""

from __future__ import annotations

import asyncio

from controlpanel.dockerapi.exchange import Exchange

CHUNK = 128 << 10  # of a stream at a time: a light request waits for one of each stream under way


async def down(exchange: Exchange, reader: asyncio.StreamReader) -> None:
    """Agent → client in a reply that has begun, until the agent ends; the agent's connection is the caller's to close."""
    while data := await reader.read(CHUNK):
        await exchange.write(data)
    await exchange.end()


async def both_ways(exchange: Exchange, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, stdin: bool) -> None:
    """A hijacked stream, until the agent ends its side or the client is gone. The client's half-close goes up as end of file."""
    tasks = [asyncio.ensure_future(_up(exchange, writer, stdin=stdin)), asyncio.ensure_future(_out(exchange, reader))]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _out(exchange: Exchange, reader: asyncio.StreamReader) -> None:
    while data := await reader.read(CHUNK):
        await exchange.stream_send(data)


async def _up(exchange: Exchange, writer: asyncio.StreamWriter, *, stdin: bool) -> None:
    """Until the client is gone altogether. What a container no longer reads is dropped; its output goes on."""
    while (message := await exchange.stream_receive())["type"] != "http.disconnect":
        if not stdin:
            continue
        try:
            if message["type"] == "http.hijack.receive":
                writer.write(message["data"])
                await writer.drain()
            else:
                writer.write_eof()
        except OSError:
            stdin = False


def close(writer: asyncio.StreamWriter) -> None:
    """At once, without waiting for what the agent has not read: it sees the end of the connection."""
    writer.transport.abort()
