"""Looking for words in the logs of a tenant's containers, and how many bytes those take. The host does it: workers/agent/search.py."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from controlpanel.containers import projection
from controlpanel.hosts import log_use
from controlpanel.hosts.streams import open_stream
from controlpanel.tenants.actor import Actor
from controlpanel.tenants.permissions import require
from engine.errors import InvalidArgument


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """``containers``: names or ids; none = all of the tenant that keep a log. The rest as engine.runtime.log_grep has it."""

    pattern: str
    containers: Sequence[str] = ()
    ignore_case: bool = False
    stdout: bool = True
    stderr: bool = True
    since_ns: int = 0
    until_ns: int = 0
    limit: int = 1000


async def search(actor: Actor, question: Question) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Matches as {"id", "name", "time_ns", "stream", "text"} by time; and the host's word on what it looked at (log_grep.Done)."""
    require(actor, "container.view")
    if question.containers:
        views = [await projection.container(actor, name) for name in question.containers]
    else:
        views = [view for view in await projection.containers(actor) if view.spec.log.driver != "none"]
    if actor.tenant is None:
        raise InvalidArgument("containers belong to a tenant: none was named")
    if not views:
        return [], {"complete": True, "reason": "", "bytes": 0, "looked_until_ns": 0}
    names = {view.id: view.name for view in views}
    words = {name: getattr(question, name) for name in ("pattern", "ignore_case", "stdout", "stderr", "since_ns", "until_ns", "limit")}
    _ok, reader, writer = await open_stream("search", actor.tenant.name, "", ids=list(names), **words)
    try:
        rows = [orjson.loads(line) async for line in reader]
    finally:
        writer.close()
    return [{**row, "name": names[row["id"]]} for row in rows if "done" not in row], rows[-1]["done"]


async def bytes_used(actor: Actor) -> int:
    """Of all logs of the tenant, as they lie on the disk now."""
    require(actor, "tenant.view")
    if actor.tenant is None:
        raise InvalidArgument("logs belong to a tenant: none was named")
    return await log_use.of_tenant(actor.tenant)
