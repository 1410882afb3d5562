"""The audit log: one chain per tenant, append-only, and a change anywhere shows."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection

from controlpanel.audit import services as audit
from controlpanel.audit.models import Record
from controlpanel.tenants import services as tenants
from controlpanel.tenants.actor import command_line


def test_each_tenant_has_a_chain_of_its_own(people: Any) -> None:
    for tenant in (people.acme, people.umbrella, people.acme):
        audit.record(command_line(tenant), "container.start", "web", force=True)
    assert list(Record.objects.for_tenant(people.acme.pk).values_list("number", flat=True)) == [2, 1]
    assert audit.first_broken(people.acme.pk) is None
    newest = Record.objects.for_tenant(people.acme.pk)[0]
    assert (newest.actor, newest.door, newest.verb, newest.object, newest.detail) == (
        "root",
        "cli",
        "container.start",
        "web",
        {"force": True},
    )


@pytest.mark.parametrize("change", ["UPDATE audit_record SET actor = 'nobody'", "DELETE FROM audit_record"])
def test_a_change_behind_our_back_shows(people: Any, change: str) -> None:
    for number in range(3):
        audit.record(command_line(people.acme), "container.start", f"c{number}")
    with connection.cursor() as cursor:
        cursor.execute(f"{change} WHERE number = 2")
    assert audit.first_broken(people.acme.pk) == 2


def test_rows_are_neither_changed_nor_deleted(people: Any) -> None:
    audit.record(command_line(people.acme), "container.start", "web")
    with pytest.raises(TypeError):
        Record.objects.all().update(actor="x")
    with pytest.raises(TypeError):
        Record.objects.all().delete()


def test_the_log_outlives_its_tenant_and_a_namesake_does_not_inherit_it(people: Any, redis_server: str) -> None:
    number = people.acme.pk
    tenants.delete_tenant(command_line(), people.acme)
    assert Record.objects.for_tenant(number)[0].verb == "tenant.delete"
    again = tenants.create_tenant(command_line(), "acme")
    assert again.pk != number
    assert [row.verb for row in Record.objects.for_tenant(again.pk)] == ["tenant.create"]
