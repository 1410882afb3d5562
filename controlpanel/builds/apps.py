from __future__ import annotations

from django.apps import AppConfig


class BuildsConfig(AppConfig):
    name = "controlpanel.builds"
    label = "builds"
