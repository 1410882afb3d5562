"""``status``: each part, its pid, healthy or why not."""

from __future__ import annotations

import json

from workers.platform import health
from workers.platform.places import Places
from workers.platform.say import line


def status(places: Places, *, as_json: bool) -> int:
    """Exit code 0 only when every part is healthy."""
    found = health.check(places)
    healthy = all(part.healthy for part in found)
    if as_json:
        line(json.dumps({"healthy": healthy, "parts": [part.to_json() for part in found]}))
    else:
        for part in found:
            line(f"{part.name:<13} {part.pid or '-':>8}  {'healthy' if part.healthy else part.detail}")
    return 0 if healthy else 1
