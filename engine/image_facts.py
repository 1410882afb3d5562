"""Images as the rest of a host sees them: who uses one, and the records that lines of progress end with."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from engine.model.codec import to_json
from engine.model.volume import IMAGE

if TYPE_CHECKING:
    from engine.engine import Engine

Users = Callable[[str], list[str]]  # image id → ids of containers


def with_records(engine: Engine, tenant: str, lines: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The store ends with the ids; who keeps rows needs the records and the tenant's names of them."""
    for line in lines:
        if "images" not in line:
            yield line
            continue
        seen_ns, refs = time.time_ns(), engine.images.refs(tenant)
        images = [
            {
                "refs": sorted(ref for ref, known in refs.items() if known == image_id),
                "record": to_json(engine.images.get(image_id)),
                "time_ns": seen_ns,
            }
            for image_id in line["images"]
        ]
        yield {**line, "images": images}


def described(engine: Engine, tenant: str, image_ids: Sequence[str]) -> Sequence[dict[str, Any]]:
    """As the last line of a load has them."""
    (line,) = with_records(engine, tenant, iter([{"images": list(image_ids)}]))
    found: Sequence[dict[str, Any]] = line["images"]
    return found


def users(engine: Engine, tenant: str) -> tuple[Users, Users]:
    """The tenant's containers of an image; those of them that run. Looked up once, when first asked."""

    @functools.cache
    def found() -> tuple[dict[str, list[str]], dict[str, list[str]]]:
        all_of: dict[str, list[str]] = {}
        running_of: dict[str, list[str]] = {}
        for spec, state in engine.list(tenant):
            for image_id in {spec.image_id, *(mount.source for mount in spec.mounts if mount.type == IMAGE)}:
                all_of.setdefault(image_id, []).append(spec.id)
                if state.has_process:
                    running_of.setdefault(image_id, []).append(spec.id)
        return all_of, running_of

    return lambda image_id: found()[0].get(image_id, []), lambda image_id: found()[1].get(image_id, [])
