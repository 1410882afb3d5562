"""The tasks of a host, one module per noun: decode, one Engine call, answer. ``load`` registers them with the Celery app."""

from __future__ import annotations


def load() -> None:
    import workers.ping
    import workers.tasks.audit
    import workers.tasks.containers
    import workers.tasks.images
    import workers.tasks.networks
    import workers.tasks.resources
    import workers.tasks.tenants
    import workers.tasks.volumes  # noqa: F401
