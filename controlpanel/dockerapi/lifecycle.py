"""start, stop, restart, kill, wait, rename, remove, prune."""

from __future__ import annotations

import time
from collections.abc import Callable

from controlpanel.containers import projection, pruning, restarting, services
from controlpanel.containers.projection import ContainerView
from controlpanel.dockerapi import words
from controlpanel.dockerapi.exchange import Exchange
from controlpanel.tenants.permissions import require
from engine.errors import AlreadyExists, EngineError, FailedPrecondition, InvalidArgument, NotFound
from engine.model.signals import signal_number

_TOO_LONG_FOR_EMPTY = 7  # a JSON value that says anything has more bytes (moby's own test)


async def start(exchange: Exchange) -> None:
    if len(await exchange.read_body()) > _TOO_LONG_FOR_EMPTY:
        raise InvalidArgument("starting container with non-empty request body was deprecated since API v1.22 and removed in v1.24")
    started = await services.start_container(exchange.actor, exchange.params["id"])
    await exchange.reply(204 if started else 304)


async def stop(exchange: Exchange) -> None:
    text, signal, name = exchange.text("t"), exchange.text("signal"), exchange.params["id"]
    timeout_s = words.integer(text) if text else None  # negative: no SIGKILL follows
    try:
        stopped = await services.stop_container(exchange.actor, name, timeout_s=timeout_s, signal=signal)
    except InvalidArgument as error:
        raise InvalidArgument(f"cannot stop container: {name}: {error.message}", **error.detail) from error
    await exchange.reply(204 if stopped else 304)


async def restart(exchange: Exchange) -> None:
    text, signal, name = exchange.text("t"), exchange.text("signal"), exchange.params["id"]
    timeout_s = words.integer(text) if text else None
    try:
        view = await projection.container(exchange.actor, name)
        await restarting.restart_container(exchange.actor, view.id, timeout_s=timeout_s, signal=signal)
    except NotFound:
        raise
    except EngineError as error:
        raise type(error)(f"Cannot restart container {name}: {error.message}", **error.detail) from error
    await exchange.reply(204)


async def kill(exchange: Exchange) -> None:
    name = exchange.params["id"]
    try:
        require(exchange.actor, "container.kill")
        await services.kill_container(exchange.actor, name, _signal(exchange.text("signal") or "KILL"))
    except EngineError as error:
        raise type(error)(f"cannot kill container: {name}: {error.message}", **error.detail) from error
    await exchange.reply(204)


def _signal(text: str) -> int:
    try:
        return signal_number(text)
    except InvalidArgument:
        if text.isascii() and text.isdecimal() and int(text):
            raise InvalidArgument(f"the linux daemon does not support signal {text[:20]}") from None
        raise


async def wait(exchange: Exchange) -> None:
    """``docker run`` waits before it starts: the head goes out at once, the body when the condition holds."""
    await exchange.read_body()
    future = await services.wait(exchange.actor, exchange.params["id"], exchange.text("condition") or projection.NOT_RUNNING)
    try:
        await exchange.begin()
        state = await exchange.while_connected(future)
        if state is not None:
            await exchange.write_json({"StatusCode": state.exit_code})
            await exchange.end()
    finally:
        future.cancel()


async def rename(exchange: Exchange) -> None:
    name = exchange.text("name")
    if not name:
        raise InvalidArgument("Neither old nor new names may be empty")
    try:
        await services.rename_container(exchange.actor, exchange.params["id"], name)
    except AlreadyExists as error:
        raise AlreadyExists(f"Error when allocating new name: {error.message}", **error.detail) from error
    except InvalidArgument as error:
        if not error.message.startswith(f"Invalid container name ({name})"):
            raise
        raise InvalidArgument(f"Error when allocating new name: {error.message.replace('(', '(/', 1)}") from error
    await exchange.reply(204)


async def remove(exchange: Exchange) -> None:
    name = exchange.params["id"]
    if exchange.flag("link"):
        require(exchange.actor, "container.remove")
        await projection.container(exchange.actor, name)
        raise FailedPrecondition("Conflict, cannot remove the default link name of the container")
    await services.remove_container(exchange.actor, name, force=exchange.flag("force"), volumes=exchange.flag("v"))
    await exchange.reply(204)


async def prune(exchange: Exchange) -> None:
    test = prunable(words.filters(exchange.text("filters"), ("label", "label!", "until")), time.time_ns())
    done = await pruning.prune(exchange.actor, test)
    await exchange.reply_json({"ContainersDeleted": list(done.ids) or None, "SpaceReclaimed": done.bytes})


def prunable(given: words.Filters, now_ns: int) -> Callable[[ContainerView], bool]:
    """What the filters of a prune let through."""
    until = given.get("until") or []
    if len(until) > 1:
        raise InvalidArgument("more than one until filter specified")
    before_ns = words.moment_ns(until[0], now_ns) if until else 0
    wanted, unwanted = given.get("label") or [], given.get("label!") or []

    def test(view: ContainerView) -> bool:
        labels = view.spec.labels
        if before_ns and view.created_at_ns > before_ns:
            return False
        return words.labels_match(wanted, labels) and not (unwanted and words.labels_match(unwanted, labels))

    return test
