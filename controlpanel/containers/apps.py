from __future__ import annotations

from django.apps import AppConfig


class ContainersConfig(AppConfig):
    name = "controlpanel.containers"
    label = "containers"

    def ready(self) -> None:
        """What an answer of a host means must be known in every process that may get one, the panel worker's sweeper as well."""
        from controlpanel.containers import pausing, restarting, updating  # noqa: F401
