"""``attach``: the terminal or pipes of a container as one raw stream, and ``resize`` of the terminal."""

from __future__ import annotations

from typing import Final

from controlpanel.audit import services as audit
from controlpanel.base import database
from controlpanel.containers import projection, readers, telling
from controlpanel.containers.projection import ContainerView
from controlpanel.dockerapi import relay, words
from controlpanel.dockerapi.exchange import Exchange
from controlpanel.hosts import streams
from controlpanel.tenants.permissions import require
from engine.errors import FailedPrecondition, InvalidArgument
from engine.model import keys
from engine.model.container import Status

RAW = "application/vnd.docker.raw-stream"
MULTIPLEXED = "application/vnd.docker.multiplexed-stream"
_NOT_NOW: Final = {
    Status.PAUSED: "You cannot attach to a paused container, unpause it first",
    Status.RESTARTING: "You cannot attach to a restarting container, wait until it is running",
}


def output_type(exchange: Exchange, *, tty: bool) -> str:
    """How output is framed: clients before 1.42 know one name for both."""
    return MULTIPLEXED if not tty and exchange.version >= (1, 42) else RAW


async def attach(exchange: Exchange) -> None:
    """The stream is in place when the client reads the head, so that ``start`` may come right after it."""
    stdin = exchange.flag("stdin")
    view = await attachable(exchange, stdin=stdin)
    spec, stream = view.spec, exchange.flag("stream")
    if not (stdin or exchange.flag("stdout") or exchange.flag("stderr")):  # nothing is asked for, and that is what comes
        await exchange.hijack(output_type(exchange, tty=spec.tty))
        return
    tenant, which = view.spec.tenant, {"stdout": exchange.flag("stdout"), "stderr": exchange.flag("stderr")}
    if stream:
        stdin = stdin and spec.open_stdin
        opened = streams.open_stream(
            "attach", tenant, view.id, stdin=stdin, **which, logs=exchange.flag("logs"), detach_keys=detach_keys(exchange)
        )
    else:  # what was written so far, in the clothes of an attach
        stdin, tail = False, -1 if exchange.flag("logs") else 0
        opened = streams.open_stream("logs", tenant, view.id, **which, follow=False, timestamps=False, since_ns=0, until_ns=0, tail=tail)
    with readers.reading(view.id):
        _ok, reader, writer = await opened
        try:
            await exchange.hijack(output_type(exchange, tty=spec.tty))
            await relay.both_ways(exchange, reader, writer, stdin=stdin)
        finally:
            relay.close(writer)


def detach_keys(exchange: Exchange) -> str:
    """The keys that are asked for, or Docker's own; refused here, while the answer can still be 400."""
    asked = exchange.text("detachKeys")
    if asked:
        keys.parse(asked)
    return asked or keys.DETACH


async def attachable(exchange: Exchange, *, stdin: bool) -> ContainerView:
    """The container that is asked for, if the caller may and one can attach to it just now. Who types into it needs more rights."""
    require(exchange.actor, "container.attach" if stdin else "container.view")
    view = await projection.container(exchange.actor, exchange.params["id"])
    if view.status in _NOT_NOW:
        raise FailedPrecondition(_NOT_NOW[view.status])
    if stdin and view.spec.open_stdin:
        await database.run(audit.record, exchange.actor, "container.attach", view.name)
    telling.tell(view, "attach")
    return view


async def resize(exchange: Exchange) -> None:
    require(exchange.actor, "container.attach")
    rows, columns = size(exchange, "h", "height"), size(exchange, "w", "width")
    view = await projection.container(exchange.actor, exchange.params["id"])
    if not view.state.has_process:
        raise FailedPrecondition(f"container {view.id} is not running")
    _ok, _reader, writer = await streams.open_stream("resize", view.spec.tenant, view.id, rows=rows, columns=columns)
    relay.close(writer)
    telling.tell(view, "resize", height=str(rows), width=str(columns))
    await exchange.reply(200)


def size(exchange: Exchange, name: str, what: str) -> int:
    """A number of rows or columns among the query's words."""
    text = exchange.text(name)
    try:
        value = words.integer(text)
    except InvalidArgument as error:
        raise InvalidArgument(f'invalid resize {what} "{text[:40]}": {error.message.rpartition(": ")[2]}') from None
    if not 0 <= value < 1 << 16:
        raise InvalidArgument(f'invalid resize {what} "{text}": value out of range')
    return value
