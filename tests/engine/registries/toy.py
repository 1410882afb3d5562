"""A registry of our own over real TCP, for everything that an honest one does not do. It keeps what is pushed to it.

``spoil`` is asked before each answer: it may answer by itself (True) or leave it to the registry.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import re
import socket
import ssl
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.engine.images.archives import digest, image_config

DOCKER = "application/vnd.docker.distribution.manifest.v2+json"
OCI = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
_PATH = re.compile(r"/v2/(?P<name>.+)/(?P<kind>manifests|blobs|tags)/(?P<what>.+)")


@dataclass
class Toy:
    """``manifests``: {(repository, tag or digest): (media type, bytes)}. ``log``: "METHOD path" with "Range" where one was asked."""

    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[tuple[str, str], tuple[str, bytes]] = field(default_factory=dict)
    uploads: dict[str, bytearray] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)
    sent: dict[str, int] = field(default_factory=dict)  # bytes of blobs by digest
    heard: list[dict[str, str]] = field(default_factory=list)  # headers
    spoil: Callable[[Handler], bool] = lambda _handler: False
    password: str = ""  # user:password for Basic
    token: str = ""  # a Bearer token that is wanted; its service is /token, which wants ``password``
    accept_ranges: bool = True
    host: str = ""
    scheme: str = "http"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.host}"

    def blob(self, data: bytes, algorithm: str = "sha256") -> str:
        name = f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"
        self.blobs[name] = data
        return name

    def manifest(self, repository: str, tag: str, document: dict[str, Any], media_type: str = OCI) -> str:
        """Its digest; ``tag`` may be empty."""
        data = json.dumps(document).encode()
        for reference in (tag, digest(data)):
            if reference:
                self.manifests[repository, reference] = (media_type, data)
        return digest(data)

    def image(self, repository: str, tag: str, layers: list[bytes], packed: list[bytes] | None = None, **config: Any) -> str:
        """An OCI image; ``packed``: the layers as they are kept. The manifest's digest."""
        data = image_config(layers, **config)
        document = {
            "schemaVersion": 2,
            "mediaType": OCI,
            "config": self.descriptor(data, "application/vnd.oci.image.config.v1+json"),
            "layers": [self.descriptor(layer, "application/vnd.oci.image.layer.v1.tar") for layer in packed or layers],
        }
        return self.manifest(repository, tag, document)

    def descriptor(self, data: bytes, media_type: str, algorithm: str = "sha256") -> dict[str, Any]:
        return {"mediaType": media_type, "digest": self.blob(data, algorithm), "size": len(data)}

    def asked(self, words: str) -> int:
        return sum(words in line for line in self.log)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    toy: Toy

    def log_message(self, *_words: Any) -> None:
        pass

    def handle(self) -> None:
        with contextlib.suppress(ConnectionError, TimeoutError, ssl.SSLError):
            if self.toy.scheme == "http" and self.connection.recv(1, socket.MSG_PEEK) == b"\x16":  # a client tries TLS first
                self.wfile.write(b"HTTP/1.0 400 Bad Request\r\n\r\n")
                return
            super().handle()

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        for name, value in {"Content-Length": str(len(body)), **given}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def refuse(self, status: int, code: str, message: str = "", **headers: str) -> None:
        body = json.dumps({"errors": [{"code": code, "message": message or code.lower().replace("_", " ")}]}).encode()
        self.answer(status, body, Content_Type="application/json", **headers)

    def cut(self) -> None:
        """The connection ends here, without another word."""
        self.wfile.flush()
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True

    def _serve(self) -> None:
        toy = self.toy
        asked = self.headers.get("Range", "")
        toy.log.append(f"{self.command} {self.path}{f' {asked}' if asked else ''}")
        toy.heard.append(dict(self.headers.items()))
        if toy.spoil(self):
            return
        path = urlsplit(self.path)
        if path.path == "/token":
            self._token(parse_qs(path.query))
        elif not self._is_known():
            self._body()
            way = f'Bearer realm="{toy.url}/token",service="toy"' if toy.token else 'Basic realm="toy"'
            self.refuse(401, "UNAUTHORIZED", "authentication required", WWW_Authenticate=way)
        elif path.path == "/v2/":
            self.answer(200, b"{}")
        else:
            self._route(path.path, parse_qs(path.query))

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _serve

    def _is_known(self) -> bool:
        toy, given = self.toy, self.headers.get("Authorization", "")
        if toy.token:
            return given == f"Bearer {toy.token}"
        return not toy.password or given == f"Basic {base64.b64encode(toy.password.encode()).decode()}"

    def _token(self, query: dict[str, list[str]]) -> None:
        given = self.headers.get("Authorization", "")
        form = parse_qs(self._body().decode())
        wanted = f"Basic {base64.b64encode(self.toy.password.encode()).decode()}"
        if self.toy.password and given != wanted and form.get("refresh_token") != ["refresh"]:
            self.answer(401, b'{"details":"incorrect username or password"}', Content_Type="application/json")
            return
        refresh = {"refresh_token": "refresh"} if "offline_token" in query else {}
        self.answer(200, json.dumps({"token": self.toy.token, "expires_in": 300, **refresh}).encode())

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _route(self, path: str, query: dict[str, list[str]]) -> None:
        found = _PATH.fullmatch(path)
        if not found:
            self.refuse(404, "NAME_UNKNOWN")
        elif found["kind"] == "tags":
            tags = sorted(tag for name, tag in self.toy.manifests if name == found["name"] and ":" not in tag)
            self.answer(200, json.dumps({"name": found["name"], "tags": tags}).encode())
        elif found["kind"] == "manifests":
            self._manifest(found["name"], found["what"])
        elif found["what"].startswith("uploads/"):
            self._upload(found["name"], found["what"][8:], query)
        else:
            self._blob(found["what"])

    def _manifest(self, name: str, reference: str) -> None:
        if self.command == "PUT":
            data = self._body()
            for each in (reference, digest(data)):
                self.toy.manifests[name, each] = (self.headers["Content-Type"], data)
            self.answer(201, Location=f"/v2/{name}/manifests/{digest(data)}")
            return
        kept = self.toy.manifests.get((name, reference))
        if kept is None:
            self.refuse(404, "MANIFEST_UNKNOWN")
        else:
            self.answer(200, kept[1], Content_Type=kept[0])

    def _blob(self, name: str) -> None:
        data = self.toy.blobs.get(name)
        if data is None:
            self.refuse(404, "BLOB_UNKNOWN")
            return
        start = int(self.headers.get("Range", "bytes=0-")[6:].partition("-")[0]) if self.toy.accept_ranges else 0
        part = data[start:]
        if self.command == "GET":
            self.toy.sent[name] = self.toy.sent.get(name, 0) + len(part)
        headers = {"Content_Range": f"bytes {start}-{len(data) - 1}/{len(data)}"} if start else {}
        self.answer(206 if start else 200, part, **headers)

    def _upload(self, name: str, session: str, query: dict[str, list[str]]) -> None:
        toy, body = self.toy, self._body()
        if self.command == "POST":
            if query.get("mount", [""])[0] in toy.blobs:
                self.answer(201, Location=f"/v2/{name}/blobs/{query['mount'][0]}")
                return
            session = uuid.uuid4().hex
            toy.uploads[session] = bytearray()
            self.answer(202, Location=f"/v2/{name}/blobs/uploads/{session}", Range="0-0")
            return
        held = toy.uploads.get(session)
        if held is None:
            self.refuse(404, "BLOB_UPLOAD_UNKNOWN")
        elif self.command == "GET":
            self.answer(204, Location=self.path, Range=f"0-{max(0, len(held) - 1)}")
        elif self.command == "PATCH":
            start = int(self.headers.get("Content-Range", f"{len(held)}-").partition("-")[0])
            if start != len(held):
                self.refuse(416, "BLOB_UPLOAD_INVALID")
                return
            held += body
            self.answer(202, Location=self.path, Range=f"0-{len(held) - 1}")
        else:
            held += body
            wanted = query["digest"][0]
            if hashlib.new(wanted.partition(":")[0], held).hexdigest() != wanted.partition(":")[2]:
                self.refuse(400, "DIGEST_INVALID")
                return
            toy.blobs[wanted] = bytes(toy.uploads.pop(session))
            self.answer(201, Location=f"/v2/{name}/blobs/{wanted}")


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # a client that goes away is what half of the tests are about


@contextlib.contextmanager
def running(toy: Toy | None = None, *, tls: ssl.SSLContext | None = None) -> Iterator[Toy]:
    toy = toy or Toy()
    server = _Server(("127.0.0.1", 0), type("Bound", (Handler,), {"toy": toy}))
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
        toy.scheme = "https"
    toy.host = f"127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield toy
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
