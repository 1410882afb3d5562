"""Acts that leave no record. What was done is compared with the audit log, read from the database itself.

The control takes the audit log's one function away from the panel: then the same acts must be found without a record.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from websockets.sync.client import connect

from tests.attack.attempt import Impossible, Who, attempt
from tests.attack.ground import API, IMAGE, Ground
from tests.engine.builds.building import context
from tests.engine.images.archives import docker_archive, file, tar
from tests.support import raw

WALL = "audit.record"
_SILENT = "\n\ndef record(*_who, **_detail):  # the control\n    return Record(number=0)\n"


def _records(ground: Ground) -> list[tuple[str, str]]:
    """Verb and object of each record of mallory's."""
    database = ground.platform.data / "panel" / "slipway.sqlite3"
    if not database.exists():
        raise Impossible("the panel's database is no file here")
    with closing(sqlite3.connect(database)) as connection:
        number = connection.execute("SELECT id FROM tenants_tenant WHERE name = 'mallory'").fetchone()[0]
        return connection.execute("SELECT verb, object FROM audit_record WHERE tenant_number = ? ORDER BY number", [number]).fetchall()


@contextmanager
def recorded(ground: Ground, walled: bool) -> Iterator[None]:
    """``walled`` False: a panel that records nothing meanwhile."""
    _ = ground.cage
    if walled:
        yield
        return
    source = ground.platform.data / "app" / "current" / "controlpanel" / "audit" / "services.py"
    before = source.read_bytes()
    try:
        _rewritten(ground, source, before + _SILENT.encode())
        yield
    finally:
        _rewritten(ground, source, before)


def _rewritten(ground: Ground, source: Path, content: bytes) -> None:
    """And the web process anew. Code that was compiled from what stood there goes."""
    source.write_bytes(content)
    for compiled in source.parent.glob("__pycache__/services.*"):
        compiled.unlink()
    pid = int(ground.platform.part("web")["pid"])
    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 120
    while True:
        part = ground.platform.part("web")
        if part["healthy"] and int(part["pid"]) != pid:
            break
        assert time.monotonic() < deadline, part
        time.sleep(0.2)
    ground.platform.wait_healthy(120)


def _unrecorded(ground: Ground, acts: list[tuple[str, Callable[[], object]]]) -> str:
    """Those after which the log is as long as before."""
    silent = []
    for name, act in acts:
        before = len(_records(ground))
        act()
        if len(_records(ground)) == before:
            silent.append(name)
    return ", ".join(silent)


@attempt("f", Who.USER, WALL)
def acts_by_dockers_api(ground: Ground, walled: bool) -> str:
    """each verb of Docker's API that changes something"""
    who = ground.mallory

    def post(target: str, body: object = None) -> Callable[[], object]:
        def act() -> None:
            status, said = who.ask("POST", target, body)
            assert status < 300, (target, status, said)

        return act

    def do(*words: str) -> Callable[[], object]:
        return lambda: who.docker(*words)

    acts: list[tuple[str, Callable[[], object]]] = [
        ("create", post("/containers/create?name=traced", {"Image": IMAGE, "Cmd": ["sleep", "600"]})),
        ("start", post("/containers/traced/start")),
        ("pause", post("/containers/traced/pause")), ("unpause", post("/containers/traced/unpause")),
        ("update", post("/containers/traced/update", {"PidsLimit": 50})), ("rename", post("/containers/traced/rename?name=trace")),
        ("exec", do("exec", "trace", "true")),
        ("copy in", lambda: who.ask("PUT", "/containers/trace/archive?path=/tmp", tar(file("f")), kind=raw.TAR)),
        ("copy out", lambda: who.ask("GET", "/containers/trace/archive?path=/tmp")),
        ("export", lambda: who.ask("GET", "/containers/trace/export")),
        ("commit", post("/commit?container=trace&repo=traced")), ("tag", post("/images/traced/tag?repo=again")),
        ("save", lambda: who.ask("GET", "/images/traced/get")), ("untag", do("rmi", "again")), ("rmi", do("rmi", "traced")),
        ("load", lambda: who.ask("POST", "/images/load", docker_archive([tar(file("f"))], ["loaded:1"]), kind=raw.TAR)),
        ("image prune", post("/images/prune?filters=%7B%22dangling%22:[%22false%22]%7D")),
        ("build", lambda: who.ask("POST", "/build", context("FROM busybox\nLABEL a=b\n", {}).getvalue(), kind=raw.TAR)),
        ("network create", post("/networks/create", {"Name": "traced"})),
        ("connect", post("/networks/traced/connect", {"Container": "trace"})),
        ("disconnect", post("/networks/traced/disconnect", {"Container": "trace"})), ("network rm", do("network", "rm", "traced")),
        ("volume create", post("/volumes/create", {"Name": "traced"})), ("volume rm", do("volume", "rm", "traced")),
        ("kill", post("/containers/trace/kill")), ("restart", post("/containers/trace/restart?t=0")),
        ("stop", post("/containers/trace/stop?t=0")),
        ("attach", do("start", "trace")), ("rm", do("rm", "-f", "trace")), ("container prune", post("/containers/prune")),
        ("network prune", post("/networks/prune")),
        ("volume prune", post("/volumes/prune")), ("build prune", post("/build/prune?all=1")),
    ]  # fmt: skip
    with recorded(ground, walled):
        who.docker("rm", "-f", "traced", "trace", check=False)
        return _unrecorded(ground, acts)


@attempt("f", Who.USER, WALL)
def acts_by_rest(ground: Ground, walled: bool) -> str:
    """the same by REST, and members and tokens"""
    who, top = ground.mallory, "/api/v1/tenants/mallory"
    _ = who.token, who.browser

    def rest(method: str, where: str, body: object = None) -> Callable[[], object]:
        def act() -> None:
            status, said = who.rest(method, f"{top}/{where}", body)
            assert status < 300, (method, where, status, said)

        return act

    acts = [
        ("create", rest("POST", "containers", {"image": IMAGE, "name": "rested", "command": ["sleep", "600"], "start": True})),
        ("stop", rest("POST", "containers/rested/stop?timeout_s=0")), ("remove", rest("DELETE", "containers/rested?force=true")),
        ("volume", rest("POST", "volumes", {"name": "rested"})), ("snapshot", rest("POST", "volumes/rested/snapshots", {"name": "s"})),
        ("restore", rest("POST", "volumes/rested/snapshots/s/restore")),
        ("clone", rest("POST", "volumes/rested/clone", {"name": "rested2"})),
        ("rename", rest("POST", "volumes/rested2/rename", {"name": "rested3"})), ("volume rm", rest("DELETE", "volumes/rested")),
        ("volume rm", rest("DELETE", "volumes/rested3")), ("network", rest("POST", "networks", {"name": "rested"})),
        ("network rm", rest("DELETE", "networks/rested")), ("token", rest("POST", "tokens", {"name": "x", "role": "viewer"})),
        ("member", rest("PUT", "members/owner-of-mallory", {"role": "owner"})),
    ]  # fmt: skip
    with recorded(ground, walled):
        who.docker("rm", "-f", "rested", check=False)
        return _unrecorded(ground, acts)


@attempt("f", Who.USER, WALL)
def acts_by_pages(ground: Ground, walled: bool) -> str:
    """a form that makes a volume, and one that removes it"""
    who = ground.mallory.browser
    acts = [
        ("create", lambda: who.post("/t/mallory/volumes/create", name="paged")),
        ("remove", lambda: who.post("/t/mallory/volumes/remove/paged", name="paged")),
    ]
    with recorded(ground, walled):
        return _unrecorded(ground, acts)


@attempt("f", Who.USER, WALL)
def command_in_the_browsers_terminal(ground: Ground, walled: bool) -> str:
    """a shell over the websocket of a page"""
    who = ground.mallory
    _ = who.browser

    def terminal() -> None:
        url = f"ws://{ground.platform.http}/ws/t/mallory/containers/{ground.cage}/terminal/"
        with connect(url, additional_headers={"Cookie": who.browser.cookies}, origin=ground.platform.url) as sock:  # type: ignore[arg-type]
            sock.send(json.dumps({"start": {"columns": 80, "rows": 24}}))
            try:
                sock.recv(timeout=5)
            except TimeoutError:
                pass

    with recorded(ground, walled):
        return _unrecorded(ground, [("terminal", terminal)])


@attempt("f", Who.USER, WALL)
def act_of_a_client_that_leaves_at_once(ground: Ground, walled: bool) -> str:
    """twenty volumes asked for by clients that hang up before the answer: is there one without a record?"""
    prefix = f"left{secrets.token_hex(3)}"
    with recorded(ground, walled):
        for number in range(20):
            data = json.dumps({"Name": f"{prefix}-{number}"}).encode()
            head = b"POST %s/volumes/create HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
            raw.open_request(ground.platform.socket("mallory"), head % (API.encode(), len(data), data)).close()
        time.sleep(3)
        made = {each["Name"] for each in ground.mallory.json("/volumes")["Volumes"] if each["Name"].startswith(prefix)}
        told = {name for verb, name in _records(ground) if verb == "volume.create"}
        if not walled:
            ground.mallory.docker("volume", "create", f"{prefix}-last")
            made.add(f"{prefix}-last")
        for name in made:
            ground.mallory.docker("volume", "rm", name)
    return f"{len(made - told)} of {len(made)} volumes without a record" if made - told else ""


@attempt("f", Who.WEB, "the chain of hashes (the control looks at the numbers alone)", quick=True)
def record_that_is_changed_behind_our_back(ground: Ground, walled: bool) -> str:
    """a record's actor, changed in the database: does nobody notice?"""
    ground.mallory.docker("rm", ground.mallory.say("create", IMAGE, "true"))
    database, release = ground.platform.data / "panel" / "slipway.sqlite3", ground.platform.data / "app" / "current"
    query = "SELECT t.id, MAX(r.number) FROM tenants_tenant t JOIN audit_record r ON r.tenant_number = t.id WHERE t.name = 'mallory'"
    _records(ground)
    with closing(sqlite3.connect(database, timeout=30)) as connection:
        number, last = connection.execute(query).fetchone()
        place = (number, last)
        [actor] = connection.execute("SELECT actor FROM audit_record WHERE tenant_number = ? AND number = ?", place).fetchone()
        look = f"import django; django.setup(); from controlpanel.audit import chain; print(chain.first_broken({number}))"
        assert _as_the_panel(ground, release, look) == "None", "the chain is broken already"
        change = "UPDATE audit_record SET actor = ? WHERE tenant_number = ? AND number = ?"
        try:
            with connection:
                connection.execute(change, ("somebody else", *place))
            if walled:
                noticed = _as_the_panel(ground, release, look) == str(last)
            else:
                numbers = [
                    row
                    for (row,) in connection.execute("SELECT number FROM audit_record WHERE tenant_number = ? ORDER BY number", [number])
                ]
                noticed = numbers != list(range(1, last + 1))
        finally:
            with connection:
                connection.execute(change, (actor, *place))
    return "" if noticed else "a record tells of somebody else, and all looks well"


def _as_the_panel(ground: Ground, release: Path, script: str) -> str:
    from workers.platform.places import Places

    environment = Places.from_environment(ground.platform.environment).panel_environment(release.resolve())
    words = [str(release / "venv" / "bin" / "python"), "-c", script]
    done = subprocess.run(words, cwd=release, env=environment, user="slipway", group="slipway", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
