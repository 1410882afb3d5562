"""What a tenant, and a project of it, may be limited in. PURE.

A limit of 0 is none. Cpu, memory, swap, processes and ports are taken while a container runs (or is about to), the rest from creation
to removal. What a container does not declare of the first three the tenant's cgroup holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from engine.errors import InvalidArgument


@dataclass(frozen=True, slots=True)
class Resource:
    """``name`` is the word in refusals and their rule (``quota.memory``); ``column`` is the limit's, of tenants.models.Quota or Tenant."""

    name: str
    column: str
    unit: str  # "": just a number of them
    of_project: bool = True


CONTAINERS: Final = "containers"
CPU: Final = "cpu"
MEMORY: Final = "memory"
SWAP: Final = "swap"
PIDS: Final = "pids"
DISK: Final = "disk"
VOLUMES: Final = "volumes"
NETWORKS: Final = "networks"
PORTS: Final = "ports"
IMAGES: Final = "images"
LOGS: Final = "logs"
BUILDS: Final = "builds"
BUILD_MINUTES: Final = "build-minutes"
MEMBERS: Final = "members"
TOKENS: Final = "tokens"
PROJECTS: Final = "projects"

RESOURCES: Final = (
    Resource(CONTAINERS, "containers_max", ""),
    Resource(CPU, "nano_cpus", "billionths of a CPU"),
    Resource(MEMORY, "memory_bytes", "bytes"),
    Resource(SWAP, "swap_bytes", "bytes"),
    Resource(PIDS, "pids", "processes"),
    Resource(DISK, "disk_bytes", "bytes"),
    Resource(VOLUMES, "volumes_max", ""),
    Resource(NETWORKS, "networks_max", ""),
    Resource(PORTS, "ports_max", ""),
    Resource(IMAGES, "image_bytes", "bytes", of_project=False),
    Resource(LOGS, "log_bytes", "bytes", of_project=False),
    Resource(BUILDS, "builds_max", "at once", of_project=False),
    Resource(BUILD_MINUTES, "build_minutes", "minutes a day", of_project=False),
    Resource(MEMBERS, "members_max", "", of_project=False),
    Resource(TOKENS, "tokens_max", "", of_project=False),
    Resource(PROJECTS, "projects_max", "", of_project=False),
)
LIMIT_MAX: Final = (1 << 63) - 1  # what a column holds
COUNT_MAX: Final = (1 << 31) - 1  # of things that are counted one by one


def check_limit(column: str, value: int) -> None:
    """InvalidArgument for what is no limit."""
    most = COUNT_MAX if column.endswith("_max") or column == "build_minutes" else LIMIT_MAX
    if not 0 <= value <= most:
        raise InvalidArgument(f"{column} {value}: a limit is from 0 (unlimited) to {most}")


BY_NAME: Final = {resource.name: resource for resource in RESOURCES}
BY_COLUMN: Final = {resource.column: resource for resource in RESOURCES}
OF_TENANT: Final = tuple(resource.column for resource in RESOURCES)  # the columns of a tenant's quota
OF_PROJECT: Final = tuple(resource.column for resource in RESOURCES if resource.of_project)
DECLARED: Final = frozenset({CPU, MEMORY, PIDS})  # a project has no cgroup: its part of these holds only when every container declares one

WARNING: Final = 0.8  # of a limit


@dataclass(frozen=True, slots=True)
class Use:
    """``used`` None: nobody can tell just now. ``limit`` 0: none."""

    resource: Resource
    limit: int
    used: int | None

    @property
    def state(self) -> str:
        """ "", "warning" from 80 % on, "full", or "over" what a later, smaller limit allows."""
        if not self.limit or self.used is None:
            return ""
        if self.used > self.limit:
            return "over"
        if self.used == self.limit:
            return "full"
        return "warning" if self.used >= WARNING * self.limit else ""


def amount(resource: Resource, count: int) -> str:
    """``3 containers``, ``1024 bytes``, as refusals say it."""
    return f"{count} {resource.unit}".rstrip()
