"""The policy of a tenant: the page where operators of the platform change it, and the table that its members read."""

from __future__ import annotations

from functools import partial
from typing import Any, Final

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponseBase
from django.shortcuts import redirect, render
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from controlpanel.base import database
from controlpanel.containers.form_fields import LinesField, dress, said
from controlpanel.hosts import ceilings, tenants
from controlpanel.tenants import queries
from controlpanel.tenants.actor import Actor
from controlpanel.tenants.pages import platform_page
from controlpanel.tenants.policy import ITEMS, SWITCHES, Policy, with_values
from engine.model import grants

_TITLES: Final = {
    "privileged": (_("Privileged containers"), _("docker run --privileged: no filter of system calls, nothing hidden of /proc and /sys.")),
    "host_network": (_("The host’s network"), _("docker run --network host.")),
    "seccomp": (_("No seccomp filter"), _("seccomp=unconfined, or a profile in place of the platform’s own.")),
    "new_privileges": (_("New privileges"), _("By set-user-id programs such as sudo. Denied: no container can gain any.")),
    "capabilities": (_("Capabilities"), _("Beyond those that every container has, one a line; or all.")),
    "devices": (_("Devices"), _("Of the host, one a line; or all that root of the host grants.")),
    "registries": (_("Registries"), _("HOST or HOST:PORT of images, one a line; all; empty: none.")),
    "ports": (_("Host ports"), _("That may be published, one range a line; all; empty: none.")),
    "addresses": (_("Host addresses"), _("On which ports may be published, or networks, one a line; all; empty: none.")),
}
_ROOTS: Final = {"folders": _("Folders of the host"), "exports": _("Exports of NFS servers")}  # which no policy grants
_LIKE: Final = {
    "capabilities": "NET_ADMIN",
    "devices": "/dev/fuse:rw",
    "registries": "HOST:5000",
    "ports": "8000-8999",
    "addresses": "127.0.0.1",
}

assert set(_TITLES) == set(ITEMS)


class _GrantsField(LinesField):
    kind = ""

    def entry(self, line: str) -> str:
        return line if line.lower() == grants.ALL else grants.CHECKS[self.kind](line)


class PolicyForm(forms.Form):
    """A field for each item of the policy."""

    def __init__(self, policy: Policy, words: Any = None) -> None:
        values = {item: getattr(policy, item) for item in ITEMS}
        super().__init__(words, initial={item: value if item in SWITCHES else "\n".join(value) for item, value in values.items()})
        for item, (title, hint) in _TITLES.items():
            field = said(forms.BooleanField if item in SWITCHES else _GrantsField, title, "", like=_LIKE.get(item, ""), hint=hint)
            if isinstance(field, _GrantsField):
                field.kind = item
            self.fields[item] = field
        dress(self)
        for item in set(ITEMS) - SWITCHES:  # all of it is seen at once
            self.fields[item].widget.attrs["rows"] = min(10, max(2, len(getattr(policy, item))))


@platform_page("tenant.policy", fresh=True)
async def policy(request: HttpRequest, actor: Actor, tenant: str) -> HttpResponseBase:
    row = await database.read(queries.tenant_named, tenant)
    form = PolicyForm(row.policy, request.POST if request.method == "POST" else None)
    if form.is_valid():
        await tenants.change_policy(actor, tenant, partial(with_values, values=form.cleaned_data))
        messages.success(request, gettext("The policy holds for whatever is made from now on."))
        return redirect("policy", tenant)
    granted = await ceilings.of_tenant(row)
    fields = [(form[item], None if granted is None or item not in granted else _spelled(granted[item])) for item in ITEMS]
    roots = [(title, _spelled(granted[name])) for name, title in _ROOTS.items()] if granted is not None else []
    context = {"nav": "tenants", "tenant": tenant, "form": form, "fields": fields, "roots": roots, "silent": granted is None}
    return render(request, "platform/policy.html", context, status=400 if form.errors else 200)


def table(policy: Policy, granted: dict[str, Any] | None) -> list[dict[str, Any]]:
    """``granted``: by root of the host; None: it does not answer."""
    rows = [
        {"title": title, "hint": hint, "policy": _spelled(getattr(policy, item)), "item": item} for item, (title, hint) in _TITLES.items()
    ]
    rows += [{"title": title, "policy": "", "item": name} for name, title in _ROOTS.items()]
    for row in rows:
        row["granted"] = "" if granted is None or row["item"] not in granted else _spelled(granted[row["item"]])
    return rows


def _spelled(value: bool | list[str] | tuple[str, ...]) -> Any:
    if isinstance(value, bool):
        return _("yes") if value else _("no")
    return _("all") if grants.ALL in value else ", ".join(value) or _("none")
