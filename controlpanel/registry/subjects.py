"""Who asks the registry: nobody, or a person, token or certificate, which acts in one tenant or another by the name of what it asks for.

    Basic USER:PASSWORD     a person, in each of their tenants
    Basic ANY:TOKEN         an API token, in its tenant; Bearer TOKEN is the same
    Bearer JWT              what the token service gave to one of these, for some repositories
    a client's certificate  in its tenant (TLS)

Cookies count for nothing here.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import secrets
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Final

from django.db import connection

from controlpanel.accounts import passwords, second_factor
from controlpanel.accounts.models import TOKEN_MARK, User
from controlpanel.base import database
from controlpanel.base.transport import came_from
from controlpanel.registry import tokens
from controlpanel.registry.tokens import Claims
from controlpanel.tenants import access
from controlpanel.tenants.actor import Actor, Door
from controlpanel.tenants.models import Membership
from controlpanel.tenants.permissions import may
from engine.errors import NotFound, Unauthenticated

PERSON: Final = "person"  # ("person", user's number, fingerprint of the password); within a tenant ("person", tenant, number, fingerprint)
KEEP_S: Final = 60.0  # a password that was right is not hashed again for so long
_KEEP_MAX: Final = 10_000

_hashing = ThreadPoolExecutor(2, thread_name_prefix="passwords")  # of their own: who guesses holds up nobody but others who log in
_right: dict[bytes, tuple[float, Subject]] = {}
_pepper: Final = secrets.token_bytes(32)


@dataclass(frozen=True, slots=True)
class Subject:
    """``claims``: what a token of the service was given for; None: all that the subject may."""

    credential: tuple[str, ...] = ()
    label: str = ""
    address: str = ""
    claims: Claims | None = None

    @property
    def is_known(self) -> bool:
        return bool(self.credential)

    async def actor_in(self, tenant: str) -> Actor | None:
        """None: a stranger to it, or there is no such tenant. Unauthenticated when the credential counts no more."""
        if not self.credential:
            return None
        kind, *words = self.credential
        try:
            actor = await access.actor_by((kind, tenant, *words) if kind == PERSON else self.credential, address=self.address)
        except NotFound:
            return None
        if actor.tenant is None or actor.tenant.name != tenant:
            return None
        return replace(actor, door=Door.REGISTRY)

    async def tenants(self) -> list[int]:
        """Where it may pull."""
        if self.credential and self.credential[0] == PERSON:
            names = await database.read(_tenants_of, int(self.credential[1]))
        else:
            found = await access.actor_by(self.credential, address=self.address)
            names = [found.tenant.name] if found.tenant else []
        actors = [await self.actor_in(name) for name in names]
        return [actor.tenant_number for actor in actors if actor is not None and may(actor, "registry.pull")]


def _tenants_of(number: int) -> list[str]:
    return list(Membership.everywhere.filter(user=number, tenant__delete_at=None).values_list("tenant__name", flat=True))


async def asking(scope: Mapping[str, Any]) -> Subject:
    """Of a request. Unauthenticated for a credential that is wrong; none at all is nobody's."""
    address = came_from(scope)
    said = [value.decode("latin-1") for name, value in scope["headers"] if name == b"authorization"]
    if len(said) > 1:
        raise Unauthenticated("more than one Authorization header")
    if said:
        kind, _space, words = said[0].partition(" ")
        if kind.lower() == "basic":
            return await by_password(*parse_basic(words), address=address)
        if kind.lower() == "bearer":
            return await _by_bearer(words.strip(), address)
        raise Unauthenticated("Authorization must be Basic or Bearer")
    digest = access.shown_certificate(scope)
    if digest is not None:
        actor = await access.actor_for_certificate(digest, address=address)
        return Subject(actor.credential, actor.label, address)
    return Subject(address=address)


def parse_basic(words: str) -> tuple[str, str]:
    try:
        name, colon, password = base64.b64decode(words.strip(), validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        raise Unauthenticated("Authorization: Basic is not base64 of USER:PASSWORD") from None
    if not colon or "\0" in name:
        raise Unauthenticated("Authorization: Basic is not base64 of USER:PASSWORD")
    return name, password


async def by_password(name: str, password: str, *, address: str) -> Subject:
    """``password``: the user's, or an API token, whatever the name beside it."""
    if password.startswith(TOKEN_MARK):
        actor = await access.actor_for_token(password, address=address)
        return Subject(actor.credential, actor.label, address)
    key = hmac.digest(_pepper, f"{len(name)}:{name}{password}".encode(), "sha256")
    known = _right.get(key)
    if known is not None and known[0] > time.monotonic():
        return replace(known[1], address=address)
    user = await asyncio.get_running_loop().run_in_executor(_hashing, _user_by, name, password, address)
    subject = Subject((PERSON, str(user.pk), _fingerprint(user)), user.username, address)
    if len(_right) >= _KEEP_MAX:
        _right.clear()
    _right[key] = (time.monotonic() + KEEP_S, subject)
    return subject


def _user_by(name: str, password: str, address: str) -> User:
    try:
        return passwords.user_by(name, password, address=address, door=Door.REGISTRY)
    finally:
        connection.close()


async def _by_bearer(words: str, address: str) -> Subject:
    if words.startswith(TOKEN_MARK):
        return await by_password("", words, address=address)
    claims = tokens.read(words)
    return Subject(claims.credential, claims.label, address, claims)


async def by_refresh_token(words: str, *, address: str) -> Subject:
    """Unauthenticated unless its owner might still log in as they did when they got it."""
    claims = tokens.read(words, audience=tokens.REFRESH)
    if claims.credential[0] == PERSON:
        await database.read(_check_person, int(claims.credential[1]), claims.credential[2])
    else:
        await access.actor_by(claims.credential, address=address)
    return Subject(claims.credential, claims.label, address)


def _check_person(number: int, fingerprint: str) -> None:
    user = User.objects.filter(pk=number, is_active=True).first()
    if user is None or _fingerprint(user) != fingerprint or second_factor.is_set_up(user):
        raise Unauthenticated("this token is not valid here any more: log in again")


def _from_person(tenant: str, number: str, fingerprint: str, *, address: str) -> Actor:
    """A member, while the password is what it was."""
    actor = access.member(User(pk=int(number)), tenant, Door.REGISTRY, address)
    if actor.user is None or _fingerprint(actor.user) != fingerprint:
        raise Unauthenticated("the password has changed: log in again")
    return replace(actor, credential=(PERSON, tenant, number, fingerprint))


def _fingerprint(user: User) -> str:
    """Of the stored password: another password, another fingerprint."""
    return user.get_session_auth_hash()[:32]


access.found_by(PERSON, _from_person)
