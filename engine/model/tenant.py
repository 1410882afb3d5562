"""A tenant as one host knows it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from engine.errors import InvalidArgument
from engine.model.bandwidth import Bandwidth
from engine.model.resources import Resources

IDS_PER_TENANT = 65536
_NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantHost:
    """What the host gave a tenant, for good: never reused while anything of the old owner exists."""

    name: str
    number: int  # small and unique on the host: part of link names
    uid_start: int  # container id 0 outside; the range is IDS_PER_TENANT long, for uids and gids
    subnet: str  # of the default bridge, e.g. 10.128.0.0/20
    limits: Resources = field(default_factory=Resources)  # the wall: the tenant's cgroup
    force_no_new_privileges: bool = False
    bandwidth: Bandwidth = field(default_factory=Bandwidth)  # of all its networks together, beyond what stays in them
    registries: tuple[str, ...] = ("all",)  # that it may speak to, in words of engine.model.grants
    log_bytes: int = 0  # of output that is kept of all its containers together; 0 = the ceiling's


def check_tenant_name(name: str) -> str:
    """The name itself, or InvalidArgument: it must fit a DNS label, a path and a socket address."""
    if not _NAME.fullmatch(name) or name == "public":
        raise InvalidArgument(
            f"invalid tenant name {name!r}: use 1 to 63 lower-case letters, digits and dashes, a letter or digit at both ends"
        )
    return name
