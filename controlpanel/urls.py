"""Every address that Django answers. The Docker API and the registry are beside Django, see asgi.py."""

from __future__ import annotations

from django.urls import URLPattern, URLResolver, include, path

from controlpanel.dashboard.urls import websocket_urlpatterns

__all__ = ["urlpatterns", "websocket_urlpatterns"]

urlpatterns: list[URLPattern | URLResolver] = [
    path("api/v1/", include("controlpanel.api")),
    path("", include("controlpanel.dashboard.urls")),
]
