"""exec over rows: what is written, told, refused and forgotten. What needs a host is in tests/conformance."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest

from controlpanel.accounts.models import User
from controlpanel.audit.models import Record
from controlpanel.base import database
from controlpanel.containers import projection as containers
from controlpanel.containers.models import Container
from controlpanel.events.models import Event
from controlpanel.execs import projection, rows, services
from controlpanel.execs.models import Exec
from controlpanel.tenants.actor import Role
from controlpanel.tenants.models import Membership, Tenant
from engine.model.container import Status
from engine.model.execution import ExecState
from tests.controlpanel.dockerapi.conftest import Api, put_container


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    projection.clear()
    yield
    projection.clear()


def create(api: Api, name: str = "web", **words: Any) -> Any:
    return api("POST", f"/containers/{name}/exec", body={"Cmd": ["sh", "-c", "exit 3"], **words})


def ended(api: Api, exec_id: str, container_id: str, exit_code: int = 3, tenant: str = "demo") -> bool:
    state = ExecState(
        id=exec_id, container_id=container_id, run=1, pid=4712, running=False, exit_code=exit_code, finished_at_ns=time.time_ns()
    )
    return bool(api.runner.run(database.run(rows.exited, tenant, state)))


def test_what_is_created_is_shown_as_it_was_asked_for_and_told(api: Api) -> None:
    container_id = put_container("web")
    words = {"User": "1000:50", "Tty": True, "AttachStdin": True, "AttachStdout": True, "DetachKeys": "ctrl-a,x", "Env": ["A=b"]}
    answer = create(api, **words)
    assert answer.status == 201
    exec_id = answer.json["Id"]
    assert api("GET", f"/exec/{exec_id}/json").json == {
        "ID": exec_id,
        "Running": False,
        "ExitCode": None,
        "ProcessConfig": {"tty": True, "entrypoint": "sh", "arguments": ["-c", "exit 3"], "privileged": False, "user": "1000:50"},
        "OpenStdin": True,
        "OpenStderr": False,
        "OpenStdout": True,
        "CanRemove": False,
        "ContainerID": container_id,
        "DetachKeys": "AXg=",
        "Pid": 0,
    }
    assert api("GET", "/containers/web/json").json["ExecIDs"] == [exec_id]
    event = Event.everywhere.get()
    assert (event.action, event.actor_id, event.attributes["execID"]) == ("exec_create: sh -c exit 3", container_id, exec_id)
    record = Record.objects.get()
    assert (record.verb, record.object) == ("container.exec", "web")
    assert record.detail == {"exec": exec_id, "command": "sh -c exit 3", "user": "1000:50"}


def test_its_end_is_applied_once_and_only_of_its_own_container(api: Api) -> None:
    container_id = put_container("web")
    other_id = put_container("theirs", tenant="other")
    exec_id = create(api).json["Id"]
    assert not ended(api, exec_id, other_id)
    assert not ended(api, exec_id, container_id, tenant="other")
    assert not ended(api, "ab" * 32, container_id)
    assert ended(api, exec_id, container_id)
    assert not ended(api, exec_id, container_id, exit_code=9)
    projection.clear()
    shown = api("GET", f"/exec/{exec_id}/json").json
    assert (shown["Running"], shown["ExitCode"], shown["Pid"]) == (False, 3, 4712)
    assert api("GET", "/containers/web/json").json["ExecIDs"] is None
    die = Event.everywhere.get(action="exec_die")
    assert (die.attributes["exitCode"], die.attributes["execID"]) == ("3", exec_id)
    again = api("POST", f"/exec/{exec_id}/start", body={})
    assert (again.status, again.message) == (409, f"exec command {exec_id} has already run")


def test_a_stranger_and_a_removed_container_have_none(api: Api) -> None:
    put_container("web")
    exec_id = create(api).json["Id"]
    wanted = (404, f"No such exec instance: {exec_id}")
    for method, verb in (("GET", "json"), ("POST", "start"), ("POST", "resize?h=1&w=1")):
        answer = api(method, f"/exec/{exec_id}/{verb}", tenant="other", body={} if method == "POST" else None)
        assert (answer.status, answer.message) == wanted
    assert api("POST", "/containers/web/exec", tenant="other", body={"Cmd": ["true"]}).status == 404
    Container.everywhere.all().delete()
    containers.clear()
    assert (api("GET", f"/exec/{exec_id}/json").status, api("POST", f"/exec/{exec_id}/start").status) == (404, 404)


def test_only_who_may_run_commands_may(api: Api) -> None:
    put_container("web")
    tenant = Tenant.objects.get(name="demo")
    for uid, role in ((4242, Role.OPERATOR), (4243, Role.DEVELOPER)):
        Membership.everywhere.create(tenant=tenant, user=User.objects.create(username=f"u{uid}", uid=uid), role=role.value)
    refused = api("POST", "/containers/web/exec", body={"Cmd": ["true"]}, uid=4242)
    assert refused.status == 403 and "container.exec" in refused.message
    exec_id = api("POST", "/containers/web/exec", body={"Cmd": ["true"]}, uid=4243).json["Id"]
    assert api("POST", f"/exec/{exec_id}/start", body={}, uid=4242).status == 403
    assert api("GET", f"/exec/{exec_id}/json", uid=4242).status == 200


@pytest.mark.parametrize(
    ("status", "sentence"),
    [
        (Status.EXITED, "container {id} is not running"),
        (Status.CREATED, "container {id} is not running"),
        (Status.PAUSED, "Container web is paused, unpause the container before exec"),
        (Status.RESTARTING, "Container {id} is restarting, wait until the container is running"),
    ],
)
def test_a_container_that_does_not_run_runs_nothing(api: Api, status: Status, sentence: str) -> None:
    container_id = put_container("web", status=status)
    answer = create(api)
    assert (answer.status, answer.message) == (409, sentence.format(id=container_id))


@pytest.mark.parametrize(
    ("body", "status", "sentence"),
    [
        (b"", 400, "No exec command specified"),
        ({"Cmd": []}, 400, "No exec command specified"),
        ({"Cmd": None}, 400, "No exec command specified"),
        ({"Cmd": 7}, 400, "invalid JSON: json: cannot unmarshal number into Go struct field ExecOptions.Cmd of type []string"),
        (
            {"Cmd": ["true"], "Tty": "yes"},
            400,
            "invalid JSON: json: cannot unmarshal string into Go struct field ExecOptions.Tty of type bool",
        ),
        ({"Cmd": ["true"], "DetachKeys": "nonsense"}, 400, "Invalid escape keys (nonsense) provided"),
        ({"Cmd": ["true"], "Privileged": True}, 501, "privileged is not supported: a command has the capabilities of its container"),
        (b"{", 400, "invalid JSON: unexpected EOF"),
    ],
)
def test_bad_words_are_refused(api: Api, body: Any, status: int, sentence: str) -> None:
    put_container("web")
    answer = api("POST", "/containers/web/exec", body=body)
    assert (answer.status, answer.message) == (status, sentence)
    assert not Exec.everywhere.exists()


def test_rows_go_with_their_containers_and_with_time(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    container_id = put_container("web")
    running, done = create(api).json["Id"], create(api).json["Id"]
    ended(api, done, container_id)
    monkeypatch.setattr(rows, "ENDED_KEPT_S", -1.0)
    rows.tidy()
    assert [row.exec_id for row in Exec.everywhere.all()] == [running], "what has not ended stays"
    Exec.everywhere.update(started=True)
    Container.everywhere.update(status=Status.EXITED.value)
    rows.tidy()
    assert not Exec.everywhere.exists(), "it ended with its container, though nobody saw it"


def test_a_container_takes_only_so_many(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    put_container("web")
    monkeypatch.setattr(services, "ACTIVE_MAX", 2)
    create(api), create(api)
    projection.clear()
    answer = create(api)
    assert answer.status >= 400 and "2 commands that run or were never started" in answer.message
