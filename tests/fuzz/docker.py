"""Requests to the Docker API, made from its own router: each route, with ids that are there and that are not, and bodies of real clients.

Nothing that is made here leads off the machine: registries and addresses are on 127.0.0.9, where the platform refuses to go.
"""

from __future__ import annotations

import base64
import copy
import io
import json
import tarfile
from pathlib import Path
from random import Random
from typing import Any, Final

from tests.fuzz import damage, mutation
from tests.fuzz.wire import Door, Shot, request

NOWHERE: Final = "127.0.0.9:1/fuzz/a"
_TAR: Final = "application/x-tar"

# what a route is asked in its query; others get these and any of the others' now and then
_COMMON: Final = ("all", "filters", "force", "size", "v", "name", "t", "signal", "platform", "limit", "since", "until", "tag", "type")
_QUERIES: Final[dict[str, tuple[str, ...]]] = {
    "/events": ("since", "until", "filters"),
    "/system/df": ("type",),
    "/containers/json": ("all", "limit", "size", "filters", "before", "since"),
    "/containers/create": ("name", "platform"),
    "/containers/{id}/logs": ("stdout", "stderr", "follow", "since", "until", "timestamps", "tail", "details"),
    "/containers/{id}/stats": ("stream", "one-shot"),
    "/containers/{id}/attach": ("stream", "stdin", "stdout", "stderr", "logs", "detachKeys"),
    "/containers/{id}/resize": ("h", "w"),
    "/containers/{id}/stop": ("t", "signal"),
    "/containers/{id}/restart": ("t", "signal"),
    "/containers/{id}/kill": ("signal",),
    "/containers/{id}/wait": ("condition",),
    "/containers/{id}/top": ("ps_args",),
    "/containers/{id}/rename": ("name",),
    "/containers/{id}/archive": ("path", "noOverwriteDirNonDir", "copyUIDGID"),
    "/containers/{id}": ("v", "force", "link"),
    "/containers/prune": ("filters",),
    "/exec/{id}/resize": ("h", "w"),
    "/commit": ("container", "repo", "tag", "comment", "author", "pause", "changes"),
    "/build": ("t", "dockerfile", "rm", "forcerm", "nocache", "buildargs", "labels", "target", "networkmode", "memory", "shmsize",
    "squash", "outputs",
               "extrahosts", "platform", "cachefrom", "pull", "q", "buildid", "cpuperiod", "ulimits", "securityopt", "version"),
    "/build/prune": ("all", "filters", "keep-storage", "reserved-space"),
    "/build/cancel": ("id",),
    "/images/json": ("all", "filters", "digests", "shared-size", "manifests"),
    "/images/load": ("quiet", "platform"),
    "/images/get": ("names", "platform"),
    "/images/{name}/tag": ("repo", "tag"),
    "/images/{name}/push": ("tag", "platform"),
    "/images/{name}": ("force", "noprune"),
    "/images/search": ("term", "limit", "filters"),
    "/volumes/{id}": ("force",),
    "/networks/{id}": ("verbose", "scope"),
}  # fmt: skip

# as the docker CLI 28 and compose 2 send them, by path
_BODIES: Final[dict[str, list[Any]]] = json.loads(Path(__file__).with_name("bodies.json").read_text())
_FILTERS: Final[dict[str, Any]] = {
    "label": {"a=b": True}, "status": {"running": True}, "name": {"fuzz": True}, "dangling": ["true"], "until": ["10m"],
    "reference": ["busy*"],
    "ancestor": ["busybox"], "health": ["none"], "exited": ["0"], "since": ["x"], "volume": ["fuzzed"], "network": ["bridge"],
    "publish": ["80"],
}  # fmt: skip
_DOCKERFILES: Final = (
    'FROM busybox\nARG A=b\nENV B=$A\nLABEL a=b\nWORKDIR /srv\nCOPY --chown=1:1 . /x/\nRUN true\nEXPOSE 80\nCMD ["true"]\n',
    'FROM scratch\nADD --chmod=755 a /a\nVOLUME /v\nUSER 1000\nHEALTHCHECK --interval=1s CMD true\nENTRYPOINT ["/a"]\nONBUILD RUN x\n',
)
_STREAMS: Final = (
    "/events", "/containers/{id}/wait", "/containers/{id}/attach", "/containers/{id}/attach/ws", "/containers/{id}/logs",
    "/containers/{id}/stats",
    "/exec/{id}/start", "/build", "/images/create", "/images/load", "/images/{name}/push",
)  # fmt: skip
_WAITING: Final = ("/containers/{id}/stop", "/containers/{id}/restart")
_OFTEN: Final = {
    "/containers/create": 8,
    "/containers/{id}/start": 5,
    "/containers/{id}/exec": 2,
    "/networks/create": 2,
    "/volumes/create": 2,
}


def routes() -> list[tuple[str, str]]:
    """(method, path with its {id} or {name}) of all that the router knows, sorted."""
    from controlpanel.dockerapi import router

    return sorted({(method, path) for methods, path, _ in router._PUBLIC + router._TABLE for method in methods.split(",")})


def query_names() -> list[str]:
    return sorted({name for names in (_COMMON, *_QUERIES.values()) for name in names})


class Docker:
    """Shots for one tenant. ``known``: what is there by now, by kind; whoever runs the shots keeps it."""

    name = "docker"

    def __init__(self, door: Door, chance: Random, *, only: str = "") -> None:
        self.door, self.chance = door, chance
        self._routes = [route for route in routes() for _ in range(_OFTEN.get(route[1], 1)) if only in route[1]]
        self.known: dict[str, list[str]] = {"containers": [], "images": ["busybox"], "networks": ["bridge"], "volumes": [], "exec": []}

    def renew(self) -> None:
        """A token that lasts, or who asks is known by the socket."""

    def shot(self) -> Shot:
        chance = self.chance
        method, path = chance.choice(self._routes)
        label = f"{method} {path}"
        body, kind = self._body(path) if method in ("POST", "PUT") or chance.random() < 0.05 else (None, "application/json")
        target = chance.choice(("", "/v1.51", "/v1.47", "/v1.24", "/v1.99", "/v0.1", "/v1.4x")) if chance.random() < 0.4 else "/v1.51"
        target += self._filled(path) + mutation.query(self._fields(method, path), chance)
        wire = request(method, target, body, *self._lines(path), door=self.door, kind=kind)
        if chance.random() < 0.08:
            how = chance.choice(list(damage.ALL))
            return Shot(f"{label} ({how})", damage.ALL[how](wire, chance), is_cut=True)
        return Shot(label, wire, stream=path in _STREAMS, may_wait=path in _WAITING)

    def _filled(self, path: str) -> str:
        root = path.split("/")[1]
        if "{name}" in path:
            leads_out = root == "distribution" or path.endswith("/push")
            name = NOWHERE if leads_out or self.chance.random() < 0.1 else self._one("images")
            path = path.replace("{name}", mutation.in_path(name, self.chance).replace("%2F", "/"))
        return path.replace("{id}", mutation.in_path(self._one(root), self.chance))

    def _one(self, kind: str) -> str:
        """Of those that are there, mostly."""
        there = self.known.get(kind) or ()
        if not there or self.chance.random() < 0.15:
            return mutation.word(self.chance) or "x"
        found = self.chance.choice(there)
        return found[: self.chance.choice((len(found), len(found), 12, 3))]

    def _fields(self, method: str, path: str) -> dict[str, str]:
        chance = self.chance
        fields = {name: self._text(path, name) for name in _QUERIES.get(path, ()) if chance.random() < 0.4}
        if chance.random() < 0.15:
            fields[chance.choice(query_names())] = mutation.word(chance)
        if path == "/images/create":
            fields |= {"fromImage": NOWHERE + mutation.word(chance)} if chance.random() < 0.5 else {"fromSrc": "-", "repo": "fuzzed/image"}
            fields |= {name: self._text(path, name) for name in ("tag", "platform", "changes", "message") if chance.random() < 0.3}
        if path == "/build" and chance.random() < 0.1:
            fields["remote"] = f"http://{NOWHERE}{mutation.word(chance)}"
        if path == "/containers/{id}/archive" and method == "PUT":
            fields.setdefault("path", "/tmp")
        return fields

    def _text(self, path: str, name: str) -> str:
        chance = self.chance
        if name == "filters" and chance.random() < 0.8:
            key = chance.choice(list(_FILTERS))
            asked = {key: _FILTERS[key]}
            return json.dumps(mutation.mutated(asked, chance) if chance.random() < 0.5 else asked)
        usual = {
            "name": "fuzzed", "path": "/etc", "repo": "fuzzed/image", "tag": "t", "container": self._one("containers"),
            "names": self._one("images"),
            "t": "0" if path in _WAITING else "fuzzed/built", "signal": "TERM", "h": "24", "w": "80", "tail": "5", "changes": "ENV A=b",
            "until": "0",
            "dockerfile": "Dockerfile", "ps_args": "-ef", "buildargs": '{"A":"c"}', "labels": '{"a":"b"}', "term": "busy",
            "condition": "not-running",
            "detachKeys": "ctrl-a", "platform": "linux/amd64",
        }  # fmt: skip
        return usual.get(name, "1") if chance.random() < 0.5 else mutation.word(chance)

    def _lines(self, path: str) -> list[bytes]:
        """Headers that are read by somebody."""
        chance = self.chance
        if path == "/exec/{id}/start" or "attach" in path:
            return [b"Connection: Upgrade", b"Upgrade: tcp"] if chance.random() < 0.7 else []
        if path.endswith("/push") or path in ("/images/create", "/build", "/distribution/{name}/json"):
            auth = mutation.encoded(mutation.mutated({"username": "u", "password": "p", "serveraddress": "127.0.0.9:1"}, chance), chance)
            return [chance.choice((b"X-Registry-Auth: ", b"X-Registry-Config: ")) + base64.urlsafe_b64encode(auth)]
        return []

    def _body(self, path: str) -> tuple[bytes | None, str]:
        chance = self.chance
        if path == "/auth":
            asked = mutation.mutated({"username": "u", "password": "p", "email": ""}, chance)
            if isinstance(asked, dict):  # else it is nobody's registry
                asked["serveraddress"] = "127.0.0.9:1" + mutation.word(chance)
            return json.dumps(asked).encode(), "application/json"
        if path in ("/build", "/images/load", "/images/create") or path.endswith("/archive"):
            data = archive(path, chance)
            return (mutation.spoiled(data, chance) if chance.random() < 0.3 else data), _TAR
        if path not in _BODIES and chance.random() < 0.7:
            return (None if chance.random() < 0.5 else b""), "application/json"
        tree = copy.deepcopy(chance.choice(_BODIES.get(path, [{}])))
        if isinstance(tree, dict) and tree.get("Container") == "{id}":
            tree["Container"] = self._one("containers")
        if (
            path == "/containers/create" and tree is not None and "Volumes" in tree
        ):  # most of its members left out: else one bad one hides all others
            tree = {name: item for name, item in tree.items() if name in ("Image", "Cmd", "HostConfig") or chance.random() < 0.2}
            tree["HostConfig"] = {
                name: item for name, item in tree["HostConfig"].items() if name in ("Memory", "Init") or chance.random() < 0.15
            }
        for _ in range(chance.choice((0, 1, 1, 1, 2, 3))):
            tree = mutation.mutated(tree, chance)
        return (None if tree is None else mutation.encoded(tree, chance)), "application/json"


def archive(path: str, chance: Random) -> bytes:
    """A tar for who takes one: a build's context, an image as docker save writes it, or some files."""
    files: dict[str, bytes] = {"a": b"#!/bin/sh\n", mutation.word(chance) or "b": chance.randbytes(chance.randrange(3000))}
    if path == "/build":
        first, _, rest = chance.choice(_DOCKERFILES).partition("\n")  # its base stays: another would be looked for in a registry
        if chance.random() < 0.5:
            rest = rest.replace(chance.choice(rest.split()), mutation.word(chance).replace("FROM", ""), 1)
        files["Dockerfile"] = f"{first}\n{rest}".encode("utf-8", "surrogatepass")
    elif path == "/images/load":
        layer = _tar({"etc/a": b"x"}, chance)
        config = {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Cmd": ["sh"]},
            "rootfs": {"type": "layers", "diff_ids": ["sha256:" + "a" * 64]},
        }
        manifest = [{"Config": "c.json", "RepoTags": ["fuzzed/loaded:1"], "Layers": ["l/layer.tar"]}]
        files = {"l/layer.tar": layer, "c.json": mutation.encoded(mutation.mutated(config, chance), chance)}
        files["manifest.json"] = mutation.encoded(mutation.mutated(manifest, chance), chance)
    return _tar(files, chance)


def _tar(files: dict[str, bytes], chance: Random) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=chance.choice((tarfile.PAX_FORMAT, tarfile.GNU_FORMAT))) as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name.encode("utf-8", "replace").decode()[:90] or "x")
            info.size = len(data)
            if chance.random() < 0.1:
                info.type, info.linkname, info.size = (
                    chance.choice((tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE)),
                    "../../etc",
                    0,
                )
            tar.addfile(info, io.BytesIO(data) if info.size else None)
    return out.getvalue()
