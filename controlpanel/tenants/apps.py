from __future__ import annotations

from django.apps import AppConfig


class TenantsConfig(AppConfig):
    name = "controlpanel.tenants"
    label = "tenants"

    def ready(self) -> None:
        """Projects, services and credentials say which rows take of a quota."""
        from django.contrib.auth.signals import user_logged_out

        from controlpanel.tenants import credentials, impersonation, projects, services  # noqa: F401

        user_logged_out.connect(impersonation.logged_out, dispatch_uid="impersonation")
