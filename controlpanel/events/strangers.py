"""Containers that a host names and the panel has no row of: their rows come back, by what the host's records say.

Who asks is the panel, so nobody gains by it what the panel had not; whose a container is, the host alone decides (the record of root's
that the engine wrote), and it comes back only to the very tenant whom it was made for. For one that is gone it stays on the host,
and ``doctor --repair`` tells of it.
"""

from __future__ import annotations

import logging

from controlpanel.base import database
from controlpanel.containers.recovery import restore
from controlpanel.events import ingest
from controlpanel.hosts import queries
from controlpanel.hosts.streams import open_stream
from engine.errors import AlreadyExists, EngineError, Unavailable
from engine.model import codec
from engine.model.container import ContainerSpec, ContainerState

log = logging.getLogger(__name__)

Strangers = dict[str, str]  # container id → tenant


async def take_in(strangers: Strangers) -> Strangers:
    """Those to be tried again in a moment. Unavailable when the host's agent goes away meanwhile."""
    held: Strangers = {}
    for container_id, tenant in strangers.items():
        try:
            ok, _reader, writer = await open_stream("spec", tenant, container_id)
            writer.close()
            host = await database.read(queries.local_host)
            await database.run(restore, host, codec.from_json(ContainerSpec, ok["spec"]), codec.from_json(ContainerState, ok["state"]))
        except AlreadyExists as error:
            held[container_id] = tenant
            log.info("container %s of %s has no row, and must wait: %s", container_id[:12], tenant, error.message)
        except Unavailable:
            raise
        except EngineError as error:
            log.warning("container %s of %s has no row, and gets none: %s", container_id[:12], tenant, error.message)
        except Exception as error:  # a record that nobody understands must not keep the others out
            ingest.give_up({"spec": container_id, "tenant": tenant}, error)
    return held
