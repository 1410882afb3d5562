"""Django alone, for tools that want WSGI. The platform itself runs asgi.py: streams and websockets need it."""

from __future__ import annotations

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "controlpanel.settings")

application = get_wsgi_application()
