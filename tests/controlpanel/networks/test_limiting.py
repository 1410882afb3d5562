"""Allow-lists in rows, projection and audit, against a host that speaks the contract."""

from __future__ import annotations

from typing import Any

import pytest

from controlpanel.audit.models import Record
from controlpanel.base import database
from controlpanel.containers import projection as containers
from controlpanel.containers import services as container_services
from controlpanel.networks import limiting, projection, services
from controlpanel.networks.forms import BandwidthForm, RulesForm
from engine.errors import FailedPrecondition, Internal, InvalidArgument, NotFound, PermissionDenied, Unsupported
from engine.model.bandwidth import Bandwidth
from engine.model.rules import Rule, Rules, parse

pytestmark = pytest.mark.usefixtures("web", "image")

WEB = Rules(egress=parse("tcp 192.0.2.0/24 80,443"))


async def actor(people: Any, user: str = "alice", tenant: Any = None) -> Any:
    return await database.read(people.actor, getattr(people, user), tenant)


async def create(who: Any, name: str, mode: str = "", **words: Any) -> Any:
    body = {"Image": "busybox", "Cmd": ["sleep", "9"], "HostConfig": {"NetworkMode": mode}, **words}
    return await container_services.create_container(who, body, name=name)


async def test_a_list_is_asked_for_by_label_and_changes(people: Any, host: Any) -> None:
    alice = await actor(people)
    made = await services.create_network(alice, {"Name": "back", "Labels": {"io.slipway.egress": "tcp 192.0.2.0/24 80,443"}})
    assert made.rules == WEB
    assert host.asked[-1][1]["spec"]["rules"]["egress"] == [{"protocol": "tcp", "cidr": "192.0.2.0/24", "ports": "80,443"}]
    changed = await limiting.limit_network(alice, "back", Rules(ingress=()))
    assert changed.rules == Rules(ingress=()) == (await projection.network(alice, "back")).rules
    await create(alice, "web", "back", Labels={"io.slipway.egress": "none", "io.slipway.ingress": "tcp all 80; udp 10.0.0.0/8 53"})
    view = await containers.container(alice, "web")
    assert view.spec.rules == Rules(
        egress=(), ingress=(Rule(protocol="tcp", ports="80"), Rule(protocol="udp", cidr="10.0.0.0/8", ports="53"))
    )
    assert (await limiting.limit_container(alice, "web", WEB)).spec.rules == WEB
    verbs = await database.read(lambda: [record.verb for record in Record.objects.order_by("pk")])
    assert [verb for verb in verbs if verb.endswith(".rules")] == ["network.rules", "container.rules"]


async def test_what_the_host_refuses_changes_nothing(people: Any, host: Any) -> None:
    alice = await actor(people)
    await services.create_network(alice, {"Name": "back"})
    await create(alice, "web", "back")
    for task in ("slipway.network.limit", "slipway.container.limit"):
        host.refuse[task] = Internal("nft: no")
    with pytest.raises(Internal):
        await limiting.limit_network(alice, "back", WEB)
    with pytest.raises(Internal):
        await limiting.limit_container(alice, "web", WEB)
    assert not (await projection.network(alice, "back")).rules
    assert not (await containers.container(alice, "web")).spec.rules


async def test_what_has_no_lists_is_refused(people: Any, host: Any) -> None:
    alice, charlie = await actor(people), await actor(people, "charlie", people.umbrella)
    with pytest.raises(Unsupported, match="everybody's"):
        await limiting.limit_network(alice, "bridge", WEB)
    await create(alice, "alone", "none")
    with pytest.raises(FailedPrecondition, match="no network of its own"):
        await limiting.limit_container(alice, "alone", WEB)
    for name, wrong in (("back", "tcp 192.0.2.1/24"), ("back", "tcp all 70000")):
        with pytest.raises(InvalidArgument):
            await services.create_network(alice, {"Name": name, "Labels": {"io.slipway.egress": wrong}})
        with pytest.raises(InvalidArgument):
            await create(alice, "web", Labels={"io.slipway.ingress": wrong})
    await services.create_network(alice, {"Name": "back"})
    with pytest.raises(NotFound):
        await limiting.limit_network(charlie, "back", WEB)
    with pytest.raises(NotFound):
        await limiting.limit_container(charlie, "alone", WEB)


async def test_bandwidth_is_asked_for_by_label_and_changes(people: Any, host: Any) -> None:
    alice, victor = await actor(people), await actor(people, "victor")
    await create(alice, "web", Labels={"io.slipway.bandwidth.in": "10mbit", "io.slipway.bandwidth.out": "1MB"})
    assert (await containers.container(alice, "web")).spec.bandwidth == Bandwidth(into=1_250_000, out=1_000_000)
    assert (await limiting.shape_container(alice, "web", Bandwidth(out=50_000))).spec.bandwidth == Bandwidth(out=50_000)
    with pytest.raises(InvalidArgument):
        await limiting.shape_container(alice, "web", Bandwidth(out=1))
    with pytest.raises(PermissionDenied):
        await limiting.shape_container(victor, "web", Bandwidth())
    form = BandwidthForm({"into": "10mbit", "out": ""})
    assert form.is_valid() and form.to_bandwidth() == Bandwidth(into=1_250_000)
    assert not BandwidthForm({"into": "fast", "out": ""}).is_valid()


def test_the_form_says_what_the_rules_say() -> None:
    shown = RulesForm(rules=Rules(egress=WEB.egress, ingress=())).initial
    assert shown == {"egress": "tcp 192.0.2.0/24 80,443", "ingress": "none"}
    form = RulesForm(shown)
    assert form.is_valid() and form.to_rules() == Rules(egress=WEB.egress, ingress=())
    assert RulesForm({"egress": "", "ingress": " \n"}).is_valid()
    assert not RulesForm({"egress": "tcp all 0", "ingress": ""}).is_valid()
