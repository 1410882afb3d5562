"""A user with full rights in another tenant, by every door: what is there, what it is called, how many, and how long an answer takes."""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Callable

from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.attack.attempt import Impossible, Nothing, Who, attempt
from tests.attack.ground import API, IMAGE, Answer, Ground, Tenant
from tests.engine.builds.building import context
from tests.engine.images.archives import docker_archive, file, tar
from tests.engine.registries import toy as toys
from tests.support import machine, raw

SCOPE = "that who asks is looked up, and only what is his (the control asks as alice)"
Ask = tuple[str, str, object]


def _known(who: Tenant, asks: list[Ask], theirs: str, nobodys: str) -> str:
    """The first question that is answered otherwise for what alice has than for what nobody has."""
    for method, route, body in asks:
        answers: list[Answer] = []
        for name in (theirs, nobodys):
            filled = json.loads(json.dumps(body).replace("@@", name)) if body is not None else None
            status, said = who.ask(method, route.format(name), filled)
            answers.append((status, said.replace(name.encode(), b"?")))
        if answers[0] != answers[1]:
            return f"{method} {route}: {answers[0][0]} for what is there, {answers[1][0]} for what is not"
    return ""


def _object(name: str, what: str, asks: list[Ask], names: Callable[[Ground], list[tuple[str, str]]]) -> None:
    """``names``: each way to call what alice has, and a name of the same form that nobody has."""

    def act(ground: Ground, walled: bool) -> str:
        who = ground.mallory if walled else ground.alice
        return next(filter(None, (_known(who, asks, theirs, nobodys) for theirs, nobodys in names(ground))), "")

    attempt("a", Who.USER, SCOPE, quick=True, name=name, what=what)(act)


def _names(name: Callable[[Ground], str], number: Callable[[Ground], str] | None = None) -> Callable[[Ground], list[tuple[str, str]]]:
    def found(ground: Ground) -> list[tuple[str, str]]:
        called = name(ground)
        pairs = [(called, f"{called[:-4]}none")]
        if number is not None:
            full = number(ground)
            bare = full.rpartition(":")[2]
            pairs += [(full, full[: -len(bare)] + secrets.token_hex(32)), (bare[:12], secrets.token_hex(6))]
        return pairs

    return found


_of_box = _names(lambda g: f"box-{g.mark}" if g.box else "", lambda g: g.box)
_of_image = _names(
    lambda g: f"image-{g.mark}" if g.box else "", lambda g: g.alice.say("image", "inspect", "-f", "{{.Id}}", f"image-{g.mark}")
)
_of_volume = _names(lambda g: f"volume-{g.mark}" if g.box else "")
_of_net = _names(lambda g: f"net-{g.mark}" if g.box else "", lambda g: g.alice.say("network", "inspect", "-f", "{{.Id}}", f"net-{g.mark}"))

_object("container-by-name-and-id", "inspect, logs, stats, top, changes, files of another tenant's container", [
    ("GET", "/containers/{}/json", None), ("GET", "/containers/{}/logs?stdout=1", None), ("GET", "/containers/{}/stats?stream=0", None),
    ("GET", "/containers/{}/top", None), ("GET", "/containers/{}/changes", None), ("HEAD", "/containers/{}/archive?path=/", None),
], _of_box)  # fmt: skip
_object("container-to-be-changed", "start, update, resize of and an exec in another tenant's container", [
    ("POST", "/containers/{}/start", {}), ("POST", "/containers/{}/update", {}), ("POST", "/containers/{}/resize?h=1&w=1", {}),
    ("POST", "/containers/{}/exec", {"Cmd": ["true"]}),
], _of_box)  # fmt: skip
_object("container-to-be-used", "its network, volumes, pid namespace or files for a container of one's own", [
    ("POST", "/containers/create", {"Image": IMAGE, "Cmd": ["true"], "HostConfig": {"NetworkMode": "container:@@"}}),
    ("POST", "/containers/create", {"Image": IMAGE, "Cmd": ["true"], "HostConfig": {"PidMode": "container:@@"}}),
    ("POST", "/containers/create", {"Image": IMAGE, "Cmd": ["true"], "HostConfig": {"VolumesFrom": ["@@"]}}),
    ("POST", "/commit?container={}", {}),
], _of_box)  # fmt: skip
_object("image-by-name-and-digest", "inspect, history, save, tag and use of another tenant's image", [
    ("GET", "/images/{}/json", None), ("GET", "/images/{}/history", None), ("POST", "/images/{}/tag?repo=mine", None),
    ("GET", "/images/{}/get", None), ("POST", "/containers/create", {"Image": "@@", "Cmd": ["/x"]}),
], _of_image)  # fmt: skip
_object("volume-by-name", "inspect of another tenant's volume", [("GET", "/volumes/{}", None)], _of_volume)
_object("network-by-name-and-id", "inspect of and connect to another tenant's network, and a container in it", [
    ("GET", "/networks/{}", None), ("POST", "/networks/{}/connect", {"Container": "nosuch"}),
    ("POST", "/containers/create", {"Image": IMAGE, "Cmd": ["true"], "HostConfig": {"NetworkMode": "@@"}}),
], _of_net)  # fmt: skip


@attempt("a", Who.USER, SCOPE, quick=True)
def exec_by_id(ground: Ground, walled: bool) -> str:
    """another tenant's command, by the id of its exec"""
    made = json.loads(ground.alice.ask("POST", f"/containers/{ground.box}/exec", {"Cmd": ["true"]})[1])["Id"]
    asks: list[Ask] = [("GET", "/exec/{}/json", None), ("POST", "/exec/{}/resize?h=1&w=1", {})]
    return _known(ground.mallory if walled else ground.alice, asks, made, secrets.token_hex(32))


@attempt("a", Who.USER, SCOPE, quick=True)
def volume_of_the_same_name(ground: Ground, walled: bool) -> str:
    """a volume of the name that another tenant's has, mounted: is that one in it?"""
    _ = ground.box
    who = ground.mallory if walled else ground.alice
    done = who.docker("run", "--rm", "-v", f"volume-{ground.mark}:/v", IMAGE, "ls", "/v", check=False)
    return f"its file {ground.mark}" if ground.mark in done.stdout else ""


def _lists(who: Tenant) -> str:
    routes = ("/containers/json?all=1&size=1", "/images/json?all=1", "/volumes", "/networks", "/system/df", "/info")
    return "\n".join(re.sub(r'"SystemTime":"[^"]*"|"(NFd|NGoroutines)":\d+', "", who.ask("GET", route)[1].decode()) for route in routes)


@attempt("a", Who.USER, SCOPE, quick=True)
def lists_and_counts(ground: Ground, walled: bool) -> str:
    """containers, images, volumes, networks, disk and info before and after another tenant made some"""
    who = ground.mallory if walled else ground.alice
    _, before = ground.box, _lists(who)
    ground.alice.docker("volume", "create", f"more-{ground.mark}")
    made = ground.alice.say("create", IMAGE, "true")
    try:
        after = _lists(who)
        counts = [re.findall(r'"(?:Containers\w*|Images)":\d+', text) for text in (before, after)]
        if f"more-{ground.mark}" in after or made in after:
            return "another tenant's things are listed"
        return "counts changed with another tenant's" if counts[0] != counts[1] else ""
    finally:
        ground.alice.docker("rm", made)
        ground.alice.docker("volume", "rm", f"more-{ground.mark}")


@attempt("a", Who.USER, SCOPE, quick=True)
def events_of_others(ground: Ground, walled: bool) -> str:
    """/events while another tenant starts, execs and ends containers"""
    _, began = ground.box, int(time.time())
    ground.alice.docker("run", "--rm", "--name", f"brief-{ground.mark}", IMAGE, "true")
    until = int(time.time()) + 1
    status, said = (ground.mallory if walled else ground.alice).ask("GET", f"/events?since={began}&until={until}")
    return f"an event of brief-{ground.mark}" if status == 200 and f"brief-{ground.mark}".encode() in said else ""


@attempt("a", Who.USER, SCOPE, quick=True)
def error_texts_that_name_others(ground: Ground, walled: bool) -> str:
    """conflicts of names, ports and subnets: does the sentence say who has it?"""
    who = ground.mallory if walled else ground.alice
    subnet = ground.alice.json(f"/networks/net-{ground.mark}")["IPAM"]["Config"][0]["Subnet"] if ground.box else ""
    holder = ground.alice.say("run", "-d", "-p", "127.0.0.1::8080", IMAGE, "sleep", "1000")
    port = ground.alice.say("port", holder, "8080").rpartition(":")[2]
    said, bindings = [], {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": port}]}
    for target, body in (
        (f"/containers/create?name=box-{ground.mark}", {"Image": IMAGE, "Cmd": ["true"]}),
        ("/networks/create", {"Name": "taken", "IPAM": {"Config": [{"Subnet": subnet}]}}),
        ("/containers/create?name=taker", {"Image": IMAGE, "Cmd": ["true"], "HostConfig": {"PortBindings": bindings}}),
        ("/containers/taker/start", None),
    ):  # fmt: skip
        status, text = who.ask("POST", target, body)
        if status >= 400:
            said.append(text.decode().replace(f"box-{ground.mark}", "?"))
    ground.alice.docker("rm", "-f", holder)
    who.docker("rm", "-f", "taker", *([f"box-{ground.mark}"] if walled else []), check=False)
    told = [text for text in said if ground.mark in text or ground.box[:12] in text or holder[:12] in text or "alice" in text]
    return told[0] if told else ""


@attempt("a", Who.USER, SCOPE)
def timing_of_not_found(ground: Ground, walled: bool) -> str:
    """is a 404 slower for what another tenant has? 1,500 of each, in turns; to guess right in more than 56 of 100 is a leak"""
    who, there = ground.mallory if walled else ground.alice, ground.box
    times: dict[bool, list[float]] = {True: [], False: []}
    with raw.connection(ground.platform.socket(who.name)) as line:
        for number in range(3000):
            name = there if number % 2 else secrets.token_hex(32)
            began = time.perf_counter()
            line.request("GET", f"{API}/containers/{name}/json")
            line.getresponse().read()
            times[bool(number % 2)].append(time.perf_counter() - began)
    right = _guessed(times[True], times[False])
    if not walled and right <= 0.56 and machine.slowness() > 3:
        raise Impossible("this machine is too busy for a clock to tell anything")
    return f"a guess by time is right in {right:.0%}" if right > 0.56 else Nothing(f"right in {right:.0%}")


def _guessed(some: list[float], others: list[float]) -> float:
    """How often one of each is told apart by which took longer; a half is chance. Mann and Whitney's U.

    Of the faster half of each: what took longest was held up by something else.
    """
    fast = [sorted(each)[: len(each) // 2] for each in (some, others)]
    order = sorted([(each, True) for each in fast[0]] + [(each, False) for each in fast[1]])
    ranks = sum(rank for rank, (_time, is_some) in enumerate(order, 1) if is_some)
    share = (ranks - len(fast[0]) * (len(fast[0]) + 1) / 2) / (len(fast[0]) * len(fast[1]))
    return max(share, 1 - share)


@attempt("a", Who.CONTAINER, "that names are looked up in the asker's networks (the control asks from alice's)", quick=True)
def names_of_others(ground: Ground, walled: bool) -> str:
    """another tenant's container by name, by name and network, by id, and backwards by its address"""
    names = ",".join(
        (f"member-{ground.mark}", f"box-{ground.mark}", f"member-{ground.mark}.net-{ground.mark}", ground.box[:12], ground.address)
    )
    if walled:
        return ground.probe(walled, "lookup", names)
    from tests.attack.image import COMMAND

    done = ground.alice.docker("exec", f"member-{ground.mark}", *COMMAND, "lookup", names, check=False)
    return done.stdout.strip().removeprefix("got: ") if "got:" in done.stdout else ""


# -- REST, pages, websockets ---------------------------------------------------------------------------------


@attempt("a", Who.USER, SCOPE, quick=True)
def every_read_of_rest(ground: Ground, walled: bool) -> str:
    """each GET of the OpenAPI document that names a tenant and nothing more, with a token of another: is one that is there answered
    otherwise than one that never was?"""
    _, who = ground.box, ground.mallory if walled else ground.alice
    document = json.loads(who.rest("GET", "/api/v1/openapi.json")[1])
    paths = [path for path, verbs in document["paths"].items() if "get" in verbs and re.findall(r"{(\w+)}", path) == ["tenant"]]
    assert len(paths) > 8
    for path in paths:
        if path.endswith("/events"):
            continue  # never ends
        answers = [who.rest("GET", path.format(tenant=tenant)) for tenant in ("alice", "alicf")]
        if answers[0][0] < 300 or answers[0][1].replace(b"alice", b"?") != answers[1][1].replace(b"alicf", b"?"):
            return f"GET {path}: {answers[0][0]}"
    return ""


@attempt("a", Who.USER, SCOPE, quick=True)
def every_write_of_rest(ground: Ground, walled: bool) -> str:
    """to make a volume and a container in another tenant with one's own token"""
    _, who = ground.box, ground.mallory if walled else ground.alice
    for where, body in (("volumes", {"name": "planted"}), ("containers", {"image": IMAGE, "name": "planted"})):
        status, _said = who.rest("POST", f"/api/v1/tenants/alice/{where}", body)
        if status != 404:
            ground.alice.docker("rm", "-f", "planted", check=False)
            ground.alice.docker("volume", "rm", "planted", check=False)
            return f"POST {where}: {status}"
    return ""


@attempt("a", Who.USER, SCOPE)
def pages_of_others(ground: Ground, walled: bool) -> str:
    """another tenant's pages, with a session of one's own"""
    _, who = ground.box, ground.mallory if walled else ground.alice
    for path in ("", "containers/", f"containers/{ground.box}", "images/", "volumes/", f"volumes/view/volume-{ground.mark}", "networks/",
                 "builds/", "operations/", "settings/", "settings/members"):  # fmt: skip
        status, said = who.browser.get(f"/t/alice/{path}")
        if status != 404 or ground.mark.encode() in said.replace(path.encode(), b"?"):
            return f"/t/alice/{path}: {status}"
    return ""


def _socket(ground: Ground, who: Tenant, tenant: str, asked: dict[str, object], wait_s: float = 1.0) -> str:
    """What the websocket of that tenant's pages says to who asks."""
    url = f"ws://{ground.platform.http}/ws/t/{tenant}/"
    heard = ""
    try:
        with connect(url, additional_headers={"Cookie": who.browser.cookies}, origin=ground.platform.url) as sock:  # type: ignore[arg-type]
            sock.send(json.dumps(asked))
            until = time.monotonic() + wait_s
            while time.monotonic() < until:
                said = sock.recv(timeout=max(0.01, until - time.monotonic()))
                heard += said if isinstance(said, str) else said.decode(errors="replace")
    except (ConnectionClosed, TimeoutError):
        pass
    return heard


@attempt("a", Who.USER, SCOPE)
def websocket_of_others(ground: Ground, walled: bool) -> str:
    """the websocket of another tenant's pages, with a session of one's own"""
    said = _socket(ground, ground.mallory if walled else ground.alice, "alice", {"watch": "log", "id": ground.box})
    return f"{len(said)} bytes" if said else ""


@attempt("a", Who.USER, SCOPE)
def log_of_others_by_ones_own_websocket(ground: Ground, walled: bool) -> str:
    """the log and figures of another tenant's container, asked for on one's own page"""
    who = ground.mallory if walled else ground.alice
    said = _socket(ground, who, who.name, {"watch": "log", "id": ground.box})
    return "its log" if '"tty"' in said else ""


# -- images and builds ---------------------------------------------------------------------------------------


@attempt("a", Who.AUTHOR, "that a layer is one's own only with its bytes", quick=True)
def layer_by_its_digest(ground: Ground, walled: bool) -> str:
    """an archive that names the digest of another tenant's layer and brings other bytes"""
    secret = tar(file("secret", ground.mark.encode()))
    ground.alice.ask("POST", "/images/load", docker_archive([secret], [f"layers-{ground.mark}:1"]), kind=raw.TAR)
    archive = docker_archive([secret], ["stolen:1"])
    if walled:
        archive = archive.replace(ground.mark.encode(), b"x" * len(ground.mark))
    _status, said = ground.mallory.ask("POST", "/images/load", archive, kind=raw.TAR)
    return "it was loaded" if b"Loaded image" in said else ""


def _build(who: Tenant, dockerfile: str) -> str:
    return who.ask("POST", "/build?rm=1", context(dockerfile, {}).getvalue(), kind=raw.TAR)[1].decode()


@attempt("a", Who.AUTHOR, SCOPE)
def cache_of_others_builds(ground: Ground, walled: bool) -> str:
    """a step that another tenant has built: does it come from a cache?"""
    step = f"FROM busybox\nRUN echo {ground.mark}-cache\n"
    _build(ground.alice, step)
    return "the step was cached" if "Using cache" in _build(ground.mallory if walled else ground.alice, step) else ""


@attempt("a", Who.AUTHOR, "that a secret is the request's that brings it")
def secret_of_anothers_build(ground: Ground, walled: bool) -> str:
    """RUN --mount=type=secret of the id that another tenant's build had"""
    step = "FROM busybox\nRUN --mount=type=secret,id=token cat /run/secrets/token | tr a-z b-za\nRUN echo {}\n"

    def built(who: Tenant, **secret: str) -> str:
        asked = {"text": step.format(secrets.token_hex(4)), "secrets": secret, "no_cache": True}
        status, said = who.rest("POST", f"/api/v1/tenants/{who.name}/builds", asked)
        assert status == 202, said
        where = f"/api/v1/tenants/{who.name}/builds/{json.loads(said)['id']}"
        deadline = time.monotonic() + 60
        while json.loads(who.rest("GET", where)[1])["state"] not in ("done", "failed", "cancelled") and time.monotonic() < deadline:
            time.sleep(0.1)
        return who.rest("GET", f"{where}/log")[1].decode()

    shown = ground.mark.translate(str.maketrans("abcdefghijklmnopqrstuvwxyz", "bcdefghijklmnopqrstuvwxyza"))
    log = built(ground.alice, token=ground.mark)
    if not walled:
        return "the secret" if shown in log else ""
    return "the secret" if shown in built(ground.mallory) else ""


@attempt("a", Who.USER, "that credentials are the request's that brings them")
def credentials_of_anothers_pull(ground: Ground, walled: bool) -> str:
    """a private image of a registry that another tenant has just pulled with a password"""
    import base64

    with toys.running(toys.Toy(password="alice:secret")) as toy:
        toy.image("private", "1", [tar(file("secret", ground.mark.encode()))])
        known = {"username": "alice", "password": "secret", "serveraddress": toy.host}
        head = {"X-Registry-Auth": base64.urlsafe_b64encode(json.dumps(known).encode()).decode()}
        target = f"/images/create?fromImage={toy.host}/private&tag=1"
        _status, said = raw.ask(ground.platform.socket("alice"), "POST", API + target, headers=head)
        assert b"Downloaded" in said or b"Pull complete" in said, said
        _status, said = raw.ask(ground.platform.socket("mallory"), "POST", API + target, headers={} if walled else head)
        return "it was pulled" if b"Downloaded" in said or b"Pull complete" in said else ""


@attempt("a", Who.USER, "the allow-list of a token: its tenant", quick=True)
def token_of_another_tenant(ground: Ground, walled: bool) -> str:
    """Docker's API over HTTP with one's own token, for another tenant's container"""
    who = ground.mallory if walled else ground.alice
    status, said = who.rest("GET", f"{API}/containers/{ground.box}/json")
    return "its inspect" if status == 200 and ground.mark.encode() in said else ""
