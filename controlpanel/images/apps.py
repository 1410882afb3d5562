from __future__ import annotations

from django.apps import AppConfig


class ImagesConfig(AppConfig):
    name = "controlpanel.images"
    label = "images"

    def ready(self) -> None:
        from controlpanel.images import charged  # noqa: F401  says what images take of a quota
