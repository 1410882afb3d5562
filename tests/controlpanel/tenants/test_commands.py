"""./manage.py tenant, token, member and user, as the panel's user runs them."""

from __future__ import annotations

import json
import re
import tarfile
from io import BytesIO, StringIO, TextIOWrapper
from typing import Any

import pytest
from django.conf import settings
from django.core.management import ManagementUtility, call_command

from controlpanel.accounts.models import Certificate, Token, User
from controlpanel.audit.models import Record
from controlpanel.base import database
from controlpanel.hosts.models import Operation
from controlpanel.tenants import access
from controlpanel.tenants.models import Membership, Tenant
from workers import contract


def run(*words: str) -> str:
    out = StringIO()
    call_command(*words, stdout=out)
    return out.getvalue()


def refused(*words: str) -> str:
    error = StringIO()
    with pytest.raises(SystemExit) as caught:
        call_command(*words, stdout=StringIO(), stderr=error)
    assert caught.value.code == 1
    return error.getvalue().strip()


def test_a_tenant_is_made_on_the_host_too_and_prints_its_endpoint(people: Any, host: Any) -> None:
    said = run("tenant", "create", "new", "--memory", "1.5g", "--cpus", "2.5", "--pids", "100", "--owner", "bob")
    assert said == f"unix://{settings.SLIPWAY_RUN}/tenants/new/docker.sock\n"
    assert run("tenant", "endpoint", "new") == said
    tenant = Tenant.objects.get(name="new")
    assert (tenant.memory_bytes, tenant.nano_cpus, tenant.pids) == (1536 << 20, 2_500_000_000, 100)
    assert tenant.hosts["local"]["subnet"] == "10.128.0.0/20"
    task, payload = host.asked[0]
    assert task == contract.ENSURE_TENANT and payload["limits"]["memory_bytes"] == 1536 << 20
    assert Membership.everywhere.get(tenant=tenant).user == people.bob
    assert Record.objects.for_tenant(tenant.pk)[0].actor == "root"


def test_usage_names_the_command_that_was_typed(people: Any, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["tenant", "endpoint"], ["token", "create", "--role", "king"], ["member", "--help"]):
        with pytest.raises(SystemExit):
            ManagementUtility(["django/__main__.py", *words]).execute()
        told = capsys.readouterr()
        assert (told.err or told.out).startswith(f"usage: manage.py {words[0]}")


def test_a_tenant_made_while_the_host_is_away_is_made_there_later(people: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("controlpanel.hosts.tenants.ENSURE_WITHIN_S", 0.2)
    run("tenant", "create", "new")
    assert Tenant.objects.get(name="new").hosts == {}
    assert Operation.everywhere.get().state == "queued"


@pytest.mark.parametrize("name", ["UPPER", "-a", "a_b", "x" * 64, "public", "../up", "a/b", ""])
def test_names_that_cannot_be_a_path_a_label_and_a_socket_are_refused(people: Any, name: str) -> None:
    assert refused("tenant", "create", "--", name).startswith("slipway: invalid tenant name")


def test_a_taken_name_is_refused_unless_that_is_fine(people: Any, host: Any) -> None:
    assert refused("tenant", "create", "acme") == "slipway: tenant acme exists already"
    assert run("tenant", "create", "acme", "--exist-ok").endswith("/tenants/acme/docker.sock\n")


def test_list_and_quota_show_limits_in_words(people: Any, host: Any) -> None:
    run("tenant", "quota", "acme", "--memory", "512m", "--containers", "5")
    assert re.search(r"^acme +0 +unlimited +512 MiB +unlimited +unlimited$", run("tenant", "list"), re.MULTILINE)
    assert re.search(r"^containers +0 +5$", run("tenant", "quota", "acme"), re.MULTILINE)
    assert re.search(r"^logs +\? +unlimited$", run("tenant", "quota", "acme"), re.MULTILINE)  # no host tells
    assert host.asked[-1][1]["limits"]["memory_bytes"] == 512 << 20
    run("tenant", "quota", "acme", "--bandwidth-in", "100mbit")
    assert host.asked[-1][1]["bandwidth"] == {"into": 12_500_000, "out": 0}
    assert "bandwidth      in 12500kB/s, out unlimited" in run("tenant", "quota", "acme")
    assert refused("tenant", "quota", "acme", "--bandwidth-out", "5").startswith("slipway: invalid rate 5: from 8192 to")
    assert refused("tenant", "quota", "acme", "--memory", "lots") == "slipway: invalid size: 'lots'"
    assert refused("tenant", "quota", "acme", "--pids", "-1").startswith("slipway: pids -1")


@pytest.mark.usefixtures("web")
async def test_a_token_is_printed_alone_and_works(people: Any) -> None:
    said = await database.run(run, "token", "create", "--tenant", "acme", "--role", "viewer", "--expires", "30d")
    assert re.fullmatch(r"slw_[\w-]{43}\n", said)
    actor = await access.actor_for_token(said.strip())
    assert (actor.role, actor.user, actor.label[:6]) == ("viewer", None, "token ")


def test_wrong_words_for_a_token_are_said(people: Any) -> None:
    assert refused("token", "create", "--tenant", "nope") == "slipway: No such tenant: nope"
    assert refused("token", "create", "--tenant", "acme", "--expires", "soon").startswith("slipway: invalid duration 'soon'")
    assert not Token.objects.exists()


def test_users_and_members(people: Any) -> None:
    password = run("user", "create", "dora", "--uid", "1500").strip()
    dora = User.objects.get(username="dora")
    assert dora.check_password(password) and dora.uid == 1500 and not dora.is_superuser
    run("member", "add", "acme", "dora", "--role", "operator")
    assert "dora\toperator" in run("member", "list", "acme")
    assert dora.check_password(run("user", "password", "dora").strip()) is False
    assert refused("user", "create", "dora") == "slipway: user dora exists already"
    assert refused("user", "create", "eve", "--uid", "1500") == "slipway: unix user 1500 is linked to another user already"
    assert refused("user", "create", "eve", "--uid", "0").startswith("slipway: unix user 0")
    assert refused("user", "create", "a b").startswith("slipway: invalid user name")
    run("member", "remove", "acme", "dora")
    assert "dora" not in run("member", "list", "acme")
    assert refused("member", "remove", "acme", "alice").startswith("slipway: alice is the last owner")


def test_an_admin_is_an_operator(people: Any) -> None:
    run("user", "create", "root2", "--admin")
    assert User.objects.get(username="root2").is_superuser


def test_tokens_are_listed_and_revoked_by_number_or_beginning(people: Any) -> None:
    first = run("token", "create", "--tenant", "acme", "--name", "ci", "--verbs", "container.view,image.*").strip()
    second = run("token", "create", "--tenant", "acme", "--user", "victor").strip()
    robot, victors = Token.objects.get(name="ci"), Token.objects.get(user=people.victor)
    assert robot.verbs[0] == "container.view" and "image.pull" in robot.verbs and victors.role == "viewer"
    listed = run("token", "list", "--tenant", "acme")
    assert re.search(rf"^{robot.pk} +{first[:12]} +developer +– +never +never +container.view image.build .* ci$", listed, re.MULTILINE)
    assert re.search(rf"^{victors.pk} +{second[:12]} +viewer +victor +never +never +all$", listed, re.MULTILINE)
    assert [row["user"] for row in json.loads(run("token", "list", "--tenant", "acme", "--json"))] == ["victor", None]
    assert refused("token", "revoke", "--tenant", "acme", "slw_") == "slipway: 'slw_' is the beginning of 2 tokens: say more of it"
    assert refused("token", "revoke", "--tenant", "umbrella", str(robot.pk)) == f"slipway: No such token: {robot.pk}"
    run("token", "revoke", "--tenant", "acme", first[:12])
    run("token", "revoke", "--tenant", "acme", str(victors.pk))
    assert not Token.objects.exists()


def test_a_context_is_written_to_standard_output_listed_and_revoked(people: Any, keys: Any) -> None:
    raw = BytesIO()
    out = TextIOWrapper(raw)
    call_command("context", "export", "acme", "--robot", "ci", "--expires", "12h", stdout=out)
    with tarfile.open(fileobj=BytesIO(raw.getvalue())) as tar:
        assert tar.getnames() == ["meta.json", "tls/docker/ca.pem", "tls/docker/cert.pem", "tls/docker/key.pem"]
    row = Certificate.objects.get()
    assert (row.name, row.user, row.role) == ("ci", None, "developer")
    assert re.search(rf"^{row.pk} +{row.prefix} +developer +– .* all +ci$", run("context", "list", "acme"), re.MULTILINE)
    assert "no member of acme" in refused("context", "export", "acme", "--user", "charlie")
    run("context", "revoke", "acme", row.prefix[:6])
    assert not Certificate.objects.exists()


def test_a_user_is_disabled_and_enabled(people: Any) -> None:
    run("user", "disable", "bob")
    assert not User.objects.get(username="bob").is_active and "bob\t\t\tdisabled" in run("user", "list")
    run("user", "enable", "bob")
    assert User.objects.get(username="bob").is_active and "disabled" not in run("user", "list")
