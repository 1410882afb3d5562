"""Someone at the panel's door for the audit log. Accounts know no tenants, and so no Actor."""

from __future__ import annotations

from dataclasses import dataclass

from django.http import HttpRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """An audit.services.Who of the platform's own chain."""

    label: str
    address: str = ""
    door_name: str = "panel"
    tenant_number: int = 0


NOBODY = "(not logged in)"
ROOT = Person(label="root", door_name="cli")  # at the machine's shell


def person(request: HttpRequest, label: str = "") -> Person:
    """Who sends this request: ``label``, else who is logged in."""
    name = label or (request.user.get_username() if request.user.is_authenticated else NOBODY)
    return Person(label=name, address=request.META.get("REMOTE_ADDR", ""), door_name=getattr(request, "door", "panel"))
