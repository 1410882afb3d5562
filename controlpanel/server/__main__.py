"""``python -m controlpanel.server``: the web process.

Listening sockets come from the supervisor (sd_listen_fds(3): "http", "tenant-<name>") or are opened here; those opened for
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
import sys
from pathlib import Path

import uvloop

from controlpanel.server import activation, listeners
from controlpanel.server.serve import PanelServer, configuration

log = logging.getLogger("slipway.server")

HTTP_DEFAULT = "127.0.0.1:8000"
POLL_S = 5.0  # how long a missed announcement of a tenant may go unnoticed


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "controlpanel.settings")
    inherited = activation.listen_fds()
    http = inherited.pop(listeners.HTTP, None)
    address = os.environ.get("SLIPWAY_HTTP") or HTTP_DEFAULT
    try:
        http = http or listeners.open_http(address)
    except OSError as error:
        sys.exit(f"can't listen on {address}: {error.strerror}. Set SLIPWAY_HTTP to another address, or stop who uses it.")
    from controlpanel.asgi import application

    tenants = {label.removeprefix(listeners.TENANT_PREFIX): sock for label, sock in inherited.items()}
    uvloop.run(serve(application, http, tenants))


async def serve(application: object, http: socket.socket, inherited: dict[str, socket.socket]) -> None:
    server = PanelServer(configuration(application))
    stop_on_signals(server)
    run = Path(os.environ.get("SLIPWAY_RUN") or "/run/slipway")
    sockets = listeners.TenantSockets(server, run / "tenants", inherited)
    async with server.running():
        await settle(sockets)
        await server.add_listener(listeners.HTTP, http)
        watcher = asyncio.create_task(follow_tenants(sockets))
        activation.notify("READY=1", f"STATUS=serving HTTP and {len(sockets)} tenants")
        await server.main_loop()
        activation.notify("STOPPING=1")
        watcher.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watcher


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
