"""Requests to REST: schemathesis makes good ones of the OpenAPI document, and each is sent again and again with something wrong."""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any, Final

from tests.fuzz import damage, mutation
from tests.fuzz.docker import NOWHERE, archive
from tests.fuzz.wire import Door, Shot, request

EACH: Final = 20  # good requests of an operation
_TAR: Final = "application/x-tar"
_KINDS: Final = ("containers", "volumes", "images", "networks")  # also parts of paths
_LEADS_OUT: Final = ("/image-pull", "/image-push", "/image-there", "/builds")
_STREAMS: Final = (
    "/logs", "/log", "/stats", "/events", "/attach", "/exec", "/wait", "/image-archive", "/image-rootfs", "/image-pull", "/image-push",
    "/builds", "/export",
)  # fmt: skip
_WAITING: Final = ("/stop", "/restart", "/wait")
_HEADERS_OF_OURS: Final = frozenset({"authorization", "content-type", "content-length", "cookie", "host"})


@dataclass(frozen=True, slots=True)
class Case:
    """A good request as schemathesis made it; ``body`` None: without one."""

    method: str
    path: str  # with its {names}
    parts: dict[str, str]
    query: dict[str, Any]
    headers: dict[str, str]
    body: Any
    kind: str


def cases(document: dict[str, Any], *, seed: int, each: int = EACH) -> list[Case]:
    """``each`` of every operation, the same for the same seed."""
    import schemathesis
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis import seed as seeded

    schemathesis.serializer(_TAR)(lambda _context, value: value)
    found: list[Case] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for result in schemathesis.openapi.from_dict(document).get_all_operations():
            operation = result.ok()

            @seeded(seed)
            @settings(max_examples=each, database=None, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
            @given(case=operation.as_strategy())
            def gather(case: Any) -> None:
                body = None if type(case.body).__name__ == "NotSet" else case.body
                found.append(
                    Case(
                        case.method,
                        case.path,
                        {name: str(made) for name, made in (case.path_parameters or {}).items()},
                        dict(case.query or {}),
                        dict(case.headers or {}),
                        body,
                        case.media_type or "",
                    )
                )

            gather()
    return found


class Rest:
    """Shots as one token of the tenant; ``new_token`` makes another when it was revoked by chance."""

    name = "rest"

    def __init__(
        self,
        door: Door,
        chance: Random,
        document: dict[str, Any],
        new_token: Callable[[], str],
        tenant: str,
        *,
        seed: int,
        each: int = EACH,
    ) -> None:
        self._address, self._new_token, self._tenant = door.address, new_token, tenant
        self.chance = chance
        self.known: dict[str, list[str]] = {}
        self._cases = cases(document, seed=seed, each=each)
        self._take_token()

    def _take_token(self) -> None:
        self.door = Door(self._address, f"Authorization: Bearer {self._new_token()}\r\n".encode())

    def renew(self) -> None:
        if self.door.send(Shot("", request("GET", f"/api/v1/tenants/{self._tenant}", None, door=self.door))).status != 200:
            self._take_token()

    def shot(self) -> Shot:
        chance = self.chance
        case = chance.choice(self._cases)
        label = f"{case.method} {case.path.removeprefix('/api/v1')}"
        target = self._path(case) + mutation.query(self._query(case), chance)
        lines = [
            f"{name}: {text}".encode("utf-8", "surrogatepass").replace(b"\r", b"").replace(b"\n", b"")
            for name, text in case.headers.items()
            if name.lower() not in _HEADERS_OF_OURS
        ]
        wire = request(case.method, target, self._body(case), *lines, door=self.door, kind=self._kind(case))
        if chance.random() < 0.05:
            how = chance.choice(list(damage.ALL))
            return Shot(f"{label} ({how})", damage.ALL[how](wire, chance), is_cut=True)
        return Shot(label, wire, stream=case.path.endswith(_STREAMS), may_wait=case.path.endswith(_WAITING))

    def _path(self, case: Case) -> str:
        chance, path = self.chance, case.path
        for name, made in case.parts.items():
            there = self._there(case.path, name)
            if name == "tenant":
                made = self._tenant if chance.random() < 0.97 else made
            elif there and chance.random() < 0.8:
                made = mutation.in_path(chance.choice(there), chance)
            elif chance.random() < 0.3:
                made = mutation.in_path(mutation.word(chance), chance)
            path = path.replace("{" + name + "}", made)
        return path

    def _there(self, path: str, name: str) -> list[str]:
        if name == "exec_id":
            return self.known.get("exec", [])
        return next((self.known.get(kind, []) for kind in _KINDS if f"/{kind}/{{{name}}}" in path), [])

    def _query(self, case: Case) -> dict[str, str]:
        chance = self.chance
        asked = {name: item if isinstance(item, str) else json.dumps(item).strip('"') for name, item in case.query.items()}
        if asked and chance.random() < 0.4:
            asked[chance.choice(list(asked))] = mutation.word(chance)
        if chance.random() < 0.05:
            asked[mutation.word(chance)] = mutation.word(chance)
        if "path" in asked and chance.random() < 0.5:
            asked["path"] = "/etc"
        if "ref" in asked and case.path.endswith(_LEADS_OUT):
            asked["ref"] = NOWHERE
        return asked

    def _body(self, case: Case) -> bytes | None:
        chance = self.chance
        if case.kind == _TAR:
            return archive("/build" if case.path.endswith("/builds") else "/images/load", chance)
        if case.body is None:
            return None if case.method in ("GET", "DELETE") or chance.random() < 0.5 else b""
        if isinstance(case.body, (bytes, str)) and case.kind != "application/json":
            return case.body if isinstance(case.body, bytes) else case.body.encode("utf-8", "surrogatepass")
        tree = copy.deepcopy(case.body)
        if isinstance(tree, dict):
            self._aim(tree)
        for _ in range(chance.choice((0, 1, 1, 2, 3))):
            tree = mutation.mutated(tree, chance)
        if isinstance(tree, dict) and case.path.endswith(_LEADS_OUT):
            tree |= {name: NOWHERE for name in ("ref", "address") if name in tree} | (
                {"text": "FROM busybox\nRUN true\n"} if "text" in tree else {}
            )
        return mutation.encoded(tree, chance)

    def _aim(self, tree: dict[str, Any]) -> None:
        """What names a thing names one that is there, half of the time."""
        for name, there in (("image", ["busybox"]), ("container", self.known.get("containers")), ("command", [["sleep", "30"]])):
            if name in tree and there and self.chance.random() < 0.5:
                tree[name] = self.chance.choice(there)

    def _kind(self, case: Case) -> str:
        usual = case.kind or "application/json"
        return (
            usual
            if self.chance.random() < 0.95
            else self.chance.choice(("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "a", ""))
        )
