"""Whatever a client sends, it is told what is wrong with it: never a 500, never a hang."""

from __future__ import annotations

import contextlib
import json
from typing import Any
from urllib.parse import quote

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controlpanel.containers import request
from controlpanel.dockerapi import absent, router, shapes
from controlpanel.dockerapi.create import decode
from controlpanel.hosts.machine import Machine
from engine.errors import EngineError
from tests.controlpanel.dockerapi.conftest import Api, put_container
from tests.fuzz.docker import query_names, routes

_STREAMS = ("/events", "/containers/{id}/wait", "/auth")  # those wait for what happens
_ROUTES = [route for route in routes() if route[1] not in _STREAMS]
# those may reach the host, which is not there in this test: they wait for it, and the client hangs up
_ACTS = {(method, path) for method, path in _ROUTES if method in ("POST", "DELETE") or path.endswith(("/logs", "/stats"))}
_ODD = ["1", "-1", "0", "99999999999999999999", "busybox", "web", "null", "{}", "[]", "\0", "../.."]
_WORD = st.one_of(st.text(max_size=30), st.sampled_from(_ODD))
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=10,
)
_CALM = settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@_CALM
@given(
    route=st.sampled_from(_ROUTES),
    name=_WORD,
    query=st.dictionaries(st.sampled_from([*query_names(), "fromImage", "fromSrc"]), _WORD, max_size=4),
    body=st.binary(max_size=40),
)
def test_any_query_and_body(api: Api, route: tuple[str, str], name: str, query: dict[str, str], body: bytes) -> None:
    method, path = route
    if not api("GET", "/containers/json?all=1").json:
        put_container("web")
    target = path.replace("{id}", name.replace("/", "-") or "web").replace("{name}", name or "web")
    target += "?" + "&".join(f"{key}={quote(value)}" for key, value in query.items())
    answer = api.within(0.3 if route in _ACTS else 30, method, target, body)
    if answer is None:
        assert route in _ACTS
        return
    assert answer.status != 500 and (answer.status < 400 or method == "HEAD" or answer.message), answer


@settings(_CALM, max_examples=300)
@given(
    config=st.dictionaries(st.sampled_from([*shapes.CONFIG, "NetworkingConfig"]), _JSON, max_size=4),
    host_config=st.dictionaries(st.sampled_from([*shapes.HOST_CONFIG]), _JSON, max_size=4),
)
def test_any_create_request(config: dict[str, Any], host_config: dict[str, Any]) -> None:
    """It is refused as the client's mistake, or read."""
    body = json.dumps({**config, "HostConfig": host_config}).encode()
    with contextlib.suppress(EngineError):
        request.read(
            decode(body),
            container_id="ab" * 32,
            tenant="demo",
            name="web",
            image_id="sha256:" + "cd" * 32,
            image_config={},
            machine=Machine(cpus=2, cpuset_cpus="0-1", blkio_weight=True),
        )


def test_every_absent_route_is_reached() -> None:
    for methods, path, handler in absent.TABLE:
        for method in methods.split(","):
            found = router.find(method, path.replace("{id}", "x").replace("{name}", "y"))
            assert found is not None and found.handler is handler, (method, path)
