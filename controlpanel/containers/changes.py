"""What REST and the form ask of a container that exists, and Docker's update made of it. PURE; ``limits`` says what the words may be."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from controlpanel.base import units
from controlpanel.base.rest import Asked
from controlpanel.containers.creation import LIMITS, MEMORY, Size, size_bytes


class RestartIn(Asked):
    name: Literal["no", "always", "unless-stopped", "on-failure"]
    maximum_retries: int = 0


class UpdateIn(Asked):
    """What is null stays as it is."""

    memory: Size | None = Field(None, description='Bytes, or a size like "256m".', examples=["256m"])
    memory_swap: Size | None = Field(None, description="Memory and swap together; -1: no limit. Null: at least twice a new memory limit.")
    memory_reservation: Size | None = Field(None, description="What it keeps when memory is short.")
    cpus: float | None = Field(None, gt=0, examples=[0.5])
    cpu_shares: int | None = Field(None, description="Weight when CPUs are short; everybody's is 1024.")
    cpu_period_us: int | None = Field(None, description="In place of cpus, with cpu_quota_us: microseconds.")
    cpu_quota_us: int | None = Field(None, description="Microseconds of CPU time in each period.")
    cpuset_cpus: str | None = Field(None, examples=["0-3"])
    cpuset_mems: str | None = Field(None, examples=["0"])
    pids_limit: int | None = Field(None, description="0: no limit of its own.")
    blkio_weight: int | None = Field(None, description="10 to 1000.")
    layer_size: Size | None = Field(None, description="Of one that was made with a size; not in Docker.", examples=["20g"])
    restart: RestartIn | None = None


def to_docker(asked: UpdateIn, swap_bytes: int) -> dict[str, Any]:
    """The body of ``POST /containers/{id}/update``. ``swap_bytes``: memory and swap as it is now."""
    body: dict[str, Any] = {docker: getattr(asked, name) for name, docker in LIMITS.items() if getattr(asked, name) is not None}
    body |= {docker: size_bytes(getattr(asked, name)) for name, docker in MEMORY.items() if getattr(asked, name) is not None}
    if "MemorySwap" not in body and swap_bytes != -1 and body.get("Memory", 0) > swap_bytes:
        body["MemorySwap"] = 2 * body["Memory"]
    if asked.cpus is not None:
        body["NanoCpus"] = units.parse_nano_cpus(str(asked.cpus))
    if asked.layer_size is not None:
        body["StorageOpt"] = {"size": str(size_bytes(asked.layer_size))}
    if asked.restart is not None:
        body["RestartPolicy"] = {"Name": asked.restart.name, "MaximumRetryCount": asked.restart.maximum_retries}
    return body
