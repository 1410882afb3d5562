"""Reads about hosts and what was asked of them."""

from __future__ import annotations

from datetime import timedelta

from django.conf import settings
from django.utils import timezone

from controlpanel.hosts.models import Host, Operation

_by_name: dict[str, Host] = {}
_names: dict[int, str] = {}


def local_host() -> Host:
    """The host beside this panel: where containers go while there is one. The row never changes its name, so it is kept."""
    name = settings.SLIPWAY_HOST
    host = _by_name.get(name)
    if host is None:
        host = _by_name[name] = Host.here()
    return host


def host_name(host_id: int) -> str:
    name = _names.get(host_id)
    if name is None:
        name = _names[host_id] = Host.objects.get(pk=host_id).name
    return name


def unanswered(*, older_than: timedelta, limit: int = 500) -> list[Operation]:
    """Operations without an outcome, oldest first: what the sweeper asks the hosts about."""
    queued = Operation.everywhere.filter(state=Operation.QUEUED, created_at__lt=timezone.now() - older_than)
    return list(queued.select_related("host", "tenant").order_by("created_at")[:limit])


def forget_caches() -> None:
    """For tests, which change databases under a living process."""
    _by_name.clear()
    _names.clear()
