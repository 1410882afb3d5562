"""``python -m controlpanel.server``: the web process.

Listening sockets come from the supervisor (sd_listen_fds(3): "http", "tls", "tenant-<name>") or are opened here; those opened for
tenants are given to the supervisor to keep, so that a restart of this process refuses no client. SIGTERM and SIGINT end it:
answers under way get three seconds, streams are cut.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import ssl
import sys
from pathlib import Path
from typing import NamedTuple

import uvloop

from controlpanel.server import activation, listeners, tls
from controlpanel.server.protocol import TENANT_PREFIX
from controlpanel.server.serve import PanelServer, configuration
from engine.config import DATA_DEFAULT

log = logging.getLogger("slipway.server")

HTTP_DEFAULT = "127.0.0.1:8000"
POLL_S = 5.0  # how long a missed announcement of a tenant may go unnoticed


class Secure(NamedTuple):
    socket: socket.socket
    context: ssl.SSLContext
    files: tls.Files


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "controlpanel.settings")
    inherited = activation.listen_fds()
    http = inherited.pop(listeners.HTTP, None)
    address = os.environ.get("SLIPWAY_HTTP") or HTTP_DEFAULT
    try:
        http = http or listeners.open_http(address)
    except OSError as error:
        sys.exit(f"can't listen on {address}: {error.strerror}. Set SLIPWAY_HTTP to another address, or stop who uses it.")
    secure = open_tls(inherited.pop(listeners.TLS, None))
    from controlpanel.asgi import application

    tenants = {label.removeprefix(TENANT_PREFIX): sock for label, sock in inherited.items()}
    uvloop.run(serve(application, http, secure, tenants))


def open_tls(inherited: socket.socket | None) -> Secure | None:
    """The supervisor's socket, and the certificates that root made for it. Without a supervisor TLS is left to a proxy in front."""
    if inherited is None:
        return None
    files = tls.Files.below(Path(os.environ.get("SLIPWAY_DATA") or DATA_DEFAULT))
    try:
        return Secure(inherited, tls.context_of(files), files)
    except OSError as error:
        sys.exit(f"no TLS: {error.filename or files.certificate}: {error.strerror or error}. ./manage.py up makes the certificates.")


async def serve(application: object, http: socket.socket, secure: Secure | None, inherited: dict[str, socket.socket]) -> None:
    server = PanelServer(configuration(application))
    stop_on_signals(server)
    run = Path(os.environ.get("SLIPWAY_RUN") or "/run/slipway")
    sockets = listeners.TenantSockets(server, run / "tenants", inherited)
    async with server.running():
        await settle(sockets)
        await server.add_listener(listeners.HTTP, http)
        beside = [asyncio.create_task(follow_tenants(sockets))]
        if secure is not None:
            await server.add_listener(listeners.TLS, secure.socket, tls=secure.context)
            beside.append(asyncio.create_task(tls.follow(secure.context, secure.files)))
        activation.notify("READY=1", f"STATUS=serving HTTP and {len(sockets)} tenants")
        await server.main_loop()
        activation.notify("STOPPING=1")
        for task in beside:
            task.cancel()
        await asyncio.gather(*beside, return_exceptions=True)


def stop_on_signals(server: PanelServer) -> None:
    def stop() -> None:
        server.force_exit = server.should_exit  # the second signal doesn't wait
        server.should_exit = True

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)


async def settle(sockets: listeners.TenantSockets) -> None:
    from controlpanel.tenants import queries

    await sockets.settle(await queries.tenant_names())


async def follow_tenants(sockets: listeners.TenantSockets) -> None:
    """Settle whenever a tenant is announced (Redis), and every POLL_S in case one was not heard."""
    from controlpanel.tenants import announce

    changed = asyncio.Event()
    listening = asyncio.create_task(announce.listen(changed.set))
    try:
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(changed.wait(), POLL_S)
            changed.clear()
            try:
                await settle(sockets)
            except Exception:
                log.exception("the tenants' sockets could not be brought up to date; trying again")
    finally:
        listening.cancel()


if __name__ == "__main__":
    main()
