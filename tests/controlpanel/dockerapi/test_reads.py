"""Lists and inspects: shapes against dockerd's, every filter, the texts of ``docker ps``."""

from __future__ import annotations

import json
from urllib.parse import quote

import pytest

from controlpanel.dockerapi import listing
from engine.model.container import Status
from tests.controlpanel.dockerapi import golden
from tests.controlpanel.dockerapi.conftest import BUSYBOX, Api, put_container


def filtered(api: Api, **given: list[str]) -> list[str]:
    """Names of the containers, among all, that pass."""
    lines = api("GET", f"/containers/json?all=1&filters={quote(json.dumps(given))}").json
    return sorted(line["Names"][0][1:] for line in lines)


@pytest.fixture
def three(api: Api) -> Api:
    put_container("old", status=Status.EXITED, age_s=300, id="aa" * 32, labels={"tier": "db"})
    put_container("web", age_s=60, id="bb" * 32, labels={"tier": "web", "x": ""}, args=("sh", "-c", "exit 3"))
    put_container("new", status=Status.CREATED, age_s=1, id="cc" * 32, network_mode="none")
    return api


def test_list_has_dockers_members(three: Api) -> None:
    for line in three("GET", "/containers/json?all=1").json:
        network = line["NetworkSettings"]["Networks"]
        network["bridge"] = network.pop(line["HostConfig"]["NetworkMode"])
        line["Labels"] = {}
        assert golden.differences(golden.shape([line]), golden.load("list")) == []


def test_list_shows_the_running_newest_first_or_all_or_some(three: Api) -> None:
    def names(query: str) -> list[str]:
        return [line["Names"][0] for line in three("GET", f"/containers/json?{query}").json]

    assert names("") == ["/web"]
    assert names("all=1") == ["/new", "/web", "/old"]
    assert names("limit=2") == ["/new", "/web"]


def test_list_reads_as_docker_ps(three: Api) -> None:
    new, web, old = three("GET", "/containers/json?all=1").json
    assert (new["Status"], web["Status"], old["Status"]) == ("Created", "Up About a minute", "Exited (3) 5 minutes ago")
    assert web["Command"] == "sh -c 'exit 3'" and web["Image"] == "busybox" and web["ImageID"] == BUSYBOX
    assert web["NetworkSettings"]["Networks"]["bridge"]["IPAddress"] == "10.128.0.2"


@pytest.mark.parametrize(
    ("given", "names"),
    [
        ({"status": ["exited", "created"]}, ["new", "old"]),
        ({"exited": ["3"]}, ["old"]),
        ({"exited": ["0"]}, []),
        ({"name": ["we"]}, ["web"]),
        ({"name": ["^/old$"]}, ["old"]),
        ({"name": ["old|new"]}, ["new", "old"]),
        ({"id": ["bbbb"]}, ["web"]),
        ({"label": ["tier"]}, ["old", "web"]),
        ({"label": ["tier=web", "x"]}, ["web"]),
        ({"ancestor": ["busybox"]}, ["new", "old", "web"]),
        ({"ancestor": ["debian"]}, []),
        ({"since": ["old"]}, ["new", "web"]),
        ({"before": ["web"]}, ["old"]),
        ({"network": ["none"]}, ["new"]),
        ({"health": ["none"]}, ["new", "old", "web"]),
        ({"is-task": ["false"]}, ["new", "old", "web"]),
        ({"volume": ["x"]}, []),
        ({"publish": ["80"]}, []),
        ({"status": ["exited"], "label": ["tier=web"]}, []),
    ],
)
def test_filters(three: Api, given: dict[str, list[str]], names: list[str]) -> None:
    assert filtered(three, **given) == names


@pytest.mark.parametrize(
    "given", [{"status": ["x"]}, {"health": ["x"]}, {"exited": ["x"]}, {"name": ["("]}, {"name": ["(a+)+$"]}, {"bogus": ["x"]}]
)
def test_wrong_filters_are_the_clients_mistake(three: Api, given: dict[str, list[str]]) -> None:
    assert three("GET", f"/containers/json?filters={quote(json.dumps(given))}").status == 400


def test_filter_by_a_container_that_is_not_there_is_404(three: Api) -> None:
    assert three("GET", f"/containers/json?filters={quote(json.dumps({'since': ['x']}))}").status == 404


@pytest.mark.parametrize(("name", "file"), [("web", "inspect-running"), ("old", "inspect-exited"), ("new", "inspect-created")])
def test_inspect_has_dockers_members(three: Api, name: str, file: str) -> None:
    shown = three("GET", f"/containers/{name}/json").json
    networks = shown["NetworkSettings"]["Networks"]
    networks["bridge"] = networks.pop(shown["HostConfig"]["NetworkMode"])
    told = golden.differences(golden.shape(shown), golden.load(file))
    assert [line for line in told if not line.startswith((".GraphDriver.Data", ".Config.Labels"))] == []


def test_inspect_follows_the_container(three: Api) -> None:
    web = three("GET", "/containers/web/json").json
    assert web["State"]["Running"] and web["State"]["Pid"] == 4711 and web["NetworkSettings"]["IPAddress"] == "10.128.0.2"
    assert (web["Path"], web["Args"], web["Config"]["Hostname"]) == ("sh", ["-c", "exit 3"], "bb" * 6)
    old = three("GET", "/containers/old/json").json
    assert old["State"]["ExitCode"] == 3 and old["State"]["FinishedAt"] != "0001-01-01T00:00:00Z"
    assert old["NetworkSettings"]["IPAddress"] == ""


def test_prefix_that_means_two_is_refused(api: Api) -> None:
    put_container("a", id="ab" + "1" * 62)
    put_container("b", id="ab" + "2" * 62)
    assert api("GET", "/containers/ab/json").status == 400
    assert api("GET", "/containers/ab1/json").json["Name"] == "/a"


def test_images_have_dockers_members(api: Api) -> None:
    assert golden.differences(golden.shape(api("GET", "/images/json").json), golden.load("images")) == []
    told = golden.differences(golden.shape(api("GET", "/images/busybox/json").json), golden.load("image"))
    assert [line for line in told if not line.startswith(".GraphDriver.Data")] == []
    assert golden.differences(golden.shape(api("GET", "/images/busybox/history").json), golden.load("history")) == []


def test_image_filters(api: Api) -> None:
    def found(**given: list[str]) -> int:
        return len(api("GET", f"/images/json?filters={quote(json.dumps(given))}").json)

    assert found(reference=["busy*"]) == found(reference=["busybox:latest"]) == found(dangling=["false"]) == 1
    assert found(reference=["debian"]) == found(dangling=["true"]) == found(label=["x"]) == 0


def test_networks_are_the_tenants_bridge_and_none(api: Api) -> None:
    member = put_container("web")
    shown = api("GET", "/networks").json
    told = golden.differences(golden.shape(shown), golden.load("networks"))
    assert [line for line in told if not line.startswith("[].Options.com.docker.network")] == []
    bridge = api("GET", f"/networks/{shown[0]['Id'][:12]}").json
    assert bridge["Containers"][member]["IPv4Address"] == "10.128.0.2/20"
    assert api("GET", "/networks/bridge", tenant="other").json["Id"] != bridge["Id"]


def test_disk_usage_has_dockers_members(three: Api) -> None:
    told = golden.differences(golden.shape(three("GET", "/system/df").json), golden.load("df"))
    assert [line for line in told if ".Containers[].SizeRootFs" not in line and ".NetworkSettings.Networks" not in line] == []


def test_command_quotes_what_has_spaces() -> None:
    assert listing.command(("sh", "-c", "a b", "c")) == "sh -c 'a b' c"


def test_statistics_of_a_host_that_is_away_are_refused_by_status(api: Api) -> None:
    put_container("web")
    assert api("GET", "/containers/web/stats").status == 503
