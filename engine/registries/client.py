"""Requests to one registry: redirects, credentials, another try. What is asked stands in documents, download and upload.

Credentials go to the registry's own place and to its token service, never along a redirect to anybody else.
"""

from __future__ import annotations

import email.utils
import http.client
import socket
import ssl
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Final, Protocol
from urllib.parse import quote, urljoin, urlsplit

from engine.errors import EngineError, InvalidArgument, PermissionDenied, RateLimited, Unavailable
from engine.registries import challenge
from engine.registries.auth import Authorizer, Credentials, TokenRequest, json_object
from engine.registries.connection import Connection, Place, Pool, headers_of, place_of
from engine.registries.faults import RETRIED, Broken, of_network, of_response
from engine.registries.settings import Endpoint

ATTEMPTS: Final = 5  # without a byte of progress
PATIENCE_S: Final = 60  # the longest Retry-After that is waited for
_FIRST_WAIT_S: Final = 0.5
_LONGEST_WAIT_S: Final = 10.0
_MAX_ERROR: Final = 64 << 10
_MAX_HOPS: Final = 10
_SOME: Final = 256 << 10
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_AGENT: Final = "slipway"
_QUERY: Final = "/%:@!$&'()*+,;=~-._?[]"


class Body(Protocol):
    """What is sent with a request, and may be sent again."""

    size: int

    def write(self, sock: socket.socket) -> None: ...


class Bytes:
    def __init__(self, data: bytes) -> None:
        self._data, self.size = data, len(data)

    def write(self, sock: socket.socket) -> None:
        sock.sendall(self._data)


class Answer:
    """An answer whose head has come. Read it, then ``close`` it: only a whole answer leaves its connection to others."""

    def __init__(self, pool: Pool, url: str, connection: Connection, response: http.client.HTTPResponse) -> None:
        self._pool, self.url, self._connection, self.response = pool, url, connection, response
        self.status = response.status

    def header(self, name: str) -> str:
        return (headers_of(self.response, name) or [""])[0]

    def link(self, text: str) -> str:
        """The URL that a ``Location`` or ``Link`` of this answer means; empty for none."""
        return urljoin(self.url, text) if text else ""

    @property
    def size(self) -> int:
        """As the registry says; -1: it says nothing. InvalidArgument for nonsense."""
        text = self.header("Content-Length")
        if not text:
            return -1
        if not text.isdecimal() or not text.isascii() or len(text) > 18:
            raise InvalidArgument(f"the registry sent a wrong Content-Length: {text[:40]!r}")
        return int(text)

    def some(self) -> bytes:
        """What has come, and at most so much; b"" at the end. Raises Broken."""
        try:
            return self.response.read1(_SOME)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise Broken("unexpected EOF" if isinstance(error, http.client.HTTPException | ConnectionError) else _silence(error)) from None

    def read(self, limit: int) -> bytes:
        """All of it. InvalidArgument when it is more than ``limit`` bytes."""
        data = bytearray()
        while piece := self.some():
            data += piece
            if len(data) > limit:
                raise InvalidArgument(f"the registry's answer is larger than {limit} bytes, the limit of this host")
        if self.response.length:  # of what was announced that much did not come
            raise Broken("unexpected EOF")
        return bytes(data)

    def close(self) -> None:
        if self.response.length == 0 and not self.response.chunked:
            self.response.read()  # nothing: now it knows that it has ended
        if self.response.isclosed() and not self.response.will_close and not self.response.length:
            self._pool.give(place_of(self.url), self._connection)
        else:
            self._connection.close()

    def error(self) -> EngineError:
        """What this answer refuses; closes it."""
        try:
            body = self.read(_MAX_ERROR)
        except (Broken, EngineError):
            body = b""
        self.close()
        return of_response(self.status, self.response.reason, body)


class Registry:
    """One endpoint, for one repository. For any number of threads."""

    def __init__(self, endpoint: Endpoint, pool: Pool, credentials: Credentials, note: Callable[[float], None]) -> None:
        """``note`` hears how many seconds are waited before another try."""
        self.endpoint = endpoint
        self._pool = pool
        self._place = place_of(endpoint.url)
        self._note = note
        self.authorizer = Authorizer(credentials, self._ask_token, over_tls=self._place.scheme == "https")

    def ping(self) -> None:
        """``GET /v2/``: is it one, and whom does it let in. Raises what is wrong with it."""
        answer = self._follow("GET", f"{self.endpoint.url}/v2/", {}, None, ())
        if answer.status == 401:
            self.authorizer.learn(challenge.parse(headers_of(answer.response, "WWW-Authenticate")))
            answer.error()
        elif answer.status in (200, 404):  # 404: older mirrors have no such page, and answer the rest
            answer.error()
        else:
            raise answer.error()

    def call(
        self,
        method: str,
        where: str,
        *,
        scopes: Sequence[str],
        expect: Collection[int],
        headers: Mapping[str, str] | None = None,
        body: Body | None = None,
        patient: bool = True,
    ) -> Answer:
        """``where``: a path below the endpoint, or the URL that an earlier answer named. ``patient``: with further tries."""
        url = urljoin(f"{self.endpoint.url}/", where)
        attempt, renewed = 0, False
        while True:
            try:
                answer = self._follow(method, url, dict(headers or {}), body, scopes)
            except Broken as broken:
                if not patient or attempt + 1 >= ATTEMPTS:
                    raise
                self.wait(attempt, broken)
                attempt += 1
                continue
            if answer.status in expect:
                return answer
            if answer.status == 401 and not renewed:
                renewed = True
                self.authorizer.learn(challenge.parse(headers_of(answer.response, "WWW-Authenticate")))
                refused = answer.error()
                if not self.authorizer.header(scopes, fresh=True):
                    raise refused
                continue
            seconds = _retry_after(answer.header("Retry-After"))
            refused = answer.error()
            if answer.status not in RETRIED or not patient or attempt + 1 >= ATTEMPTS or seconds > PATIENCE_S:
                raise refused
            self.wait(attempt, seconds=seconds)
            attempt += 1

    def wait(self, attempt: int, _why: object = None, *, seconds: float = 0.0) -> None:
        """Twice as long each time, or as long as the registry asked for."""
        seconds = max(seconds, min(_FIRST_WAIT_S * 2**attempt, _LONGEST_WAIT_S))
        self._note(seconds)
        time.sleep(seconds)

    def _follow(self, method: str, url: str, headers: dict[str, str], body: Body | None, scopes: Sequence[str]) -> Answer:
        first = url
        for _hop in range(_MAX_HOPS + 1):
            place = place_of(url)
            if place.scheme == "http" and self._place.scheme == "https" and self.endpoint.verify:
                raise PermissionDenied(f'{_go(method, first)}: redirected away from TLS, to "{url[:200]}"', rule="registry")
            authorization = self.authorizer.header(scopes) if place == self._place else ""
            sent = {**headers, "Authorization": authorization} if authorization else headers
            answer = self._send(method, url, place, sent, body)
            if answer.status not in _REDIRECTS or not (location := answer.header("Location")):
                return answer
            if answer.status == 303:
                method, body = "GET", None
            answer.error()
            url = urljoin(url, location)
        raise Unavailable(f"{_go(method, first)}: stopped after {_MAX_HOPS} redirects")

    def _send(self, method: str, url: str, place: Place, headers: Mapping[str, str], body: Body | None) -> Answer:
        """Once, but for a kept connection that its peer closed just now."""
        while True:
            connection = self._pool.take(place)
            stale = connection.used
            try:
                return Answer(self._pool, url, connection, _exchange(connection, method, url, headers, body))
            except Broken as broken:
                connection.close()
                raise Broken(f"{_go(method, url)}: {broken.message}") from None
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                if not stale or body is not None or method not in ("GET", "HEAD") or isinstance(error, TimeoutError):
                    raise Broken(f"{_go(method, url)}: {_unheard(error)}") from None
            except BaseException:
                connection.close()
                raise

    def _ask_token(self, request: TokenRequest) -> dict[str, Any]:
        """Of the token service. A redirect of it is followed without what it must not tell others: not at all when there is a form."""
        headers = {"Authorization": request.authorization} if request.authorization else {}
        body: Body | None = None
        method = "GET"
        if request.form is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
            method, body = "POST", Bytes(request.form)
        for attempt in range(ATTEMPTS):
            try:
                answer = self._send(method, request.url, place_of(request.url), headers, body)
            except Broken as broken:
                if attempt + 1 == ATTEMPTS:
                    raise
                self.wait(attempt, broken)
                continue
            if answer.status == 200:
                try:
                    return json_object(answer.read(_MAX_ERROR * 4))
                finally:
                    answer.close()
            seconds = _retry_after(answer.header("Retry-After"))
            refused = answer.error()
            if answer.status not in RETRIED or attempt + 1 == ATTEMPTS or seconds > PATIENCE_S:
                raise refused
            self.wait(attempt, seconds=seconds)
        raise RateLimited("the token service is busy")


def _exchange(connection: Connection, method: str, url: str, headers: Mapping[str, str], body: Body | None) -> http.client.HTTPResponse:
    """Sends, and reads the head of the answer: also when the peer stops listening in the middle, for it may say why."""
    connection.begin(method, _target(url))
    connection.putheader("User-Agent", _AGENT)
    for name, value in headers.items():
        connection.putheader(name, value)
    if body is not None:
        connection.putheader("Content-Length", str(body.size))
    elif method in ("POST", "PUT", "PATCH"):
        connection.putheader("Content-Length", "0")
    connection.endheaders()
    broken: OSError | None = None
    if body is not None and body.size:
        assert connection.sock is not None
        try:
            body.write(connection.sock)
        except (BrokenPipeError, ConnectionResetError) as error:
            broken = error
    try:
        return connection.getresponse()
    except (OSError, http.client.HTTPException) as error:
        raise (broken or error) from None


def _target(url: str) -> str:
    """Path and query, as a request line may have them."""
    parts = urlsplit(url)
    path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~-._[]")
    return path + (f"?{quote(parts.query, safe=_QUERY)}" if parts.query else "")


def _unheard(error: Exception) -> str:
    """Of a request that got no answer."""
    if isinstance(error, http.client.BadStatusLine) and not isinstance(error, http.client.RemoteDisconnected):
        return f"net/http: HTTP/1.x transport connection broken: malformed HTTP response {str(error)[:100]!r}"
    if isinstance(error, http.client.HTTPException) and not isinstance(error, http.client.RemoteDisconnected):
        return f"net/http: HTTP/1.x transport connection broken: {str(error)[:200] or type(error).__name__}"
    return of_network(error)


def _silence(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "net/http: the connection was silent for too long"
    if isinstance(error, ssl.SSLError | OSError):
        return of_network(error)
    return "unexpected EOF"


def _retry_after(text: str) -> float:
    """Seconds. RFC 9110, section 10.2.3: a number of them, or a date."""
    if text.isdecimal() and text.isascii():
        return float(min(int(text), 1 << 31))
    try:
        moment = email.utils.parsedate_to_datetime(text)
        return max(0.0, moment.timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return 0.0


def _go(method: str, url: str) -> str:
    """As Go's net/http begins its sentences."""
    return f'{method.capitalize()} "{url[:400]}"'
