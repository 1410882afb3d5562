"""The parts among themselves: tickets, messages and Redis users, forged by who has broken into the panel or stands beside it."""

from __future__ import annotations

import base64
import json
import pickle
import secrets
import socket
import subprocess
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import kombu.serialization

from tests.attack.attempt import Who, attempt
from tests.attack.ground import Ground
from workers import contract, tickets
from workers.envelope import envelope
from workers.platform.places import Places
from workers.resp import Address, Redis, RedisError

_ASK = """import socket, sys
s = socket.socket(socket.AF_UNIX); s.settimeout(10); s.connect(sys.argv[1])
s.sendall(sys.argv[2].encode() + b"\\n"); print(s.makefile().readline())"""


def _asked(ground: Ground, ticket: str, user: str = "slipway", op: str = "spec") -> str:
    """The agent's answer about alice's container, to a process of that user."""
    question = json.dumps({"v": 1, "op": op, "tenant": "alice", "id": ground.box, "ticket": ticket})
    words = ["/usr/bin/python3", "-I", "-c", _ASK, str(ground.platform.run / "agent.sock"), question]
    group = {"slipway": "slipway", "nobody": "nogroup"}[user]
    done = subprocess.run(words, user=user, group=group, extra_groups=[], capture_output=True, text=True, check=False)
    return "alice's container" if '"ok"' in done.stdout else ""


def _signed(
    ground: Ground, *, key: bytes | None = None, tenant: str = "alice", number: str = "", op: str = "spec", now: float | None = None
) -> str:
    return tickets.sign(key or tickets.read_key(ground.platform.data), op, tenant, number or ground.box, now=now)


@attempt("d", Who.WEB, "the signature of a ticket", quick=True)
def ticket_of_another_key(ground: Ground, walled: bool) -> str:
    """a ticket for alice's container, signed with a key of one's own"""
    return _asked(ground, _signed(ground, key=b"k" * 64 if walled else None))


@attempt("d", Who.WEB, "that a ticket is for one object", quick=True)
def ticket_of_another_object(ground: Ground, walled: bool) -> str:
    """a true ticket for one's own container, shown for alice's"""
    return _asked(ground, _signed(ground, tenant="mallory", number=ground.cage) if walled else _signed(ground))


@attempt("d", Who.WEB, "that a ticket is for one act", quick=True)
def ticket_of_another_act(ground: Ground, walled: bool) -> str:
    """a true ticket to read alice's log, shown to read her spec"""
    return _asked(ground, _signed(ground, op="logs" if walled else "spec"))


@attempt("d", Who.WEB, "that a ticket ends", quick=True)
def ticket_of_yesterday(ground: Ground, walled: bool) -> str:
    """a true ticket, a day later"""
    return _asked(ground, _signed(ground, now=time.time() - 86400 if walled else None))


@attempt("d", Who.PERSON, "the permissions of agent.sock", quick=True)
def agent_without_being_the_panel(ground: Ground, walled: bool) -> str:
    """a true ticket, in the hand of another user of the host"""
    return _asked(ground, _signed(ground), "nobody" if walled else "slipway")


@attempt("d", Who.PERSON, "the tenant's members", quick=True)
def socket_of_a_tenant(ground: Ground, walled: bool) -> str:
    """alice's docker.sock, by a user of the host who is no member (the control is linked to one)"""
    script = ("import socket,sys\ns=socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])\n"
              "s.sendall(b'GET /v1.47/containers/json HTTP/1.0\\r\\nHost: x\\r\\n\\r\\n')\nprint(s.makefile().read())")  # fmt: skip
    _, uid = ground.box, 54321
    if not walled:
        ground.platform.manage("user", "create", "linked", "--uid", str(uid), check=False)
        ground.platform.manage("member", "add", "alice", "linked", "--role", "viewer")
    words = ["/usr/bin/python3", "-c", script, str(ground.platform.socket("alice"))]
    done = subprocess.run(words, user=uid, group=uid, extra_groups=[], capture_output=True, text=True, check=False)
    return "alice's containers" if ground.mark in done.stdout else ""


def _redis(ground: Ground, user: str) -> Redis:
    return Redis(Address.parse(Places.from_environment(ground.platform.environment).redis_url(user)))


@attempt("d", Who.PERSON, "the password of Redis", quick=True)
def redis_without_a_name(ground: Ground, walled: bool) -> str:
    """PING of Redis by who reached its socket and has no password"""
    try:
        if not walled:
            return str(_redis(ground, "panel").execute(("PING",)))
        return str(Redis(Address(path=str(ground.platform.run / "redis.sock"))).execute(("PING",)))
    except RedisError:
        return ""


@attempt("d", Who.CONTAINER, "the rights of Redis' user for hosts", quick=True, name="redis-as-a-host",
         what="what browsers said to the panel, read by who has broken into a host's worker")  # fmt: skip
def redis_as_a_host(ground: Ground, walled: bool) -> str:
    key = f"slipway.channels:{ground.mark}"
    panel = _redis(ground, "panel")
    panel.execute(("SET", key, ground.mark))
    try:
        return str((_redis(ground, "host") if walled else panel).execute(("GET", key)))
    except RedisError:
        return ""
    finally:
        panel.execute(("DEL", key))


@attempt("d", Who.WEB, "the rights of Redis' user for the panel", quick=True)
def redis_to_be_administered(ground: Ground, walled: bool) -> str:
    """CONFIG GET by the panel's user, which would be to write files as Redis"""
    try:
        return str(_redis(ground, "panel" if walled else "admin").execute(("CONFIG", "GET", "dir")))
    except RedisError:
        return ""


def _sent(ground: Ground, task: str, payload: dict[str, Any]) -> dict[str, Any]:
    """The host's answer to a message of one's own making, sent with the panel's rights."""
    redis, operation, reply = _redis(ground, "panel"), secrets.token_hex(16), f"reply.{secrets.token_hex(16)}"
    words = {"operation": operation, "reply_to": reply, "payload": payload, "expires_at": 0}
    redis.execute(("LPUSH", "host.local", envelope("host.local", task, words, task_id=operation, key=operation)))
    found = None
    deadline = time.monotonic() + 30
    while found is None and time.monotonic() < deadline:
        found = redis.execute(("RPOP", reply))
        found = found[0] if isinstance(found, list) else found
        time.sleep(0.02)
    assert found is not None, "the host did not answer"
    return dict(json.loads(found))


@attempt("e", Who.WEB, "that the host looks up whose an object is", quick=True)
def message_for_anothers_container(ground: Ground, walled: bool) -> str:
    """a message that pauses alice's container in mallory's name"""
    _ = ground.cage
    words = {"tenant": "mallory" if walled else "alice", "id": ground.box}
    answer = _sent(ground, "slipway.container.pause", words)
    _sent(ground, "slipway.container.unpause", {"tenant": "alice", "id": ground.box})
    return "it was paused" if "ok" in answer else ""


@attempt("e", Who.WEB, "that the host checks names before they become paths (the control's is a name)", quick=True)
def message_with_a_path_for_a_volume(ground: Ground, walled: bool) -> str:
    """a message that makes a volume ../../../planted"""
    _ = ground.cage
    name = f"../../../{ground.mark}" if walled else f"made-{ground.mark}"
    answer = _sent(ground, contract.CREATE_VOLUME, {"volume": {"tenant": "mallory", "name": name}})
    if "ok" not in answer:
        return ""
    _sent(ground, contract.REMOVE_VOLUME, {"volume": answer["ok"]["volume"]})
    return f"{name} was made"


@attempt("e", Who.WEB, "that the host checks ids before they become paths (the control's is an id)", quick=True)
def message_with_a_path_for_an_id(ground: Ground, walled: bool) -> str:
    """a message about the container ../../tenants/alice"""
    _ = ground.cage
    number = "../../containers/" + ground.box if walled else ground.box
    answer = _sent(ground, "slipway.container.kill", {"tenant": "alice", "id": number, "signal": 0})
    return "it was found" if "ok" in answer else ""


@attempt("b", Who.WEB, "root's ceiling, which the host reads itself (the control's device is not asked for)", quick=True)
def message_that_asks_for_a_device(ground: Ground, walled: bool) -> str:
    """a message that makes a container with the host's disk, past every check of the panel's"""
    spec = json.loads((ground.engine.config.container(ground.cage) / "spec.json").read_text())
    spec = spec.get("spec", spec)
    device = {"path_on_host": "/dev/kmsg", "path_in_container": "/dev/kmsg", "access": "rwm"}
    number = secrets.token_hex(32)
    asked = {**spec, "id": number, "name": f"forged-{number[:6]}", **({"devices": [device]} if walled else {})}
    answer = _sent(ground, contract.CREATE_CONTAINER, {"spec": asked})
    if "ok" not in answer:
        return ""
    _sent(ground, contract.REMOVE_CONTAINER, {"tenant": "mallory", "id": number, "force": True, "volumes": False})
    return "it was made"


class _Trap:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@attempt("b", Who.WEB, "that workers take JSON alone", quick=True)
def message_that_is_a_pickle(ground: Ground, walled: bool) -> str:
    """a Celery message of pickled Python, which runs where it is read: on the host, as root"""
    path = ground.folder / f"pickled-{walled}"
    data = pickle.dumps(([], {"x": _Trap(path)}, {}), protocol=2)
    kind = "application/x-python-serialize"
    if not walled:
        kombu.serialization.loads(data, kind, "binary", accept={kind})
        return "it ran" if path.exists() else ""
    message = json.loads(envelope("host.local", contract.PING, {}, task_id=secrets.token_hex(16), key="x"))
    message |= {"content-type": kind, "content-encoding": "binary", "body": base64.b64encode(data).decode()}
    redis = _redis(ground, "panel")
    redis.execute(("LPUSH", "host.local", json.dumps(message)))
    _sent(ground, contract.PING, {})  # the queue goes on
    return "it ran" if path.exists() else ""


@attempt("d", Who.CONTAINER, "the network namespace", quick=True)
def panel_from_a_container(ground: Ground, walled: bool) -> str:
    """the panel's own port, on loopback, on the gateway and on every address of the host"""
    host, _colon, port = ground.platform.http.partition(":")
    gateway = ground.mallory.say("inspect", "-f", "{{.NetworkSettings.Gateway}}", ground.cage)
    addresses = [host, gateway, *(each for each in _own_addresses())] if walled else [host]
    for address in addresses:
        found = ground.probe(walled, "reach", address, port, without=("net",))
        if found:
            return found
    return ""


def _own_addresses() -> list[str]:
    said = subprocess.run(["ip", "-4", "-j", "address"], capture_output=True, text=True, check=True).stdout
    return [each["local"] for link in json.loads(said) for each in link["addr_info"] if not each["local"].startswith("127.")][:3]


@attempt("d", Who.CONTAINER, "the networks of tenants (the control asks from alice's)", quick=True)
def web_server_of_another_tenant(ground: Ground, walled: bool) -> str:
    """another tenant's container by its address, from inside a container of the platform's"""
    _ = ground.box
    return ground.probe(walled, "reach", ground.address, 8080, without=("net=alice",), ids=True)


@attempt("d", Who.USER, "the reach of pulls (the control's address is one that the operator allows)", quick=True)
def pull_from_a_service_of_the_host(ground: Ground, walled: bool) -> str:
    """docker pull of an image on a loopback address of the host: does anybody connect?"""
    _ = ground.cage
    with socket.create_server(("127.0.0.9" if walled else "127.0.0.1", 0)) as server:
        server.settimeout(0.5)
        heard: list[bool] = []

        def hear() -> None:
            while not over.is_set():
                with suppress(TimeoutError), server.accept()[0] as client:
                    heard.append(True)
                    client.sendall(b"HTTP/1.0 404 Not Found\r\n\r\n")

        over = threading.Event()
        thread = threading.Thread(target=hear)
        thread.start()
        try:
            host, port = server.getsockname()
            ground.mallory.ask("POST", f"/images/create?fromImage={host}:{port}/x&tag=1")
        finally:
            over.set()
            thread.join()
    return "a connection" if heard else ""
