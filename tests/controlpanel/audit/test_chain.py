"""The audit log: one chain per tenant, append-only, and a change anywhere shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection

from controlpanel.audit import chain
from controlpanel.audit import services as audit
from controlpanel.audit.chain import Anchor
from controlpanel.audit.models import Record
from controlpanel.tenants import services as tenants
from controlpanel.tenants.actor import command_line
from engine.errors import PermissionDenied
from workers import witness


def test_each_tenant_has_a_chain_of_its_own(people: Any) -> None:
    for tenant in (people.acme, people.umbrella, people.acme):
        audit.record(command_line(tenant), "container.start", "web", force=True)
    assert list(Record.objects.for_tenant(people.acme.pk).values_list("number", flat=True)) == [2, 1]
    assert chain.first_broken(people.acme.pk) is None
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
    assert chain.first_broken(people.acme.pk) == 2


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


def test_a_cut_off_end_shows_against_what_the_witness_was_told(people: Any) -> None:
    rows = [audit.record(command_line(people.acme), "container.start", f"c{number}") for number in range(5)]
    anchors = [Anchor(1, rows[1].number, rows[1].hash), Anchor(2, rows[4].number, rows[4].hash)]
    assert chain.verify(people.acme.pk, anchors).broken == 0
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM audit_record WHERE number > 3")
    assert chain.first_broken(people.acme.pk) is None  # the chain alone cannot know
    verdict = chain.verify(people.acme.pk, anchors)
    assert (verdict.broken, verdict.why) == (4, "the witness was told of 5 records: the end is cut off")


def test_a_chain_that_was_written_anew_shows_against_the_witness(people: Any) -> None:
    rows = [audit.record(command_line(people.acme), "container.start", f"c{number}") for number in range(3)]
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM audit_record")
    for number in range(4):
        audit.record(command_line(people.acme), "container.stop", f"c{number}")
    assert chain.first_broken(people.acme.pk) is None
    assert chain.verify(people.acme.pk, [Anchor(1, rows[2].number, rows[2].hash)]).broken == 3


def test_a_result_is_as_safe_as_the_rest(people: Any) -> None:
    first = audit.record(command_line(people.acme), "image.pull", "busybox", result="begun")
    audit.outcome(first.number, command_line(people.acme), "image.pull", "busybox", PermissionDenied("no", rule="registries"))
    for change in ("result = ''", "about = 0", "result = '', about = 0"):
        with connection.cursor() as cursor:
            cursor.execute(f"UPDATE audit_record SET {change} WHERE number = 2")
            assert chain.first_broken(people.acme.pk) == 2, change
            cursor.execute("UPDATE audit_record SET result = 'refused', about = 1 WHERE number = 2")
    assert chain.first_broken(people.acme.pk) is None


@pytest.mark.usefixtures("redis_server")
def test_the_command_names_the_first_that_is_wrong(people: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path, settings: Any) -> None:
    settings.SLIPWAY_DATA = tmp_path
    (tmp_path / witness.FOLDER).mkdir()
    for number in range(3):
        row = audit.record(command_line(people.acme), "container.start", f"c{number}")
    witness.note(tmp_path / witness.FOLDER, people.acme.pk, row.number, row.hash, now_s=1)
    call_command("audit", "verify")
    assert capsys.readouterr().out == "tenant acme: 3 records, whole; the host's witness has seen 3\n"
    with connection.cursor() as cursor:
        cursor.execute("UPDATE audit_record SET object = 'c9' WHERE number = 2")
    for words in (["verify"], ["verify", "--tenant", "acme"], ["verify", "--tenant", str(people.acme.pk)]):
        with pytest.raises(SystemExit) as ended:
            call_command("audit", *words)
        assert ended.value.code == 1
        assert capsys.readouterr().out.startswith("tenant acme: BROKEN at record 2: ")
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM audit_record")
    with pytest.raises(SystemExit):
        call_command("audit", "verify")
    assert "the witness was told of 3 records" in capsys.readouterr().out
