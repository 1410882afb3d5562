"""Compiled statements do what the ORM does: the same row, the same types."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone

from controlpanel.base import statements
from controlpanel.containers.models import Container
from controlpanel.hosts.models import Host, Operation


def operation(people: Any) -> Operation:
    return Operation(
        tenant=people.acme, host=Host.here(), verb="x.y", object="o", actor="a", door="cli", task="t", key="k", payload={"ä": [1, None]}
    )


def test_an_inserted_row_reads_as_the_orm_wrote_it(people: Any) -> None:
    ours, theirs = operation(people), operation(people)
    statements.insert(ours)
    theirs.save(force_insert=True)
    read = {row.pk: row for row in Operation.everywhere.all()}
    for field in Operation._meta.concrete_fields:
        if field.name not in ("id", "created_at"):
            assert getattr(read[ours.pk], field.attname) == getattr(read[theirs.pk], field.attname)
    assert abs(read[ours.pk].created_at - read[theirs.pk].created_at).total_seconds() < 5
    assert isinstance(ours.pk, uuid.UUID)


def test_a_row_is_read_as_the_orm_reads_it(people: Any, container: Any) -> None:
    ours = statements.get(Container, "engine_id", container.engine_id, lock=True)
    theirs = Container.everywhere.get(engine_id=container.engine_id)
    assert ours == theirs and ours is not None
    assert {name: value for name, value in ours.__dict__.items() if name != "_state"} == {
        name: value for name, value in theirs.__dict__.items() if name != "_state"
    }
    assert statements.get(Container, "engine_id", "nope") is None


def test_an_update_writes_the_named_fields_and_heeds_its_condition(people: Any) -> None:
    row = operation(people)
    statements.insert(row)
    row.state, row.outcome, row.finished_at, row.object = "done", {"ok": {}}, timezone.now(), "not written"
    assert statements.update(row, "state", "outcome", "finished_at", only_if=("state", "queued"))
    assert not statements.update(row, "state", only_if=("state", "queued"))
    read = Operation.everywhere.get(pk=row.pk)
    assert (read.state, read.outcome, read.finished_at, read.object) == ("done", {"ok": {}}, row.finished_at, "o")
    statements.delete(row)
    assert not Operation.everywhere.exists()


def test_constraints_hold(people: Any, container: Any) -> None:
    container.pk, container.engine_id = None, "00" * 32
    with pytest.raises(IntegrityError), transaction.atomic():
        statements.insert(container)
