"""Porter's child that reads layers as they lie on the disk, where ids are the container's: changes, diff, text diff, commit."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from engine.config import EngineConfig
from engine.files import sinks
from engine.files.child import Child, write
from engine.files.compare import LETTERS, Change, compare
from engine.files.layer import LayerPacker
from engine.files.pathstat import go_mode
from engine.files.stack import Roots
from engine.files.textdiff import text_diff
from engine.images import commit
from engine.images.commit import Commit
from engine.images.store import ImageStore
from engine.images.streams import CHUNK
from engine.model.codec import from_json, to_json
from engine.runtime.layers import open_to_read

_LINES = 1000  # of a diff, in one write


class Reading(Child):
    """``layers``: the engine's folder, mounted read-only and nodev."""

    def __init__(self, words: dict[str, Any], fds: dict[str, int], parent: int, layers: int, config: EngineConfig) -> None:
        super().__init__(words, fds, parent)
        self._layers, self._config = layers, config
        self._open: dict[str, int] = {}

    def _roots(self, side: str) -> Roots:
        """Equal layers of both sides are one descriptor: that is how they are known to be equal."""
        for name in self.words[side]:
            if name not in self._open:
                self._open[name] = open_to_read(self._config, self._layers, name)
        return tuple(self._open[name] for name in self.words[side])

    def _changes(self) -> None:
        self.say({"ok": {}})
        changes = compare(self._roots("old"), self._roots("new"))
        self.say({"done": {}})
        array = [{"Path": text_of(change.path), "Kind": change.kind} for change in changes]
        write(self.client, json.dumps(array or None, separators=(",", ":")).encode() + b"\n")

    def _diff(self) -> None:
        self.say({"ok": {}})
        changes = compare(self._roots("old"), self._roots("new"), whole=True)
        self.say({"done": {"count": len(changes)}})
        for first in range(0, len(changes), _LINES):
            lines = (json.dumps(line_of(change), separators=(",", ":")) for change in changes[first : first + _LINES])
            write(self.client, "\n".join(lines).encode() + b"\n")

    def _text(self) -> None:
        self.say({"ok": {}})
        self.say({"done": text_diff(self._roots("old"), self._roots("new"), self.path)})

    def _commit(self) -> None:
        self.say({"ok": {}})
        store, tenant = ImageStore(self._config), self.words["tenant"]
        top = open_to_read(self._config, self._layers, self.words["upper"], os.O_RDONLY | os.O_DIRECTORY)
        image_id = commit.commit(
            store,
            tenant,
            store.get(self.words["image"]),
            from_json(Commit, self.words["commit"]),
            lambda: sinks.to_chunks(LayerPacker().folder(top, "", itself=False), CHUNK),
        )
        refs = sorted(ref for ref, known in store.refs(tenant).items() if known == image_id)
        self.say({"done": {"image": {"refs": refs, "record": to_json(store.get(image_id))}}})

    ops: ClassVar[Mapping[str, Callable[[Any], None]]] = {"changes": _changes, "diff": _diff, "text": _text, "commit": _commit}


def line_of(change: Change) -> dict[str, Any]:
    """{"path", "kind": A M or D, "what": [mode, owner, size, time, kind, device], "before", "after": {mode, uid, gid, size} or null}."""
    return {
        "path": text_of(change.path),
        "kind": LETTERS[change.kind],
        "what": list(change.what),
        "before": _facts(change.before),
        "after": _facts(change.after),
    }


def _facts(status: os.stat_result | None) -> dict[str, Any] | None:
    """``mode`` as Go has it."""
    if status is None:
        return None
    return {"mode": go_mode(status.st_mode), "uid": status.st_uid, "gid": status.st_gid, "size": status.st_size}


def text_of(path: str) -> str:
    """For JSON: bytes that are no UTF-8 become the sign that says so, as Go does it."""
    return os.fsencode(path).decode("utf-8", "replace")
