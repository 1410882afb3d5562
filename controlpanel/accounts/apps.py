from __future__ import annotations

from django.apps import AppConfig


class AccountsConfig(AppConfig):
    name = "controlpanel.accounts"
    label = "accounts"

    def ready(self) -> None:
        from controlpanel.accounts import listening

        listening.connect()
