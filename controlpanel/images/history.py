"""How an image came about: the entries of its history, each with the layer that it made."""

from __future__ import annotations

from dataclasses import dataclass

from controlpanel.images import usage
from controlpanel.images.projection import ImageView


@dataclass(frozen=True, slots=True)
class Step:
    """``layer`` is the diffID of what it added, "" of a step that changed only the config."""

    created: str  # RFC 3339, or what the config says instead
    created_by: str
    comment: str
    layer: str
    bytes: int


def steps(view: ImageView) -> list[Step]:
    """Oldest first. Each layer belongs to the next entry that is not marked as one without; layers no entry tells of have one each."""
    made = iter(list(zip(view.record.diff_ids, (size for _chain, size in usage.layers(view)), strict=True)))
    found = []
    for entry in view.record.config.get("history") or []:
        if isinstance(entry, dict):
            layer, size = ("", 0) if entry.get("empty_layer") else next(made, ("", 0))
            created, by, comment = (str(entry.get(name) or "") for name in ("created", "created_by", "comment"))
            found.append(Step(created, by, comment, layer, size))
    found += [Step("", "", "", layer, size) for layer, size in made]
    return found or [Step(view.record.created, "", "", "", 0)]
