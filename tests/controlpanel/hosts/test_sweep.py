"""Operations nobody waits for any more end as the host says, and never begin late."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from controlpanel.hosts import operations
from controlpanel.hosts import sweep as sweeping
from controlpanel.hosts.models import Host as HostRow
from controlpanel.hosts.models import Operation
from controlpanel.hosts.sweep import sweep
from engine.errors import Unavailable


def queued(people: Any, *, age_s: float, task: str = "slipway.container.kill") -> Operation:
    row = Operation.everywhere.create(
        tenant=people.acme, host=HostRow.here(), verb="container.kill", object="web", actor="alice", door="api", task=task,
        key="k", payload={"tenant": "acme", "id": "fe" * 32, "signal": 9},
    )  # fmt: skip
    Operation.everywhere.filter(pk=row.pk).update(created_at=timezone.now() - timedelta(seconds=age_s))
    return row


def test_an_old_one_is_settled_with_the_hosts_answer(people: Any, host: Any) -> None:
    row = queued(people, age_s=60)
    assert sweep() == 1
    row.refresh_from_db()
    assert (row.state, row.outcome) == (Operation.DONE, {"ok": {}})
    assert sweep() == 0


def test_a_refusal_settles_it_too(people: Any, host: Any) -> None:
    row = queued(people, age_s=60)
    host.refuse[row.task] = Unavailable("the host took this up too late; nothing was done")
    assert sweep() == 1
    row.refresh_from_db()
    assert (row.state, row.outcome["error"]["code"]) == (Operation.FAILED, "unavailable")


def test_one_that_somebody_may_still_wait_for_is_left_alone(people: Any, host: Any) -> None:
    queued(people, age_s=5)
    assert sweep() == 0
    assert host.asked == []


def test_one_whose_answer_cannot_be_applied_keeps_no_other_back(people: Any, host: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_words: object) -> None:
        raise KeyError("as it happens")

    monkeypatch.setitem(operations._handlers, "slipway.test.poison", fails)
    poison, good = queued(people, age_s=70, task="slipway.test.poison"), queued(people, age_s=60)
    assert sweep() == 1
    for row in (poison, good):
        row.refresh_from_db()
    assert (poison.state, good.state) == (Operation.QUEUED, Operation.DONE)


def test_a_host_that_is_away_is_asked_again_next_time(people: Any, host: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweeping, "ANSWER_S", 0.3)
    row = queued(people, age_s=60)
    host.silent.add(row.task)
    assert sweep() == 0
    row.refresh_from_db()
    assert row.state == Operation.QUEUED
    host.silent.clear()
    assert sweep() == 1
