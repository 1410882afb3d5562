"""What a tag was, and when. Kept for as long as the repository is there, so that what was deployed on a day can be told, and had back."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from controlpanel.registry.models import Move
from controlpanel.tenants.actor import Actor


def note(actor: Actor, repository_id: int, tags: Iterable[str], digest: str) -> None:
    """These tags are the manifest's from now on; "" as digest: they are gone. In the transaction that does it."""
    by = actor.label[:200]
    Move.objects.bulk_create([Move(repository_id=repository_id, tag=tag, digest=digest, by=by) for tag in tags])


def at(repository_id: int, tag: str, when: datetime) -> str | None:
    """The digest that the tag had then; "": it was away; None: it had never been there."""
    moves = Move.objects.filter(repository_id=repository_id, tag=tag, at__lte=when).order_by("-pk")
    found: str | None = moves.values_list("digest", flat=True).first()
    return found


def of(repository_id: int, tag: str, *, before: int = 0, limit: int) -> list[Move]:
    """Newest first. ``before``: the number of the last one that is known already."""
    moves = Move.objects.filter(repository_id=repository_id, tag=tag).order_by("-pk")
    return list((moves.filter(pk__lt=before) if before else moves)[:limit])
