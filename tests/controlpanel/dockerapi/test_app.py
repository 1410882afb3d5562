"""Versions, doors, headers, errors, and what is absent."""

from __future__ import annotations

from typing import Any

import pytest

from controlpanel.accounts.models import User
from controlpanel.dockerapi.app import is_docker
from controlpanel.dockerapi.buildkit import SENTENCE as BUILDKIT
from controlpanel.tenants import credentials
from controlpanel.tenants.actor import Role, command_line
from controlpanel.tenants.models import Membership, Tenant
from tests.controlpanel.dockerapi import golden
from tests.controlpanel.dockerapi.conftest import Api, put_container

NO_SWARM = 'This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm and try again.'


def test_ping_needs_no_permission_and_names_the_version(api: Api) -> None:
    for method in ("GET", "HEAD"):
        answer = api(method, "/_ping", uid=None)
        assert answer.status == 200 and answer.body == (b"OK" if method == "GET" else b"")
        assert answer.headers["api-version"] == "1.51" and answer.headers["ostype"] == "linux"
        assert answer.headers["server"].startswith("Docker/") and answer.headers["cache-control"].startswith("no-cache")


@pytest.mark.parametrize("path", ["/version", "/v1.51/version", "/v1.24/version"])
def test_versions_in_range_are_served(api: Api, path: str) -> None:
    assert api("GET", path).json["ApiVersion"] == "1.51"


def test_versions_out_of_range_are_told_the_range(api: Api) -> None:
    assert api("GET", "/v1.52/info").message == "client version 1.52 is too new. Maximum supported API version is 1.51"
    old = api("GET", "/v1.10/info")
    assert old.status == 400 and "too old. Minimum supported API version is 1.24" in old.message


def test_every_answer_has_the_headers(api: Api) -> None:
    for target in ("/v1.51/info", "/v1.51/nowhere", "/v1.99/info", "/containers/none/json"):
        headers = api("GET", target).headers
        assert (
            headers["api-version"] == "1.51" and headers["docker-experimental"] == "false" and headers["content-type"] == "application/json"
        )


@pytest.mark.parametrize(
    ("method", "target", "status", "message"),
    [
        ("GET", "/nowhere", 404, "page not found"),
        ("PUT", "/info", 404, "page not found"),
        ("GET", "/containers/none/json", 404, "No such container: none"),
        ("POST", "/containers/none/start", 404, "No such container: none"),
        ("POST", "/containers/none/pause", 404, "No such container: none"),
        ("POST", "/containers/none/kill", 404, "cannot kill container: none: No such container: none"),
        ("DELETE", "/containers/none", 404, "No such container: none"),
        ("GET", "/images/nope/json", 404, "No such image: nope:latest"),
        ("GET", "/images/Nope/json", 400, "invalid reference format: repository name (library/Nope) must be lowercase"),
        ("GET", "/networks/nope", 404, "network nope not found"),
        ("GET", "/volumes/nope", 404, "get nope: no such volume"),
        ("GET", "/exec/nope/json", 404, "No such exec instance: nope"),
        ("GET", "/plugins/x/json", 404, 'plugin "x" not found'),
        ("GET", "/swarm", 503, NO_SWARM),
        ("GET", "/services/x", 503, NO_SWARM),
        ("GET", "/secrets", 503, NO_SWARM),
        ("POST", "/session", 501, BUILDKIT),
        ("POST", "/build?version=2", 501, BUILDKIT),
        ("POST", "/build?t=UPPER", 400, "invalid reference format: repository name (library/UPPER) must be lowercase"),
        ("POST", "/build?labels=%5B%5D", 400, "error reading labels: it has the wrong type"),
        ("POST", "/build?shmsize=x", 400, 'invalid shmsize: strconv.ParseInt: parsing "x": invalid syntax'),
        ("POST", "/build/cancel", 400, "build ID not provided"),
        ("POST", "/build/cancel?id=nope", 404, "No such build: nope"),
        ("POST", "/images/create", 400, "invalid reference format: fromImage or fromSrc is needed"),
        ("POST", "/images/create?fromImage=Nope&tag=x", 400, "invalid reference format: repository name (library/Nope) must be lowercase"),
        ("GET", "/containers/json?filters=x", 400, "invalid filter"),
        ("GET", "/containers/json?limit=x", 400, 'strconv.Atoi: parsing "x": invalid syntax'),
        ("GET", "/events?since=x", 400, 'strconv.ParseInt: parsing "x": invalid syntax'),
    ],
)
def test_refusals_have_mobys_status_and_sentence(api: Api, method: str, target: str, status: int, message: str) -> None:
    answer = api(method, target)
    assert (answer.status, answer.message) == (status, message)


@pytest.mark.parametrize(("target", "value"), [("/volumes", {"Volumes": [], "Warnings": None}), ("/plugins", []), ("/containers/json", [])])
def test_lists_of_what_is_not_there_are_empty(api: Api, target: str, value: object) -> None:
    assert api("GET", target).json == value


def test_verbs_not_there_yet_are_501_for_a_container_that_is(api: Api) -> None:
    put_container("web")
    for method, verb in (("GET", "checkpoints"), ("POST", "checkpoints")):
        answer = api(method, f"/containers/web/{verb}")
        assert answer.status == 501 and "yet" in answer.message


def test_http_takes_tokens_and_nothing_else(api: Api) -> None:
    owner = User.objects.create(username="alice")
    tenant = Tenant.objects.get(name="demo")
    Membership.everywhere.create(tenant=tenant, user=owner, role=Role.OWNER.value)
    _token, secret = credentials.create_token(command_line(tenant), role=Role.VIEWER)
    assert api("GET", "/info", uid=None).status == 401
    assert api("GET", "/info", uid=None, cookie="slipway_session=abc").status == 401
    assert api("GET", "/info", uid=None, authorization="Bearer wrong").headers["www-authenticate"] == "Bearer"
    assert api("GET", "/info", uid=None, authorization=f"Bearer {secret}").json["Name"] == "demo"
    refused = api("POST", "/containers/create", uid=None, authorization=f"Bearer {secret}", body={"Image": "busybox"})
    assert refused.status == 403 and "container.create" in refused.message


def test_who_asks_too_often_is_told_when_to_come_back(api: Api, settings: Any) -> None:
    settings.RATE_LIMIT = 5
    _token, secret = credentials.create_token(command_line(Tenant.objects.get(name="demo")))
    for _ in range(5):
        assert api("GET", "/version", uid=None, authorization=f"Bearer {secret}").status == 200
    refused = api("GET", "/version", uid=None, authorization=f"Bearer {secret}")
    assert refused.status == 429 and 1 <= int(refused.headers["retry-after"]) <= 12
    assert set(refused.json) == {"message"} and refused.message.startswith("more than 5 requests a minute: wait ")
    for _ in range(10):
        assert api("GET", "/version").status == 200  # root


def test_sockets_take_root_and_linked_members(api: Api) -> None:
    member = User.objects.create(username="bob", uid=4242)
    Membership.everywhere.create(tenant=Tenant.objects.get(name="demo"), user=member, role=Role.DEVELOPER.value)
    assert api("GET", "/info", uid=4242).status == 200
    stranger = api("GET", "/info", uid=4242, tenant="other")
    assert stranger.status == 403 and "not linked to a member" in stranger.message
    assert api("GET", "/_ping", uid=4243).status == 200


def test_another_tenants_container_does_not_exist(api: Api) -> None:
    mine = put_container("web")
    for target in ("web", mine, mine[:12]):
        assert api("GET", f"/containers/{target}/json").status == 200
        for method, verb in (
            ("GET", "/json"),
            ("GET", "/logs?stdout=1"),
            ("POST", "/attach"),
            ("POST", "/start"),
            ("POST", "/wait"),
            ("DELETE", ""),
        ):
            answer = api(method, f"/containers/{target}{verb}", tenant="other")
            assert answer.status == 404 and answer.message == f"No such container: {target}"
    assert api("GET", "/containers/json?all=1", tenant="other").json == []


def test_shared_port_knows_its_paths_from_pages() -> None:
    def asks(path: str, listener: str = "http") -> bool:
        return is_docker({"path": path, "extensions": {"http.hijack": {"listener": listener}}})

    for path in ("/v1.41/info", "/_ping", "/info", "/version", "/containers/json", "/images/a/b/json", "/events"):
        assert asks(path)
    for path in ("/", "/t/demo/", "/admin/", "/api/v1/containers", "/accounts/login/", "/static/x.css", "/v2/", "/metrics"):
        assert not asks(path)
        assert asks(path, "tenant-demo")


def test_info_and_version_have_dockers_members(api: Api) -> None:
    assert golden.differences(golden.shape(api("GET", "/version").json), golden.load("version")) == []
    # those of containerd and of cgroup v1 alone, and our runtimes' own folder
    told = golden.differences(golden.shape(api("GET", "/info").json), golden.load("info"))
    allowed = (".KernelMemoryTCP", ".Containerd ", ".Runtimes", ".RegistryConfig.IndexConfigs")
    assert [line for line in told if not line.startswith(allowed)] == []
