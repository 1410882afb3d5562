"""The health of a container with its last probes, which are too long and too many for rows: they are read on the host."""

from __future__ import annotations

import logging

from controlpanel.containers.projection import ContainerView
from controlpanel.hosts.streams import open_stream
from engine.errors import EngineError
from engine.model import codec
from engine.model.container import HealthState

log = logging.getLogger(__name__)

_PATIENCE_S = 3.0  # an inspect shall not wait long for an agent that hangs


async def probes(view: ContainerView) -> HealthState | None:
    """None without a health check, or before the first start. Without probes while the host's agent is away."""
    if view.state.health is None:
        return None
    try:
        ok, _reader, writer = await open_stream("health", view.spec.tenant, view.id, answer_within_s=_PATIENCE_S)
    except EngineError as error:
        log.debug("probes of %s: %s", view.id[:12], error.message)
        return view.state.health
    writer.close()
    found = ok.get("health")
    return codec.from_json(HealthState, found) if found else view.state.health
