"""``/v2/token``: a token for what is asked, as far as the asker may (distribution's token and OAuth2 specifications).

    GET  ?service=…&scope=repository:acme/web:pull,push&scope=…[&offline_token=true]     Basic, or nobody
    POST grant_type=password&username=…&password=…  |  grant_type=refresh_token&refresh_token=…   scope, access_type=offline

Fewer actions than were asked for are no refusal: the registry says no to what the token does not have.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import parse_qsl

from controlpanel.registry import door, subjects, tokens
from controlpanel.registry.call import Call
from controlpanel.registry.errors import Refused
from controlpanel.registry.names import is_name
from controlpanel.registry.subjects import Subject
from controlpanel.registry.tokens import Claims
from engine.errors import Unauthenticated

_SCOPES_MAX: Final = 50
_SCOPE: Final = re.compile(r"(?P<kind>[a-z]+)(?:\([a-z]+\))?:(?P<name>[^\s]+):(?P<actions>[a-z*]+(?:,[a-z*]+)*)")


async def get(call: Call) -> None:
    scopes = [scope for words in call.values("scope") for scope in words.split()]
    await _give(call, call.subject, scopes, offline=call.text("offline_token") == "true")


async def post(call: Call) -> None:
    form = dict(parse_qsl((await call.read_body()).decode("latin-1"), keep_blank_values=True, encoding="utf-8"))
    address = call.subject.address
    match form.get("grant_type"):
        case "password":
            subject = await subjects.by_password(form.get("username", ""), form.get("password", ""), address=address)
        case "refresh_token":
            subject = await subjects.by_refresh_token(form.get("refresh_token", ""), address=address)
        case _:
            raise Refused("UNSUPPORTED", "grant_type must be password or refresh_token", status=400)
    await _give(call, subject, form.get("scope", "").split(), offline=form.get("access_type") == "offline")


async def _give(call: Call, subject: Subject, scopes: Iterable[str], *, offline: bool) -> None:
    if subject.claims is not None:
        raise Unauthenticated("a token is no way to another token: log in with a password or an API token")
    access = await _access(subject, list(scopes))
    claims = Claims(subject.credential, subject.label, access)
    token = tokens.issue(claims)
    words: dict[str, Any] = {
        "token": token,
        "access_token": token,
        "expires_in": tokens.LIFETIME_S,
        "issued_at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    if offline and subject.is_known:
        words["refresh_token"] = tokens.issue(
            Claims(subject.credential, subject.label), audience=tokens.REFRESH, lifetime_s=tokens.REFRESH_LIFETIME_S
        )
    await call.reply_json(words, {"Cache-Control": "no-store"})


async def _access(subject: Subject, scopes: list[str]) -> dict[tokens.Scope, frozenset[str]]:
    if len(scopes) > _SCOPES_MAX:
        raise Refused("UNSUPPORTED", f"more than {_SCOPES_MAX} scopes", status=400)
    given: dict[tokens.Scope, frozenset[str]] = {}
    for scope in scopes:
        found = _SCOPE.fullmatch(scope)
        if found is None or (found["kind"] == "repository" and not is_name(found["name"])):
            continue
        key = (found["kind"], found["name"])
        actions = frozenset(found["actions"].split(","))
        if granted := await door.granted(subject, *key, actions):
            given[key] = given.get(key, frozenset()) | granted
    return given
