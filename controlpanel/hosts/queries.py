"""Reads about hosts and what was asked of them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from django.conf import settings
from django.utils import timezone

from controlpanel.audit import search
from controlpanel.audit.models import Record
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


def results_of(records: Sequence[Record]) -> dict[int, str]:
    """Key of the row → done, failed, refused, begun; "queued" of an act that its host has not answered yet."""
    found = search.results(records)
    by_chain: dict[int, dict[int, int]] = {}
    for row in records:
        if found[row.pk] == search.DONE and not row.about:
            by_chain.setdefault(row.tenant_number, {})[row.number] = row.pk
    for chain, numbers in by_chain.items():
        waiting = Operation.everywhere.filter(tenant_id=chain or None, record__in=list(numbers), state=Operation.QUEUED)
        found.update(dict.fromkeys((numbers[number] for number in waiting.values_list("record", flat=True)), Operation.QUEUED))
    return found


def forget_caches() -> None:
    """For tests, which change databases under a living process."""
    _by_name.clear()
    _names.clear()
