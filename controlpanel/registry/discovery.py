"""Discovery: is this a registry, which repositories, which tags, what refers to a manifest."""

from __future__ import annotations

import re
from typing import Final

from controlpanel.base import database
from controlpanel.registry import door, queries
from controlpanel.registry.call import Call, next_page
from controlpanel.registry.errors import Refused
from controlpanel.registry.manifests import INDEX
from controlpanel.registry.names import is_digest
from controlpanel.registry.queries import PAGE

_NUMBER: Final = re.compile(r"[0-9]{1,9}")


async def base(call: Call) -> None:
    """Who is nobody is shown the way to a token, although what is public needs no name: so clients know where to ask."""
    if not call.subject.is_known and call.subject.claims is None:
        raise door.challenge(call)
    await call.reply_json({})


async def catalog(call: Call) -> None:
    tenants, limit = await door.tenants(call), _limit(call)
    names = await database.read(lambda: queries.catalog(tenants, last=call.text("last"), limit=limit + 1))
    await _reply(call, {"repositories": names[:limit]}, names, limit)


async def tags(call: Call) -> None:
    name, limit = call.params["name"], _limit(call)
    names = await door.read(call, name, queries.tags, last=call.text("last"), limit=limit + 1)
    await _reply(call, {"name": name, "tags": names[:limit]}, names, limit)


async def _reply(call: Call, words: dict[str, object], names: list[str], limit: int) -> None:
    """``names``: one more than shown where there are more."""
    await call.reply_json(words, next_page(call.path, limit, names[limit - 1]) if 0 < limit < len(names) else None)


def _limit(call: Call) -> int:
    words = call.values("n")
    if not words:
        return PAGE
    if not _NUMBER.fullmatch(words[0]):
        raise Refused("UNSUPPORTED", "n must be a number, 0 or more", status=400, n=words[0][:20])
    return min(PAGE, int(words[0]))


async def referrers(call: Call) -> None:
    """Never 404: what is not there nothing refers to."""
    name, digest, kind = call.params["name"], call.params["digest"], call.text("artifactType")
    if not is_digest(digest):
        raise Refused("DIGEST_INVALID", "no digest of sha256 or sha512", digest=digest[:200])
    last = call.text("last")
    after = int(last) if _NUMBER.fullmatch(last) else 0
    try:
        found, after = await door.read(call, name, queries.referrers, digest, artifact_type=kind, after=after)
    except Refused as error:
        if error.code != "NAME_UNKNOWN":
            raise
        found, after = [], 0
    headers = {"OCI-Filters-Applied": "artifactType"} if kind else {}
    if after:
        headers |= next_page(call.path, queries.REFERRERS_PAGE, str(after), artifactType=kind)
    await call.reply_json({"schemaVersion": 2, "mediaType": INDEX, "manifests": found}, headers, INDEX)
