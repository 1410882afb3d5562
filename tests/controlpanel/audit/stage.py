"""A tenant in which there is something of everything, for the walks over all that changes something."""

from __future__ import annotations

import hashlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final

from controlpanel.base import database
from controlpanel.containers import services as containers
from controlpanel.execs import services as execs
from controlpanel.images import transfers
from controlpanel.networks import services as networks
from controlpanel.registry import manifests, rules
from controlpanel.registry import services as repositories
from controlpanel.tenants import groups
from controlpanel.volumes import services as volumes
from engine.model.execution import ExecSpec

TAR: Final = bytes(10240)
INDEX: Final = b'{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": []}'
INDEX_DIGEST: Final = f"sha256:{hashlib.sha256(INDEX).hexdigest()}"


@dataclass
class Stage:
    """A tenant in which there is something of everything, anew for each act."""

    alice: Any
    host: Any
    numbers: Any
    container: str = ""
    id: str = ""
    network: str = ""
    volume: str = ""
    group: str = ""

    async def stopped(self) -> None:
        self.container = f"c{next(self.numbers)}"
        self.id = (await containers.create_container(self.alice, {"Image": "busybox", "OpenStdin": True}, name=self.container)).id

    async def running(self) -> None:
        await self.stopped()
        await containers.start_container(self.alice, self.container)

    async def networked(self) -> None:
        self.network = f"n{next(self.numbers)}"
        await networks.create_network(self.alice, {"Name": self.network, "Driver": "bridge"})

    async def filled(self) -> None:
        self.volume = f"v{next(self.numbers)}"
        await volumes.create(self.alice, self.volume, options={"size": "64m"})

    async def gathered(self) -> None:
        """Somebody is in the group."""
        self.group = f"g{next(self.numbers)}"
        await database.run(groups.create_group, self.alice, self.group)
        await database.run(groups.add_to_group, self.alice, self.group, self.alice.user)

    async def pushed(self) -> None:
        await database.run(repositories.to_push, self.alice, "acme/web")

    async def tagged(self) -> None:
        parsed = manifests.read(INDEX, manifests.INDEX)
        await database.run(repositories.put_manifest, self.alice, "acme/web", INDEX_DIGEST, parsed, INDEX, ["1"])

    async def discarded(self) -> None:
        await self.tagged()
        await database.run(repositories.delete_manifest, self.alice, "acme/web", INDEX_DIGEST)

    async def discarded_by_rule(self) -> None:
        await self.tagged()
        await database.run(lambda: rules.create(self.alice, "keep", "**", "other", last=1))

    async def loaded(self) -> None:
        async with transfers.receive(self.alice, "load", _nothing()) as lines:
            async for _line in lines:
                pass

    async def exec(self) -> str:
        await self.running()
        return (await execs.create(self.alice, self.container, ExecSpec(id="", args=("sh",)))).id


async def _nothing() -> AsyncIterator[bytes]:
    yield TAR


def host_that_does_all(host: Any) -> None:
    """Volumes, images and what the tests' host knows nothing of."""
    plain = host._do

    def do(verb: str, payload: dict[str, Any]) -> dict[str, Any]:
        if "volume" in payload:
            name = payload.get("name", payload["volume"]["name"])
            return {"volume": {**payload["volume"], "name": name, "created_ns": time.time_ns()}}
        if verb == "prune" and "names" in payload:
            return {"volumes": [{"name": name, "created_ns": time.time_ns()} for name in payload["names"]], "bytes": 0}
        if verb == "prune" or "ref" in payload or "image_id" in payload:
            return {"untagged": {} if verb == "prune" else [], "deleted": [], "bytes": 0}
        if verb in ("pause", "unpause"):
            state = {**host.states[payload["id"]], "status": "paused" if verb == "pause" else "running"}
            state["change"] = state.get("change", 0) + 1
            host.states[payload["id"]] = state
            return {"state": state}
        if verb in ("kill", "restart"):
            return plain("start" if verb == "restart" else "stop", payload)
        return dict(plain(verb, payload))

    host._do = do
