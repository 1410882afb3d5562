"""--cache-from: steps of images that came from elsewhere count as cached where their history says the same. moby's rules."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from engine.builds.cache import Step
from engine.builds.workshop import Workshop
from engine.model.image import ImageRecord


class Foreign:
    """``images``: those that were named and are here."""

    def __init__(self, workshop: Workshop, images: Sequence[ImageRecord]) -> None:
        self._steps = [workshop.base(record) for record in images]
        self._workshop = workshop

    def find(self, parent: Step, command: Sequence[str], child: Callable[..., dict[str, Any]]) -> Step | None:
        """``child``: as StageRun has it: command, diffID and time to an image config."""
        for source in self._steps:
            history = source.image.get("history") or []
            before = parent.image.get("history") or []
            if len(history) <= len(before) or not _is_parent(parent, source):
                continue
            entry = history[len(before)]
            if entry.get("created_by") != " ".join(command):
                continue
            created = str(entry.get("created") or "")
            if entry.get("empty_layer"):
                return self._workshop.plain(parent, child(command, "", created=created), "")
            depth = len(parent.chain)
            if depth >= len(source.chain):
                continue
            image = child(command, source.image["rootfs"]["diff_ids"][depth], created=created)
            return self._workshop.lent(parent, source, image)
        return None


def _is_parent(parent: Step, source: Step) -> bool:
    """Whether the source was made on these very layers, by the same words."""
    if source.chain[: len(parent.chain)] != parent.chain:
        return False
    before, history = parent.image.get("history") or [], source.image.get("history") or []
    return all(
        (ours.get("created_by"), bool(ours.get("empty_layer"))) == (theirs.get("created_by"), bool(theirs.get("empty_layer")))
        for ours, theirs in zip(before, history, strict=False)
    )
