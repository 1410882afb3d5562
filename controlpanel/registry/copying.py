"""A manifest given to another repository or another tag, without a byte moving: promote, retag, return to what a tag was."""

from __future__ import annotations

from django.db import transaction

from controlpanel.registry import manifests, queries, services
from controlpanel.registry.errors import Refused
from controlpanel.tenants.actor import Actor
from controlpanel.tenants.permissions import require

_DEEPEST = 4  # an index of indexes, and what refers to them


@transaction.atomic
def copy(actor: Actor, source: str, reference: str, target: str, tag: str = "", *, public_only: bool = False) -> str:
    """With all it is made of, and what refers to it (signatures, SBOMs). Its digest. ``public_only``: as far as everybody may pull it.
    Who may not pull may not copy: it could be to where others pull."""
    require(actor, "registry.push")
    require(actor, "registry.pull")
    done: set[str] = set()
    return _copy(actor, source, reference, target, tag, public_only=public_only, done=done, depth=0)


def _copy(actor: Actor, source: str, reference: str, target: str, tag: str, *, public_only: bool, done: set[str], depth: int) -> str:
    found = queries.manifest(source, reference, public_only=public_only)
    if found.digest in done:
        return found.digest
    done.add(found.digest)
    if depth > _DEEPEST:
        raise Refused("MANIFEST_INVALID", "indexes of indexes of indexes are not copied", digest=found.digest)
    parsed = manifests.read(found.body, found.media_type)
    if source != target:
        for child in parsed.children:
            _copy(actor, source, child, target, "", public_only=public_only, done=done, depth=depth + 1)
        for blob in parsed.blobs:
            services.mount(actor, target, blob, source, public_only=public_only)
    services.put_manifest(actor, target, found.digest, parsed, found.body, [tag] if tag else [])
    if source != target:
        for about in queries.about(source, found.digest):
            _copy(actor, source, about, target, "", public_only=public_only, done=done, depth=depth + 1)
    return found.digest
