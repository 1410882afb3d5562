from __future__ import annotations

from django.apps import AppConfig


class RegistryConfig(AppConfig):
    name = "controlpanel.registry"
    label = "registry"

    def ready(self) -> None:
        from controlpanel.registry import charged  # noqa: F401  says what the registry takes of a quota
