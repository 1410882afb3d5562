"""The one application of the web process: who answers which connection, and what runs beside them.

a tenant's socket, /v1.NN/…, /_ping, /containers/…   controlpanel.dockerapi   raw ASGI: hijack, streams, no cookies
/v2/…                                                controlpanel.registry    raw ASGI: streams, no cookies
websocket                                            Channels                 session cookie, own origin only
/static/…                                            base.static          hashed names for ever
everything else                                      Django                   pages and REST
"""

# ruff: noqa: E402  Django's apps are loaded before anything that needs them is imported

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "controlpanel.settings")

from django.core.asgi import get_asgi_application

_django = get_asgi_application()

from channels.auth import AuthMiddlewareStack
from channels.routing import URLRouter
from channels.security.websocket import AllowedHostsOriginValidator
from django.conf import settings

from controlpanel.base import live, static, uploads
from controlpanel.builds import services as builds
from controlpanel.builds.api import UPLOADS as BUILD_UPLOADS
from controlpanel.dockerapi import app as dockerapi
from controlpanel.events import autoremove, follower
from controlpanel.files.api import UPLOADS as FILE_UPLOADS
from controlpanel.files.volume_api import UPLOADS as VOLUME_UPLOADS
from controlpanel.hosts import dispatch, sweep
from controlpanel.images.api import UPLOADS as IMAGE_UPLOADS
from controlpanel.registry import app as registry
from controlpanel.tenants import refusals
from controlpanel.urls import websocket_urlpatterns

log = logging.getLogger(__name__)

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

_UPLOADS = (FILE_UPLOADS, VOLUME_UPLOADS, IMAGE_UPLOADS, BUILD_UPLOADS)  # requests whose bodies are read while they arrive
_websocket = AllowedHostsOriginValidator(AuthMiddlewareStack(URLRouter(websocket_urlpatterns)))


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    kind = scope["type"]
    if kind == "http":
        if dockerapi.is_docker(scope):
            await dockerapi.application(scope, receive, send)
        elif registry.is_registry(scope):
            await registry.application(scope, receive, send)
        elif scope["path"].startswith(settings.STATIC_URL):
            await static.application(scope, receive, send)
        else:
            await _to_django(scope, receive, send)
    elif kind == "websocket":
        await _websocket(scope, receive, send)
    elif kind == "lifespan":
        await _lifespan(receive, send)


async def _to_django(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["method"] == "PUT" and any(upload.fullmatch(scope["path"]) for upload in _UPLOADS):
        await uploads.streamed(_django, scope, receive, send)
    else:
        await _django(scope, receive, send)


async def _lifespan(receive: Receive, send: Send) -> None:
    """What runs as long as the process serves: the live feed, the host's events, the door down."""
    await receive()
    await live.start()
    dispatch.dispatcher()  # its connections open now, not at the first request
    settle = await sweep.at_start()
    await builds.resume()
    beside = [asyncio.create_task(follower.follow()), asyncio.create_task(settle())]
    await send({"type": "lifespan.startup.complete"})
    await receive()
    for task in beside:
        task.cancel()
    await asyncio.gather(*beside, return_exceptions=True)
    await autoremove.stop()
    await refusals.stop()
    await live.stop()
    await dispatch.close()
    await send({"type": "lifespan.shutdown.complete"})
