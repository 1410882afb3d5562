"""A tenant's policy: its words, who changes it by REST, page and command line, what is told of it, and what the hosts hear."""

from __future__ import annotations

import importlib
from io import StringIO
from typing import Any

import pytest
from django.apps import apps
from django.conf import settings
from django.core.management import call_command
from django.test import AsyncClient

from controlpanel.audit.models import Record
from controlpanel.base import database
from controlpanel.tenants import policy
from controlpanel.tenants.models import Tenant
from controlpanel.tenants.policy import DEFAULT, Policy
from engine.errors import InvalidArgument
from tests.controlpanel import agent
from tests.controlpanel.conftest import say_who

P, JSON = "/api/v1/tenants/acme/policy", "application/json"


# -- words ---------------------------------------------------------------------------------------------


def test_what_reaches_further_is_denied_until_it_is_allowed() -> None:
    assert {item: DEFAULT.words(item) for item in policy.ITEMS} == {
        "privileged": "no", "host_network": "no", "seccomp": "no", "new_privileges": "yes",
        "capabilities": "NET_ADMIN, SYS_PTRACE, SYS_NICE, IPC_LOCK", "devices": "none", "registries": "all",
        "ports": "all", "addresses": "all",
    }  # fmt: skip
    assert policy.read({}) == DEFAULT and DEFAULT.to_json() == {}


def test_items_are_allowed_and_denied_one_by_one() -> None:
    allow = [
        "privileged",
        "capabilities=cap_net_admin",
        "capabilities=SYS_PTRACE",
        "devices=/dev/fuse",
        "devices=/dev/fuse:r",
        "host-network",
    ]
    first = policy.changed(DEFAULT, allow=allow, deny=["new_privileges", "registries", "capabilities"])
    assert first == Policy(
        privileged=True, host_network=True, new_privileges=False, capabilities=("NET_ADMIN", "SYS_PTRACE"), devices=("/dev/fuse:r",),
        registries=(),
    )  # fmt: skip
    assert policy.read(first.to_json()) == first
    second = policy.changed(
        first, deny=["capabilities=NET_ADMIN", "devices=/dev/fuse", "policy.privileged"], allow=["registries", "capabilities"]
    )
    assert second == Policy(host_network=True, new_privileges=False, capabilities=("all",))
    narrowed = policy.changed(DEFAULT, deny=["ports"], allow=["ports=8000-8999", "ports=443"])
    assert narrowed.ports == ("8000-8999", "443")
    assert policy.changed(narrowed, deny=["ports=443"]).ports == ("8000-8999",)
    assert policy.changed(DEFAULT, allow=["registries=HOST:5000"]) == DEFAULT  # it was among all


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("fly", "there is no item 'fly' in a policy: there are privileged, "),
        ("privileged=yes", "use privileged"),
        ("capabilities=", "use capabilities or capabilities=WORD"),
        ("capabilities=FLY", "unknown capability"),
        ("devices=/etc/passwd", "invalid device"),
        ("devices=/dev/../etc", "invalid device"),
        ("ports=0-9", "from 1 to 65535"),
        ("ports=9-8", "from 1 to 65535"),
        ("ports=x", "invalid ports"),
        ("addresses=here", "invalid address"),
        ("registries=host/path", "invalid registry"),
        ("registries=host", "invalid registry"),
    ],
)
def test_words_that_mean_nothing(words: str, sentence: str) -> None:
    with pytest.raises(InvalidArgument, match=sentence):
        policy.changed(DEFAULT, allow=[words])


def test_one_of_everything_cannot_be_taken_out() -> None:
    with pytest.raises(InvalidArgument, match="all ports are allowed: deny ports first, and allow those that may be"):
        policy.changed(DEFAULT, deny=["ports=80"])


# -- who changes it ------------------------------------------------------------------------------------


async def browser(people: Any, name: str, *, fresh: bool = True) -> AsyncClient:
    made = AsyncClient()
    await made.aforce_login(getattr(people, name))
    if fresh:
        await say_who(made, getattr(people, name))
    return made


async def told() -> list[tuple[str, str, dict[str, Any]]]:
    rows = await database.read(lambda: list(Record.objects.filter(verb="tenant.policy", result="").order_by("pk")))
    return [(row.actor, row.object, row.detail) for row in rows]


@pytest.mark.usefixtures("web")
async def test_operators_change_it_by_rest_and_members_read_it(people: Any, host: Any) -> None:
    operator, victor = await browser(people, "operator"), await browser(people, "victor")
    answer = await operator.patch(P, {"privileged": True, "capabilities": ["net_admin"], "registries": ["host:5000"]}, content_type=JSON)
    assert answer.status_code == 200, answer.content
    shown = (await victor.get(P)).json()
    assert shown == answer.json() == (await operator.get(P)).json()
    assert (shown["privileged"], shown["capabilities"], shown["ports"], shown["ceiling"]) == (True, ["NET_ADMIN"], ["all"], None)
    sides = [{"privileged": False, "capabilities": list(DEFAULT.capabilities), "registries": ["all"]}]
    sides += [{"privileged": True, "capabilities": ["NET_ADMIN"], "registries": ["host:5000"]}]
    assert await told() == [("operator", "acme", {"before": sides[0], "after": sides[1]})]
    (ensured,) = [payload for task, payload in host.asked if task.endswith("ensure")]
    assert (ensured["registries"], ensured["force_no_new_privileges"]) == (["host:5000"], False)
    assert (await operator.patch(P, {"privileged": True}, content_type=JSON)).status_code == 200
    assert len(await told()) == 1  # nothing changed
    for name, status in (("alice", 403), ("victor", 403), ("charlie", 403)):
        refused = await (await browser(people, name)).patch(P, {"privileged": True}, content_type=JSON)
        assert refused.status_code == status and refused.json()["error"]["detail"]["rule"] == "tenant.policy"
    assert (await (await browser(people, "charlie")).get(P)).status_code == 404
    for words in ({"capabilities": ["FLY"]}, {"devices": ["x"]}, {"nonsense": 1}, {"privileged": "all"}):
        assert (await operator.patch(P, words, content_type=JSON)).status_code == 400
    assert (await operator.patch("/api/v1/tenants/nobody/policy", {}, content_type=JSON)).status_code == 404


@pytest.mark.usefixtures("web")
async def test_an_operator_is_asked_who_he_is_once_more(people: Any, host: Any) -> None:
    operator = await browser(people, "operator", fresh=False)
    refused = await operator.patch(P, {"privileged": True}, content_type=JSON)
    assert refused.status_code == 403 and refused.json()["error"]["detail"]["rule"] == "reauthentication"
    asked = await operator.post("/platform/policy/acme", {"privileged": "on"})
    assert asked.status_code == 302 and asked["Location"].startswith("/accounts/reauthenticate/")
    assert (await Tenant.objects.aget(name="acme")).policy == DEFAULT and await told() == []


@pytest.mark.usefixtures("web")
async def test_the_page_of_operators_and_what_members_see(people: Any, host: Any) -> None:
    operator, alice = await browser(people, "operator"), await browser(people, "alice")
    page = (await operator.get("/platform/policy/acme")).content.decode()
    assert 'name="privileged"' in page and "The host does not answer just now" in page
    form = {"new_privileges": "on", "capabilities": "NET_ADMIN\nsys_ptrace", "registries": "all", "ports": "8000-8999", "addresses": ""}
    answer = await operator.post("/platform/policy/acme", form)
    assert (answer.status_code, answer["Location"]) == (302, "/platform/policy/acme")
    row = await Tenant.objects.aget(name="acme")
    assert row.policy == Policy(capabilities=("NET_ADMIN", "SYS_PTRACE"), ports=("8000-8999",), addresses=())
    wrong = await operator.post("/platform/policy/acme", {**form, "devices": "/etc/passwd"})
    assert wrong.status_code == 400 and 'id="id_devices_error"' in wrong.content.decode()
    settings = (await alice.get("/t/acme/settings/")).content.decode()
    assert "NET_ADMIN, SYS_PTRACE" in settings and "8000-8999" in settings and 'id="policy"' in settings
    assert (await alice.get("/platform/policy/acme")).status_code == 403
    assert "/platform/policy/acme" in (await operator.get("/platform/")).content.decode()
    assert (await operator.get("/platform/policy/nobody")).status_code == 404


@pytest.mark.usefixtures("web")
async def test_what_root_of_the_host_grants_is_shown_beside_it(people: Any, host: Any) -> None:
    operator, victor = await browser(people, "operator"), await browser(people, "victor")
    async with agent.speaking(settings.SLIPWAY_RUN, settings.SLIPWAY_DATA):
        ceiling = (await victor.get(P)).json()["ceiling"]
        page = (await operator.get("/platform/policy/acme")).content.decode()
        shown = (await victor.get("/t/acme/settings/")).content.decode()
    assert (ceiling["host_network"], ceiling["devices"], ceiling["folders"]) == (True, ["/dev/fuse"], ["/srv/data:ro"])
    assert "Root of the host grants: /dev/fuse" in page and "Folders of the host: /srv/data:ro" in page and "does not answer" not in page
    assert "/srv/data:ro" in shown and "Exports of NFS servers" in shown


def test_the_command_line(people: Any, host: Any) -> None:
    said = StringIO()
    words = ["--deny", "ports", "--allow", "ports=8000-8999", "--allow", "seccomp"]
    call_command("tenant", "policy", "acme", *words, stdout=said)
    lines = [line.split() for line in said.getvalue().splitlines()]
    assert ["seccomp", "yes", "?"] in lines and ["ports", "8000-8999", "?"] in lines and ["folders", "–", "?"] in lines
    (record,) = Record.objects.filter(verb="tenant.policy")
    assert record.detail["before"] == {"seccomp": False, "ports": ["all"]} and (record.actor, record.door) == ("root", "cli")


def test_what_three_columns_said_is_in_the_policy(people: Any) -> None:
    """The migration, over rows that still have the columns."""

    class Old:
        def __init__(self, **words: Any) -> None:
            self.policy_words: dict[str, Any] = {}
            self.published_ports, self.host_network, self.force_no_new_privileges = "", False, False
            self.__dict__ |= words

        def save(self, **_words: Any) -> None:
            self.saved = policy.read(self.policy_words)

    class Rows:
        objects = type("", (), {"all": staticmethod(lambda: rows)})

    rows = [Old(), Old(published_ports="8000-8009, 9000", host_network=True), Old(published_ports="none", force_no_new_privileges=True)]
    gather = importlib.import_module("controlpanel.tenants.migrations.0010_policy").gather
    gather(type("", (), {"get_model": staticmethod(lambda *_names: Rows)}), None)
    assert not hasattr(rows[0], "saved") and apps.get_model("tenants", "Tenant") is Tenant
    assert rows[1].saved == Policy(ports=("8000-8009", "9000"), host_network=True)
    assert rows[2].saved == Policy(ports=(), new_privileges=False)
