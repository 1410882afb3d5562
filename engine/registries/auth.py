"""Proving to a registry who asks: nothing, a password, or a token that its token service gave for one repository.

distribution's token specification: the registry answers 401 with ``Bearer realm=…,service=…``; the service at *realm* gives a
token for scopes such as ``repository:team/app:pull,push`` to who shows a password, a refresh token, or nothing.
"""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Self
from urllib.parse import urlencode, urlsplit

from engine.errors import InvalidArgument, PermissionDenied, Unauthenticated
from engine.registries.challenge import Challenge

CLIENT_ID: Final = "slipway"
_LIFETIME_S: Final = 60  # of a token whose service says nothing; also the least that is believed
_EARLY_S: Final = 10  # before its end a token is not used any more
_MAX_TOKEN: Final = 64 << 10


@dataclass(frozen=True, slots=True, repr=False)
class Credentials:
    """Docker's AuthConfig. ``identity_token``: a refresh token of the service's; ``registry_token``: a bearer token as it is."""

    username: str = ""
    password: str = ""
    identity_token: str = ""
    registry_token: str = ""

    @classmethod
    def from_words(cls, words: dict[str, Any]) -> Self:
        return cls(**{name: str(words.get(name) or "") for name in ("username", "password", "identity_token", "registry_token")})

    def __bool__(self) -> bool:
        return bool(self.username or self.identity_token or self.registry_token)

    @property
    def basic(self) -> str:
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()


NOBODY: Final = Credentials()


class TokenRequest(NamedTuple):
    """What is asked of the token service; ``form`` None is a GET."""

    url: str
    authorization: str
    form: bytes | None


class Authorizer:
    """Of one registry in one session. ``ask`` sends a TokenRequest and answers with the JSON object that came back."""

    def __init__(self, credentials: Credentials, ask: Callable[[TokenRequest], dict[str, Any]], *, over_tls: bool) -> None:
        self._credentials = credentials
        self._ask = ask
        self._over_tls = over_tls
        self._lock = threading.Lock()
        self._challenge: Challenge | None = None
        self._tokens: dict[tuple[str, ...], tuple[str, float]] = {}
        self.refresh_token = ""  # what the service gave for next time

    def learn(self, challenges: Sequence[Challenge]) -> None:
        """From a 401. Bearer is preferred, as docker does."""
        for scheme in ("bearer", "basic"):
            for challenge in challenges:
                if challenge.scheme == scheme:
                    self._challenge = challenge
                    return

    def header(self, scopes: Sequence[str], *, fresh: bool = False) -> str:
        """``Authorization`` for a request; empty: none is needed, as far as is known. ``fresh``: the last token was not believed."""
        if self._credentials.registry_token:
            return f"Bearer {self._credentials.registry_token}"
        challenge = self._challenge
        if challenge is None:
            return ""
        if challenge.scheme == "basic":
            if not self._credentials.username:
                raise Unauthenticated("no basic auth credentials", registry_code="UNAUTHORIZED")
            return self._credentials.basic
        return f"Bearer {self._token(challenge, tuple(scopes), fresh)}"

    def _token(self, challenge: Challenge, scopes: tuple[str, ...], fresh: bool) -> str:
        with self._lock:  # one asks, those who want the same wait
            known = self._tokens.get(scopes)
            if known and not fresh and time.monotonic() < known[1]:
                return known[0]
            self._tokens[scopes] = token = self._fetch(challenge, scopes)
            return token[0]

    def _fetch(self, challenge: Challenge, scopes: tuple[str, ...]) -> tuple[str, float]:
        answer = self._ask(self._request(challenge, scopes))
        token = answer.get("token") or answer.get("access_token")
        if not isinstance(token, str) or not token or len(token) > _MAX_TOKEN or not token.isascii() or not token.isprintable():
            raise InvalidArgument("authorization server did not include a token in the response")
        lifetime = answer.get("expires_in")
        seconds = max(_LIFETIME_S, lifetime) if isinstance(lifetime, int | float) else _LIFETIME_S
        refresh = answer.get("refresh_token")
        self.refresh_token = refresh if isinstance(refresh, str) and len(refresh) <= _MAX_TOKEN else ""
        return token, time.monotonic() + seconds - _EARLY_S

    def _request(self, challenge: Challenge, scopes: tuple[str, ...]) -> TokenRequest:
        realm, service = challenge.parameters.get("realm", ""), challenge.parameters.get("service", "")
        scheme = urlsplit(realm).scheme.lower()
        if scheme not in ("http", "https"):
            raise InvalidArgument(f"the registry names no token service: unsupported realm {realm[:200]!r}")
        if scheme == "http" and self._over_tls and self._credentials:
            raise PermissionDenied("the registry's token service is without TLS: credentials are not sent there", rule="registry")
        pairs = [("service", service)] if service else []
        pairs += [("scope", scope) for scope in scopes]
        if self._credentials.identity_token:
            form = [("grant_type", "refresh_token"), ("service", service), ("client_id", CLIENT_ID)]
            form += [("refresh_token", self._credentials.identity_token), ("scope", " ".join(scopes))]
            return TokenRequest(realm, "", urlencode(form).encode())
        authorization = ""
        if self._credentials.username:
            pairs += [("account", self._credentials.username), ("client_id", CLIENT_ID)]
            if not scopes:
                pairs.append(("offline_token", "true"))
            authorization = self._credentials.basic
        query = urlencode(pairs)
        return TokenRequest(realm + ("&" if urlsplit(realm).query else "?") + query if query else realm, authorization, None)


def json_object(data: bytes) -> dict[str, Any]:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise InvalidArgument("unable to decode token response: it is no JSON object")
    return found
