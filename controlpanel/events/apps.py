from __future__ import annotations

from django.apps import AppConfig


class EventsConfig(AppConfig):
    name = "controlpanel.events"
    label = "events"

    def ready(self) -> None:
        from controlpanel.events import quota  # noqa: F401  tells of quotas that are nearly used up
