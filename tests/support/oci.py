"""A registry client for tests: says exactly what it is told, and shows exactly what came back."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode, urlsplit

IMAGE = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]  # by names in lower case
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """Of the first error."""
        return str(self.json["errors"][0]["code"])

    @property
    def location(self) -> str:
        return self.headers["location"]

    @property
    def link(self) -> str:
        """Of the Link header, without what is around it."""
        address, _, relation = self.headers.get("link", "").partition(">")
        assert not address or 'rel="next"' in relation
        return address.removeprefix("<")


@dataclass
class Client:
    """Of ``host`` (address:port). ``basic``: user and password on each call; ``by_token``: they go to the token service instead."""

    host: str
    basic: tuple[str, str] | None = None
    by_token: bool = False
    tls: ssl.SSLContext | None = None
    tokens: dict[str, str] = field(default_factory=dict)

    def __call__(
        self, method: str, target: str, body: Any = None, headers: dict[str, str] | None = None, *, chunked: bool = False, **query: Any
    ) -> Answer:
        """``target``: a path or a Location; ``body``: bytes, or pieces of them; ``query`` is added."""
        words = {"Accept": f"{IMAGE}, {INDEX}, */*", **self._authorization(target), **(headers or {})}
        answer = self._send(method, target, body, words, chunked, query)
        if answer.status == 401 and self.by_token:
            scope = _scope(answer)
            if scope not in self.tokens:
                self._fetch_token(scope, query)
            answer = self._send(method, target, body, {**words, "Authorization": f"Bearer {self.tokens[scope]}"}, chunked, query)
        return answer

    def _send(self, method: str, target: str, body: Any, headers: dict[str, str], chunked: bool, query: dict[str, Any]) -> Answer:
        parts = urlsplit(target)
        words = "&".join(filter(None, (parts.query, urlencode(query))))
        connection = self.connect()
        try:
            connection.request(method, parts.path + (f"?{words}" if words else ""), body, headers, encode_chunked=chunked)
            found = connection.getresponse()
            return Answer(found.status, {name.lower(): value for name, value in found.getheaders()}, found.read())
        finally:
            connection.close()

    def connect(self) -> http.client.HTTPConnection:
        if self.tls is not None:
            return http.client.HTTPSConnection(self.host, context=self.tls, timeout=20)
        return http.client.HTTPConnection(self.host, timeout=20)

    def _authorization(self, target: str) -> dict[str, str]:
        if not self.by_token:
            return {"Authorization": basic(*self.basic)} if self.basic else {}
        name = urlsplit(target).path.removeprefix("/v2/").rpartition("/blobs/uploads/")[0]
        known = self.tokens.get(f"repository:{name}:pull,push")  # a stream can't be sent twice
        return {"Authorization": f"Bearer {known}"} if known else {}

    def _fetch_token(self, scope: str, query: dict[str, Any]) -> None:
        scopes = [scope] if scope else []
        if "from" in query:
            scopes.append(f"repository:{query['from']}:pull")
        words = urlencode([("service", "slipway-registry"), *(("scope", each) for each in scopes)])
        authorization = {"Authorization": basic(*self.basic)} if self.basic else {}
        answer = self._send("GET", f"/v2/token?{words}", None, authorization, False, {})
        assert answer.status == 200, answer
        self.tokens[scope] = answer.json["token"]

    # What most tests need done

    def push_blob(self, name: str, data: bytes, algorithm: str = "sha256") -> str:
        begun = self("POST", f"/v2/{name}/blobs/uploads/")
        assert begun.status == 202, begun
        digest = digest_of(data, algorithm)
        done = self("PUT", begun.location, data, {"Content-Type": "application/octet-stream"}, digest=digest)
        assert done.status == 201, done
        return digest

    def push_manifest(self, name: str, reference: str, document: dict[str, Any]) -> str:
        body = json.dumps(document).encode()
        done = self("PUT", f"/v2/{name}/manifests/{reference}", body, {"Content-Type": document["mediaType"]})
        assert done.status == 201, done
        return digest_of(body)

    def push_image(self, name: str, reference: str = "", **more: Any) -> tuple[str, dict[str, Any]]:
        """An image of two blobs; ``more`` goes into the manifest. Its digest and document."""
        layer = f"layer of {name}".encode()
        config = json.dumps({"architecture": "amd64", "os": "linux", "of": name}).encode()
        self.push_blob(name, layer)
        self.push_blob(name, config)
        document = image(config, [layer], **more)
        body = json.dumps(document).encode()
        return self.push_manifest(name, reference or digest_of(body), document), document


def image(config: bytes, layers: list[bytes], *, config_type: str = CONFIG, **more: Any) -> dict[str, Any]:
    return {
        "schemaVersion": 2,
        "mediaType": IMAGE,
        "config": descriptor(config, config_type),
        "layers": [descriptor(layer, LAYER) for layer in layers],
        **more,
    }


def index(*members: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"schemaVersion": 2, "mediaType": INDEX, "manifests": list(members), **more}


def descriptor(data: bytes, kind: str) -> dict[str, Any]:
    return {"mediaType": kind, "digest": digest_of(data), "size": len(data)}


def digest_of(data: bytes, algorithm: str = "sha256") -> str:
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


def basic(name: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    """For a chunked body."""
    for start in range(0, len(data), size):
        yield data[start : start + size]


def _scope(answer: Answer) -> str:
    return answer.headers.get("www-authenticate", "").partition('scope="')[2].partition('"')[0]
