"""Which instances live on this machine, whatever claims file each of them uses: /run/slipway-instances/<instance>.json.

    {"data": "/var/lib/slipway", "subnets": ["10.128.0.0/14"], "claims": "/var/lib/slipway-claims.json"}

Written by every instance whenever it claims something, and lost at a reboot like all that it speaks of: cgroups, links, rules, mounts.
So whose such a thing is can be told also when its claims file (engine/claims.py) was another one or is gone, and two instances
that know nothing of each other do not choose the same network.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from engine import disk

FOLDER: Final = Path("/run/slipway-instances")


@dataclass(frozen=True, slots=True)
class Living:
    """``exists``: its folder is there and says that it is this instance's, so that all of it may be needed, now or by its next ``up``."""

    instance: str
    data: Path
    subnets: tuple[str, ...]
    claims: Path | None

    @property
    def exists(self) -> bool:
        try:
            return (self.data / "engine" / "instance").read_text().strip() == self.instance
        except FileNotFoundError:
            return False


def note(instance: str, data: Path, subnets: Iterable[str], claims: Path) -> None:
    """Root alone has instances; anybody else's notes would be nobody's business."""
    if os.geteuid() != 0:
        return
    FOLDER.mkdir(mode=0o755, exist_ok=True)
    record = {"data": str(data), "subnets": list(subnets), "claims": str(claims)}
    path = FOLDER / f"{instance}.json"
    if disk.read_json(path) != record:
        disk.write_json(path, record)


def forget(instance: str) -> None:
    (FOLDER / f"{instance}.json").unlink(missing_ok=True)


def noted() -> dict[str, Living]:
    """By instance, also those that exist no more: what they left may still be here."""
    found = {}
    for path in FOLDER.glob("[!.]*.json"):
        record = disk.read_json(path)
        if record is not None:
            claims = Path(record["claims"]) if record.get("claims") else None
            found[path.stem] = Living(path.stem, Path(record["data"]), tuple(record["subnets"]), claims)
    return found
