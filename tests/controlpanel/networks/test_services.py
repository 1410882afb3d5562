"""Networks in rows, projection and events, against a host that speaks the contract."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from controlpanel.audit.models import Record
from controlpanel.base import database
from controlpanel.containers import projection as containers
from controlpanel.containers import publishing
from controlpanel.containers import services as container_services
from controlpanel.dockerapi import inspect
from controlpanel.events import log
from controlpanel.hosts import operations, sweep, tenants
from controlpanel.hosts.models import Operation
from controlpanel.networks import connecting, limiting, members, projection, services
from controlpanel.networks.models import Network
from controlpanel.tenants import access, policy
from controlpanel.tenants.actor import command_line
from engine.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound, PermissionDenied, QuotaExceeded, Unavailable
from engine.model.network import PortBinding
from engine.model.rules import Rules
from tests.controlpanel.conftest import ingest

pytestmark = pytest.mark.usefixtures("web", "image")


async def actor(people: Any, user: str = "alice", tenant: Any = None) -> Any:
    return await database.read(people.actor, getattr(people, user), tenant)


async def told(people: Any) -> list[tuple[str, str]]:
    """Action and network of the events about networks."""
    events = await database.read(log.read, people.acme.pk)
    return [(event.action, event.attributes.get("name", "")) for event in events if event.type == "network"]


async def run(who: Any, name: str, mode: str = "", **words: Any) -> Any:
    body = {"Image": "busybox", "Cmd": ["sleep", "9"], "HostConfig": {"NetworkMode": mode, **words.pop("host", {})}, **words}
    made = await container_services.create_container(who, body, name=name)
    await container_services.start_container(who, name)
    return made


async def test_a_network_comes_and_goes_with_its_events(people: Any, host: Any) -> None:
    alice = await actor(people)
    made = await services.create_network(alice, {"Name": "back", "Labels": {"a": "b"}, "Internal": True})
    assert (made.name, made.internal, made.pool.subnet, made.asked_pool.subnet) == ("back", True, "10.200.0.0/24", "")
    assert [view.name for view in await projection.networks(alice)] == ["back", "bridge", "none"]
    assert await projection.network(alice, made.id[:12]) == await projection.network(alice, "back") == made
    await services.remove_network(alice, made.id[:10])
    with pytest.raises(NotFound, match=r"^network back not found$"):
        await projection.network(alice, "back")
    assert host.verbs() == ["tenant.ensure", "network.create", "network.remove"]
    assert await told(people) == [("create", "back"), ("destroy", "back")]


async def test_names_are_the_tenants_own(people: Any, host: Any) -> None:
    alice, charlie = await actor(people), await actor(people, "charlie", people.umbrella)
    made = await services.create_network(alice, {"Name": "net"})
    with pytest.raises(AlreadyExists, match=r"^network with name net already exists$"):
        await services.create_network(alice, {"Name": "net"})
    await services.create_network(charlie, {"Name": "net"})
    for name in (made.id, made.id[:12]):
        with pytest.raises(NotFound, match=f"^network {name} not found$"):
            await services.remove_network(charlie, name)
        with pytest.raises(InvalidArgument, match=f"^network {name} not found$"):
            await run(charlie, "web", name)


async def test_roles(people: Any, host: Any) -> None:
    alice, victor = await actor(people), await actor(people, "victor")
    await services.create_network(alice, {"Name": "net"})
    assert (await projection.network(victor, "net")).name == "net"
    for act in (
        services.create_network(victor, {"Name": "other"}),
        services.remove_network(victor, "net"),
        services.prune_networks(victor),
        connecting.connect(victor, "net", "x", {}),
        connecting.disconnect(victor, "net", "x"),
        publishing.publish_ports(victor, "x", {}),
        limiting.limit_network(victor, "net", Rules()),
        limiting.limit_container(victor, "x", Rules()),
    ):
        with pytest.raises(PermissionDenied):
            await act


async def test_a_limit_of_networks(people: Any, host: Any) -> None:
    people.acme.networks_max = 1
    await database.run(people.acme.save)
    alice = await actor(people)
    await services.create_network(alice, {"Name": "one"})
    with pytest.raises(QuotaExceeded, match="networks is limited to 1, 1 are in use"):
        await services.create_network(alice, {"Name": "two"})


async def test_what_the_host_refuses_leaves_nothing(people: Any, host: Any) -> None:
    alice = await actor(people)
    host.refuse["slipway.network.create"] = PermissionDenied("invalid pool request: Pool overlaps with other one on this address space")
    with pytest.raises(PermissionDenied, match="Pool overlaps"):
        await services.create_network(alice, {"Name": "net"})
    assert await database.read(Network.everywhere.count) == 0 and await told(people) == []
    host.refuse.clear()
    await services.create_network(alice, {"Name": "net"})
    host.refuse["slipway.network.remove"] = FailedPrecondition("not now")
    with pytest.raises(FailedPrecondition):
        await services.remove_network(alice, "net")
    assert (await database.read(Network.everywhere.get)).state == Network.READY


async def test_what_a_killed_web_left_half_made_is_settled_at_the_next_start(people: Any, host: Any, monkeypatch: Any) -> None:
    alice = await actor(people)
    host.silent.add("slipway.network.create")
    with monkeypatch.context() as patched:
        patched.setattr(operations.dispatch, "TIMEOUT_S", 0.2)
        ask = operations.ask
        patched.setattr(operations, "ask", lambda operation: ask(operation, timeout_s=0.2))
        with pytest.raises(Unavailable):
            await services.create_network(alice, {"Name": "net"})
    assert [view.ready for view in await projection.networks(alice) if view.user_defined] == [False]
    host.silent.clear()
    await (await sweep.at_start())()
    assert (await projection.network(alice, "net")).ready and await told(people) == [("create", "net")]
    assert {each.state for each in await database.read(lambda: list(Operation.everywhere.all()))} == {"done"}


async def test_connect_and_disconnect_while_it_runs(people: Any, host: Any) -> None:
    alice = await actor(people)
    for name in ("front", "back"):
        await services.create_network(alice, {"Name": name})
    made = await run(alice, "web", "front")
    await connecting.connect(alice, "back", "web", {"Aliases": ["db"]})
    view = await containers.container(alice, "web")
    assert view.state.endpoints is not None and [each.spec.aliases for each in view.state.endpoints] == [(), ("db",)]
    assert sorted(view.network_names.values()) == ["back", "front"]
    with pytest.raises(PermissionDenied, match=r"^endpoint with name web already exists in network back$"):
        await connecting.connect(alice, "back", "web", {})
    with pytest.raises(
        PermissionDenied, match=r'^error while removing network: network back has active endpoints \(name:"web" id:"[0-9a-f]{12}"\)$'
    ):
        await services.remove_network(alice, "back")
    await connecting.disconnect(alice, "back", made.id[:12])
    with pytest.raises(FailedPrecondition, match=f"^container {made.id} is not connected to network back$"):
        await connecting.disconnect(alice, "back", "web")
    await ingest({**host.exited(made.id), "change": 0})
    await connecting.connect(alice, "back", "web", {})  # told when it starts
    await connecting.connect(alice, "back", "web", {})  # in it already: fine while it does not run
    assert await told(people) == [
        ("create", "front"), ("create", "back"), ("connect", "front"), ("connect", "back"), ("disconnect", "back"), ("disconnect", "front"),
    ]  # fmt: skip


async def test_what_cannot_be_connected(people: Any, host: Any) -> None:
    alice = await actor(people)
    await services.create_network(alice, {"Name": "net"})
    await run(alice, "alone", "none")
    await run(alice, "web")
    await run(alice, "guest", "container:web")
    for words, kind, sentence in (
        (("net", "alone"), InvalidArgument, "container cannot be connected to multiple networks with one of the networks in private"),
        (("none", "web"), InvalidArgument, "container cannot be connected to multiple networks with one of the networks in private"),
        (("net", "guest"), InvalidArgument, "container sharing network namespace with another container or host cannot be"),
        (("host", "web"), InvalidArgument, "cannot connect container to host network - container must be created in host network mode"),
        (("net", "nosuch"), NotFound, "No such container: nosuch"),
        (("nosuch", "web"), NotFound, "network nosuch not found"),
        (("net", ""), InvalidArgument, 'invalid name or ID supplied: ""'),
    ):
        with pytest.raises(kind, match=f"^{sentence}"):
            await connecting.connect(alice, *words, {})
    with pytest.raises(InvalidArgument, match=r"^invalid endpoint settings:\nuser specified IP address is supported only when"):
        await connecting.connect(alice, "net", "web", {"IPAMConfig": {"IPv4Address": "10.1.1.1"}})


async def test_prune_takes_what_no_running_container_is_in(people: Any, host: Any) -> None:
    alice = await actor(people)
    for name in ("used", "idle", "kept"):
        await services.create_network(alice, {"Name": name, "Labels": {"keep": ""} if name == "kept" else {}})
    await run(alice, "web", "used")
    await container_services.create_container(alice, {"Image": "busybox", "HostConfig": {"NetworkMode": "idle"}}, name="asleep")
    assert await services.prune_networks(alice, lambda view: "keep" not in view.labels) == ["idle"]
    assert [view.name for view in await projection.networks(alice)] == ["kept", "used", "bridge", "none"]
    assert (await told(people))[-2:] == [("destroy", "idle"), ("prune", "")]
    assert await services.prune_networks(alice, lambda _view: False) == []
    records = await database.read(lambda: [record.detail for record in Record.objects.filter(verb="network.prune").order_by("pk")])
    assert records == [{"networks": 1}, {"networks": 0}]
    asleep = await containers.container(alice, "asleep")
    assert list(asleep.network_names.values()) == ["idle"]  # inspect goes on calling it so


async def test_ports_change_while_it_runs(people: Any, host: Any) -> None:
    alice = await actor(people)
    await run(alice, "web", host={"PortBindings": {"80/tcp": [{"HostPort": "8080"}]}})
    assert (await containers.container(alice, "web")).spec.ports == (PortBinding(container_port=80, host_port=8080),)
    await publishing.publish_ports(alice, "web", {"80/tcp": [{"HostPort": ""}], "81/udp": [{"HostIp": "127.0.0.1", "HostPort": "81"}]})
    view = await containers.container(alice, "web")
    assert view.state.ports is not None and [port.host_port for port in view.state.ports] == [32768, 81]
    assert view.docker_host_config["PortBindings"]["80/tcp"] == [{"HostPort": ""}]
    host.refuse["slipway.container.publish"] = FailedPrecondition("Bind for 0.0.0.0:80 failed: port is already allocated")
    with pytest.raises(FailedPrecondition, match="already allocated"):
        await publishing.publish_ports(alice, "web", {"80/tcp": [{"HostPort": "80"}]})
    assert (await containers.container(alice, "web")).spec.ports == view.spec.ports
    await run(alice, "alone", "none")
    with pytest.raises(FailedPrecondition, match="has no network of its own"):
        await publishing.publish_ports(alice, "alone", {})


async def test_a_tenant_publishes_the_ports_that_it_may(people: Any, host: Any) -> None:
    people.acme.policy_words = {"ports": ["8000-8009", "9000"]}
    await database.run(people.acme.save)
    alice = await actor(people)
    await run(alice, "ok", host={"PortBindings": {"80/tcp": [{"HostPort": "9000"}], "81/tcp": [{"HostPort": ""}]}})
    spec = (await containers.container(alice, "ok")).spec
    assert [(port.host_port, port.host_port_end) for port in spec.ports] == [(9000, 0), (8000, 8009)]
    for asked in ("80", "8005-8010", "9001"):
        refusal = rf"^port {asked}/tcp of the host \(allowed: 8000-8009, 9000\) is not allowed in tenant acme: rule policy.ports"
        with pytest.raises(PermissionDenied, match=refusal):
            await run(alice, "no", host={"PortBindings": {"80/tcp": [{"HostPort": asked}]}})
        with pytest.raises(PermissionDenied, match=refusal):
            await publishing.publish_ports(alice, "ok", {"80/tcp": [{"HostPort": asked}]})
    people.acme.policy_words = {"ports": []}
    await database.run(people.acme.save)
    with pytest.raises(PermissionDenied, match="allowed: none"):
        await run(await actor(people), "no", host={"PortBindings": {"80/tcp": [{}]}})


async def test_the_hosts_network_is_there_where_an_administrator_allows_it(people: Any, host: Any) -> None:
    alice = await actor(people)
    with pytest.raises(PermissionDenied, match=r"the host's network is not allowed in tenant acme: rule policy\.host_network"):
        await run(alice, "web", "host")
    await tenants.change_policy(command_line(), "acme", partial(policy.changed, allow=["host_network"]))
    record = await database.read(lambda: Record.objects.filter(verb="tenant.policy").latest("pk"))
    assert record.detail == {"before": {"host_network": False}, "after": {"host_network": True}}
    access._revoked({}, None)
    alice = await actor(people)
    assert [view.name for view in await projection.networks(alice)] == ["bridge", "host", "none"]
    made = await run(alice, "web", "host", host={"PortBindings": {"80/tcp": [{"HostPort": "80"}]}})
    assert made.warnings == ("Published ports are discarded when using host network mode",)
    view = await containers.container(alice, "web")
    assert (view.spec.network_mode, view.spec.ports) == ("host", ())
    settings = inspect.network_settings(view, "acme")
    assert list(settings["Networks"]) == ["host"] and settings["Ports"] == {} and settings["Networks"]["host"]["EndpointID"]
    where = await projection.network(alice, "host")
    assert [member.name for member in await members.of(alice, where)] == ["web"]
    with pytest.raises(InvalidArgument, match="cannot be connected to any other network"):
        await connecting.connect(alice, "bridge", "web", {})
    assert ("connect", "host") in await told(people)
    assert [each.name for each in await projection.networks(await actor(people, "charlie", people.umbrella))] == ["bridge", "none"]
