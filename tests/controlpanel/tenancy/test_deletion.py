"""The end of a tenant: marked and restored, or gone with the proof; against a host that speaks the contract."""

from __future__ import annotations

import time
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.core.management import call_command
from django.utils import timezone

from controlpanel.accounts.models import Token
from controlpanel.audit.models import Record
from controlpanel.hosts.models import Operation
from controlpanel.images.models import Image
from controlpanel.networks.models import Network
from controlpanel.tenancy import deletion
from controlpanel.tenants import access, queries
from controlpanel.tenants.actor import Role, command_line, system
from controlpanel.tenants.credentials import create_token
from controlpanel.tenants.models import Membership, Tenant
from controlpanel.volumes.models import Volume
from engine.errors import NotFound, PermissionDenied, Unavailable

CLEAN = {"containers": [], "cgroups": []}


def run(*words: str) -> str:
    out = StringIO()
    call_command(*words, stdout=out)
    return out.getvalue()


def refused(*words: str) -> str:
    error = StringIO()
    with pytest.raises(SystemExit):
        call_command(*words, stdout=StringIO(), stderr=error)
    return error.getvalue().strip()


@pytest.fixture
def full(people: Any, host: Any, container: Any) -> Any:
    """acme with one of each, its container running."""
    acme = people.acme
    acme.hosts = {"local": {}}
    acme.save()
    container.status, container.desired = "running", "running"
    container.save()
    host.states[container.engine_id] = {"id": container.engine_id, "status": "running", "run": 1, "seq": 1, "pid": 1}
    Volume.everywhere.create(tenant=acme, name="data", driver="local", created_ns=time.time_ns())
    Network.everywhere.create(tenant=acme, host=container.host, network_id="ab" * 32, name="net", created_ns=time.time_ns())
    Image.everywhere.create(tenant=acme, image_id="sha256:" + "ef" * 32, config={}, size_bytes=1)
    create_token(command_line(acme), role=Role.VIEWER)
    host.on["remove"] = lambda payload: {"before": {"containers": 0, "cgroups": 2}, "left": CLEAN} if len(payload) == 1 else {}
    return acme


def test_a_mark_stops_what_runs_and_closes_the_doors(people: Any, host: Any, full: Any) -> None:
    said = run("tenant", "delete", "acme", "--grace", "2d")
    assert said.startswith("tenant acme goes at ") and "tenant restore acme brings it back" in said
    assert host.verbs() == ["container.stop"]
    with pytest.raises(PermissionDenied, match=r"marked for deletion .* \./manage\.py tenant restore acme") as caught:
        access.member(people.alice, "acme")
    assert caught.value.detail == {"rule": "tenant.deleted"}
    with pytest.raises(NotFound, match="No such tenant: acme"):
        access.member(people.charlie, "acme")
    with pytest.raises(PermissionDenied):
        access._from_uid("acme", "0", address="")
    with pytest.raises(PermissionDenied):
        access._from_token(Token.objects.get().digest, address="")
    assert [each.tenant.name for each in queries.memberships_of(people.alice)] == []
    assert refused("tenant", "create", "acme").endswith("restore brings it back, tenant delete --now ends it")
    assert "goes at" in run("tenant", "list")
    deletion.purge_due()
    assert Tenant.objects.filter(name="acme").exists()


def test_a_restored_tenant_is_as_it_was_and_runs_what_ran(people: Any, host: Any, full: Any, container: Any) -> None:
    run("tenant", "delete", "acme")
    container.refresh_from_db()
    container.status, container.state = "exited", {"id": container.engine_id, "status": "exited", "run": 1, "seq": 2}
    container.save()
    run("tenant", "restore", "acme")
    assert host.verbs() == ["container.stop", "container.start"]
    assert access.member(people.alice, "acme").role is Role.OWNER
    full.refresh_from_db()
    assert (full.delete_at, full.ran) == (None, [])
    assert {"tenant.mark", "tenant.restore"} <= set(Record.objects.values_list("verb", flat=True))
    assert refused("tenant", "restore", "acme").startswith("slipway: tenant acme is not marked for deletion")


def test_now_takes_everything_and_proves_it(people: Any, host: Any, full: Any) -> None:
    said = run("tenant", "delete", "acme", "--now")
    assert host.verbs() == ["container.remove", "volume.remove", "tenant.remove"]
    lines = {line.rsplit(None, 2)[0].strip(): line.split()[-2:] for line in said.splitlines() if line[-1:].isdigit()}
    for kind in ("rows: containers", "rows: volumes", "rows: networks", "rows: images", "rows: tokens", "host local: cgroups"):
        assert lines[kind] == ["2" if "cgroups" in kind else "1", "0"], kind
    assert lines["rows: memberships"] == ["3", "0"]
    assert "nothing is left of tenant acme" in said
    assert not Tenant.objects.filter(name="acme").exists() and not Membership.everywhere.filter(user=people.alice).exists()
    assert not Operation.everywhere.exclude(tenant=None).exists()
    record = Record.objects.get(verb="tenant.report")
    assert record.detail["removed"]["rows: containers"] == 1 and record.detail["left"] == {}
    assert refused("tenant", "endpoint", "acme") == "slipway: No such tenant: acme"
    assert Tenant.objects.filter(name="umbrella").exists()


def test_what_a_host_still_finds_is_said_and_is_a_failure(people: Any, host: Any, full: Any) -> None:
    left = {"cgroups": ["/slipway-ab12/acme"]}
    host.on["remove"] = lambda payload: {"before": {"cgroups": 1}, "left": left} if len(payload) == 1 else {}
    out = StringIO()
    with pytest.raises(SystemExit) as caught:
        call_command("tenant", "delete", "acme", "--now", stdout=out)
    assert caught.value.code == 1
    assert "left: host local: cgroups: /slipway-ab12/acme" in out.getvalue()


def test_after_its_grace_a_tenant_goes_and_a_host_that_is_away_only_delays_it(
    people: Any, host: Any, full: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("tenant", "delete", "acme")
    Tenant.objects.filter(name="acme").update(delete_at=timezone.now() - timedelta(seconds=1))
    host.refuse["slipway.tenant.remove"] = Unavailable("away")
    assert deletion.purge_due() == 0
    assert Tenant.objects.filter(name="acme").exists()
    del host.refuse["slipway.tenant.remove"]
    assert deletion.purge_due() == 1
    assert not Tenant.objects.filter(name="acme").exists()


async def test_only_operators_delete(people: Any) -> None:
    alice = await deletion.database.read(people.actor, people.alice)
    for act in (deletion.mark(alice, people.acme), deletion.purge(alice, people.acme), deletion.restore(alice, people.acme)):
        with pytest.raises(PermissionDenied, match="only operators of the platform"):
            await act
    assert system().operator
