"""Builds of a tenant, as pages and REST show them."""

from __future__ import annotations

import time

from controlpanel.builds.models import Build
from controlpanel.tenants.actor import Actor
from engine.errors import NotFound

SHOWN = 200


def builds_of(actor: Actor) -> list[Build]:
    """The newest first."""
    return list(Build.objects.for_actor(actor).order_by("-began_ns")[:SHOWN])


def build_of(actor: Actor, build_id: str) -> Build:
    """By its id or the unique start of it."""
    found = list(Build.objects.for_actor(actor).filter(build_id__startswith=build_id)[:2]) if build_id.isalnum() else []
    if len(found) != 1:
        raise NotFound(f"No such build: {build_id}")
    return found[0]


def took_s(build: Build) -> float:
    return ((build.ended_ns or time.time_ns()) - build.began_ns) / 1e9
