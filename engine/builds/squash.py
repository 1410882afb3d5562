"""``--squash``: all layers above the base image's become one, as moby's experimental flag has it. The history stays, its layers empty."""

from __future__ import annotations

import stat
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from engine.builds.cache import Step
from engine.builds.files import File, walk
from engine.builds.layertree import LayerTree
from engine.builds.layout import Layout, gathered

if TYPE_CHECKING:
    from engine.builds.stage import Shop

_WHITEOUT: Final = ".wh."


def squashed(shop: Shop, step: Step, parent: Step) -> Step:
    """The step with the layers of ``parent``, its base, and one of its own. Without layers of its own it stays as it is."""
    base_depth = len(parent.chain)
    if len(step.chain) <= base_depth:
        return step
    layers = shop.engine.config.layers
    folders = [layers / chain_id / "diff" for chain_id in reversed(step.chain)]
    whole, below = LayerTree(folders), LayerTree(folders[len(folders) - base_depth :])
    try:
        moment = shop.epoch_s if shop.epoch_s is not None else int(time.time())
        layout = Layout(below, now_s=moment, latest_s=shop.epoch_s)
        base = replace(
            step,
            chain=step.chain[:base_depth],
            blobs=step.blobs[:base_depth],
            layer_bytes=step.layer_bytes[:base_depth],
        )
        source = gathered(_differences(layout, whole, below))
        return shop.workshop.layered(base, source, lambda diff_id: _image(step, parent, diff_id), "")
    finally:
        whole.close()
        below.close()


def _differences(layout: Layout, whole: LayerTree, below: LayerTree) -> Iterator[bytes]:
    for path, file in walk(whole, ""):
        old = below.find(path)
        if old is not None and (_looks_same(old, file) if file.is_folder else whole.identity(path) == below.identity(path)):
            continue
        yield from layout.put(path, file, whole.read(path) if file.is_regular else None)
    for path, _file in walk(below, ""):
        above, _slash, name = path.rpartition("/")
        if whole.find(path) is None and (not above or ((parent := whole.find(above)) is not None and parent.is_folder)):
            hidden = f"{above}/{_WHITEOUT}{name}" if above else f"{_WHITEOUT}{name}"
            yield from layout.put(hidden, File(mode=stat.S_IFREG), iter(()))


def _looks_same(old: File, new: File) -> bool:
    """Of folders, which every layer that writes into them has anew."""
    return (old.mode, old.uid, old.gid) == (new.mode, new.uid, new.gid)


def _image(step: Step, parent: Step, diff_id: str) -> dict[str, Any]:
    base_depth = len(parent.chain)
    image = dict(step.image)
    history = [dict(entry) for entry in image["history"]]
    layers = 0
    for entry in history:
        if not entry.get("empty_layer"):
            layers += 1
            if layers > base_depth:
                entry["empty_layer"] = True
    created = image["created"]
    merged: dict[str, Any] = {"created": created, "comment": f"merge {step.image_id} to {parent.image_id}"}
    if not diff_id:
        merged["empty_layer"] = True
    diff_ids = image["rootfs"]["diff_ids"][:base_depth] + ([diff_id] if diff_id else [])
    return {**image, "history": [*history, merged], "rootfs": {"type": "layers", "diff_ids": diff_ids}}
