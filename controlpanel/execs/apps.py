from __future__ import annotations

from django.apps import AppConfig


class ExecsConfig(AppConfig):
    name = "controlpanel.execs"
    label = "execs"
