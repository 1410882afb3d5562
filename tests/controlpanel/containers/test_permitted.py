"""What a tenant's policy keeps from containers, by Docker's API, REST and the form; and that it lets through what it allows."""

from __future__ import annotations

import json
from typing import Any

import pytest

from controlpanel.base import database
from controlpanel.containers import projection, publishing
from controlpanel.tenants import access
from engine.errors import PermissionDenied
from tests.controlpanel.api.test_rest import client, create
from tests.controlpanel.dockerapi.conftest import Api

pytestmark = pytest.mark.usefixtures("web", "image")
_TO_FUSE = {"PathOnHost": "/dev/fuse", "PathInContainer": "/dev/fuse", "CgroupPermissions": "rw"}
_WHO = "(an operator of the platform can allow it)"
_OWN = json.dumps({"defaultAction": "SCMP_ACT_ALLOW"})


def port(**words: str) -> dict[str, Any]:
    return {"PortBindings": {"80/tcp": [words]}}


# HostConfig, what is refused of it by which rule, what allows it, and what the host is then asked for
ITEMS: list[tuple[dict[str, Any], str, str, dict[str, Any], dict[str, Any]]] = [
    ({"Privileged": True}, "privileged containers are", "privileged", {"privileged": True}, {"privileged": True}),
    ({"CapAdd": ["SYS_ADMIN"]}, "capability SYS_ADMIN is", "capabilities", {"capabilities": ["SYS_ADMIN"]}, {"cap_add": ["SYS_ADMIN"]}),
    ({"CapAdd": ["all"]}, "capability ALL is", "capabilities", {"capabilities": ["all"]}, {"cap_add": ["all"]}),
    ({"SecurityOpt": ["seccomp=unconfined"]}, "seccomp=unconfined is", "seccomp", {"seccomp": True}, {"seccomp": "unconfined"}),
    ({"NetworkMode": "host"}, "the host's network is", "host_network", {"host_network": True}, {"network_mode": "host"}),
    ({"Devices": [_TO_FUSE]}, "device /dev/fuse (rw) is", "devices", {"devices": ["/dev/fuse"]}, {}),
    (
        {"DeviceCgroupRules": ["c 10:229 r"]},
        "rules about devices by their numbers, which take devices=all, are",
        "devices",
        {"devices": ["all"]},
        {"device_rules": ["c 10:229 r"]},
    ),
]  # fmt: skip


async def allow(people: Any, **words: Any) -> None:
    people.acme.policy_words = words
    await database.run(people.acme.save)
    access._revoked({}, None)


async def ask(host_config: dict[str, Any]) -> tuple[int, Any]:
    answer = await Api()._ask("POST", "/containers/create", {"Image": "busybox", "HostConfig": host_config}, "acme", 0, {})
    return answer.status, answer.json


def spec_of(host: Any) -> dict[str, Any]:
    found: dict[str, Any] = next(payload["spec"] for task, payload in reversed(host.asked) if task.endswith("container.create"))
    return found


@pytest.mark.parametrize(
    ("asked", "what", "item", "words", "passed"), ITEMS, ids=[f"{each[2]}-{number}" for number, each in enumerate(ITEMS)]
)
async def test_denied_until_it_is_allowed(
    people: Any, host: Any, asked: dict[str, Any], what: str, item: str, words: dict[str, Any], passed: dict[str, Any]
) -> None:
    sentence = f"{what} not allowed in tenant acme: rule policy.{item} {_WHO}"
    assert await ask(asked) == (403, {"message": sentence})
    assert "container.create" not in host.verbs()
    await allow(people, **words)
    status, said = await ask(asked)
    assert status == 201, said
    spec = spec_of(host)
    assert {name: spec[name] for name in passed} == passed


async def test_what_every_container_has_is_nobodys_to_deny(people: Any, host: Any) -> None:
    null = {"PathOnHost": "/dev/null", "PathInContainer": "/dev/nothing", "CgroupPermissions": "rwm"}
    assert (await ask({"CapAdd": ["chown", "CAP_KILL"], "CapDrop": ["ALL"], "Devices": [null]}))[0] == 201
    assert (await ask({"SecurityOpt": [f"seccomp={_OWN}"]}))[0] == 201
    assert not spec_of(host).get("seccomp_alone")  # laid over the platform's
    await allow(people, seccomp=True)
    assert (await ask({"SecurityOpt": [f"seccomp={_OWN}"]}))[0] == 201 and spec_of(host)["seccomp_alone"]


async def test_other_letters_and_other_capabilities_are_not_allowed_with_one(people: Any, host: Any) -> None:
    await allow(people, devices=["/dev/fuse:r"], capabilities=["NET_ADMIN"])
    status, said = await ask({"Devices": [_TO_FUSE]})
    assert status == 403 and said["message"].startswith("device /dev/fuse (rw) is not allowed")
    assert (await ask({"Devices": [{**_TO_FUSE, "CgroupPermissions": "r"}]}))[0] == 201
    status, said = await ask({"CapAdd": ["NET_ADMIN", "SYS_ADMIN", "BPF"]})
    assert status == 403 and said["message"].startswith("capability SYS_ADMIN, BPF is not allowed in tenant acme: rule policy.capabilities")


async def test_addresses_of_the_host(people: Any, host: Any) -> None:
    await allow(people, addresses=["127.0.0.1", "203.0.113.0/24"])
    assert (await ask(port(HostPort="8080")))[0] == 201
    assert spec_of(host)["ports"][0]["host_ip"] == "127.0.0.1"  # "every address" is the first that may be
    assert (await ask(port(HostPort="8080", HostIp="203.0.113.9")))[0] == 201
    for address in ("192.0.2.1", "0.0.0.0", "::"):
        status, said = await ask(port(HostPort="8080", HostIp=address))
        assert status == 403
        assert said["message"] == (
            f"ports published on {address} of the host (allowed: 127.0.0.1, 203.0.113.0/24) are not allowed in tenant acme:"
            f" rule policy.addresses {_WHO}"
        )
    alice = await database.read(people.actor, people.alice)
    view = (await projection.containers(alice))[0]
    with pytest.raises(PermissionDenied, match=r"rule policy\.addresses"):
        await publishing.publish_ports(alice, view.name, {"80/tcp": [{"HostIp": "192.0.2.1", "HostPort": "80"}]})
    await allow(people, addresses=["203.0.113.0/24"])
    assert (await ask(port(HostPort="8080")))[0] == 403  # no single address to choose


async def test_rest_and_the_form_say_the_same(people: Any, host: Any) -> None:
    bob = await client(people, "bob")
    sentence = f"privileged containers are not allowed in tenant acme: rule policy.privileged {_WHO}"
    refused = await create(bob, privileged=True)
    assert refused.status_code == 403
    assert refused.json()["error"] == {"code": "permission_denied", "message": sentence, "detail": {"rule": "policy.privileged"}}
    for field, value, rule in (
        ("privileged", "on", "policy.privileged"),
        ("cap_add", "SYS_ADMIN", "policy.capabilities"),
        ("devices", "/dev/fuse", "policy.devices"),
        ("device_rules", "c 10:229 r", "policy.devices"),
        ("seccomp", "unconfined", "policy.seccomp"),
    ):
        page = await bob.post("/t/acme/containers/run", {"image": "busybox", "network": "bridge", "restart_policy": "no", field: value})
        _before, _mark, error = page.content.decode().partition(f'id="id_{field}_error"')
        assert page.status_code == 403 and f"rule {rule}" in error[:300], field
    await allow(people, privileged=True)
    assert (await create(bob, privileged=True)).status_code == 201


async def test_a_command_is_privileged_where_its_container_is(people: Any, host: Any) -> None:
    await allow(people, privileged=True)
    for name, asked, status in (("plain", {}, 501), ("mighty", {"Privileged": True}, 201)):
        answer = await Api()._ask("POST", f"/containers/create?name={name}", {"Image": "busybox", "HostConfig": asked}, "acme", 0, {})
        assert answer.status == 201
        await Api()._ask("POST", f"/containers/{name}/start", None, "acme", 0, {})
        command = {"Cmd": ["true"], "Privileged": True}
        answer = await Api()._ask("POST", f"/containers/{name}/exec", command, "acme", 0, {})
        assert answer.status == status, answer.body
