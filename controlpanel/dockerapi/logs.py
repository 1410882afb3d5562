"""``logs``: what a container wrote, from the agent."""

from __future__ import annotations

from controlpanel.containers import projection, readers
from controlpanel.dockerapi import relay, words
from controlpanel.dockerapi.attach import output_type
from controlpanel.dockerapi.exchange import Exchange
from controlpanel.hosts import streams
from controlpanel.tenants.permissions import require
from engine.errors import InvalidArgument


async def logs(exchange: Exchange) -> None:
    require(exchange.actor, "container.view")
    stdout, stderr = exchange.flag("stdout"), exchange.flag("stderr")
    if not (stdout or stderr):
        raise InvalidArgument("Bad parameters: you must choose at least one stream")
    view = await projection.container(exchange.actor, exchange.params["id"])
    with readers.reading(view.id):
        _ok, reader, writer = await streams.open_stream(
            "logs",
            view.spec.tenant,
            view.id,
            stdout=stdout,
            stderr=stderr,
            follow=exchange.flag("follow"),
            timestamps=exchange.flag("timestamps"),
            details=exchange.flag("details"),
            since_ns=words.time_ns(exchange.text("since")),
            until_ns=words.time_ns(exchange.text("until")),
            tail=_tail(exchange.text("tail")),
        )
        try:
            await exchange.begin(output_type(exchange, tty=view.spec.tty))
            await exchange.while_connected(relay.down(exchange, reader))
        finally:
            relay.close(writer)


def _tail(text: str) -> int:
    """A number of lines; everything else is all of them, -1, as moby has it."""
    try:
        return max(-1, words.integer(text))
    except InvalidArgument:
        return -1
