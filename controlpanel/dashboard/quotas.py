"""What a tenant uses of what it may, as pages show it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, Final

from django.utils.translation import gettext_lazy as _

from controlpanel.base.templatetags.figures import iec
from controlpanel.tenants.quota.resources import CPU, RESOURCES, WARNING, Resource, Use

_TITLES: Final = {
    "containers": _("Containers"),
    "cpu": _("CPU promised"),
    "memory": _("Memory promised"),
    "swap": _("Swap promised"),
    "pids": _("Processes promised"),
    "disk": _("Disk promised"),
    "volumes": _("Volumes"),
    "networks": _("Networks"),
    "ports": _("Published ports"),
    "images": _("Images"),
    "logs": _("Logs on disk"),
    "builds": _("Builds at once"),
    "build-minutes": _("Build minutes today"),
    "members": _("Members"),
    "tokens": _("Tokens"),
    "projects": _("Projects"),
}
_STATES: Final = {
    "": ("", ""),
    "warning": ("yellow", _("nearly used up")),
    "full": ("red", _("used up")),
    "over": ("red", _("over the limit")),
}
_ALWAYS: Final = ("containers", "cpu", "memory", "pids", "disk", "images", "ports", "logs")

assert set(_TITLES) == {resource.name for resource in RESOURCES}


def meters(uses: Iterable[Use]) -> list[dict[str, Any]]:
    """For the overview: what matters always, and whatever is running out. What nobody can tell just now is left out."""
    return [_meter(use) for use in uses if use.used is not None and (use.resource.name in _ALWAYS or use.state)]


def table(uses: Iterable[Use]) -> list[dict[str, Any]]:
    return [_meter(use) for use in uses]


def _meter(use: Use) -> dict[str, Any]:
    """``low`` and ``high`` for <meter>: above the one it is yellow, above the other red."""
    tone, words = _STATES[use.state]
    return {
        "title": _TITLES[use.resource.name],
        "used": "–" if use.used is None else _figure(use.resource, use.used),
        "limit": _figure(use.resource, use.limit) if use.limit else "",
        "value": use.used or 0,
        "maximum": use.limit,
        "low": max(0, math.ceil(WARNING * use.limit) - 1),
        "high": max(0, use.limit - 1),
        "tone": tone,
        "state": words,
    }


def _figure(resource: Resource, count: int) -> str:
    if resource.name == CPU:
        return f"{count / 1e9:g}"
    return iec(count) if resource.unit == "bytes" else str(count)
