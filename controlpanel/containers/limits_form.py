"""``docker update`` as a form: limits and restart policy of a container that exists."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from controlpanel.base.units import show_bytes
from controlpanel.containers import limits
from controlpanel.containers.changes import UpdateIn, to_docker
from controlpanel.containers.form_fields import dress, said
from controlpanel.containers.projection import ContainerView
from controlpanel.containers.resource_fields import ResourceFields


class LimitsForm(ResourceFields):
    """Docker has no word for taking a limit away, but for that of processes: a field that was emptied is refused, not passed over."""

    field_order = (
        "memory", "memory_swap", "memory_reservation", "pids_limit", "cpus", "cpu_shares", "cpuset_cpus", "cpuset_mems",
        "cpu_period_us", "cpu_quota_us", "blkio_weight", "restart_policy", "restart_max_retries",
    )  # fmt: skip
    pids_limit = said(
        forms.IntegerField, _("Processes, at most"), "--pids-limit", like="100", min_value=0, hint=_("0: no limit of its own.")
    )
    cpu_shares = said(
        forms.IntegerField, _("CPU weight"), "--cpu-shares", like="1024", min_value=2, max_value=262_144,
        hint=_("1024 is everybody's; counts when CPUs are short."),
    )  # fmt: skip

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        dress(self)

    def clean(self) -> dict[str, Any]:
        for name in self.changed_data:
            if name == "pids_limit" and self.cleaned_data.get(name, 0) is None:
                self.cleaned_data[name] = 0
            elif name in UpdateIn.model_fields and name != "pids_limit" and not self.cleaned_data.get(name, True):
                self.add_error(name, _("A limit can be changed, but not taken away. Create the container anew without it."))
        return self.cleaned_data

    def to_docker(self, swap_bytes: int) -> dict[str, Any]:
        """The body of ``POST /containers/{id}/update`` with what was changed. ``swap_bytes``: memory and swap as it is now."""
        changed = {name: self.cleaned_data[name] for name in self.changed_data}
        if {"restart_policy", "restart_max_retries"} & set(self.changed_data):
            policy = self.cleaned_data["restart_policy"] or "no"
            retries = (self.cleaned_data["restart_max_retries"] or 0) if policy == "on-failure" else 0
            changed["restart"] = {"name": policy, "maximum_retries": retries}
        words = {name: value for name, value in changed.items() if name in UpdateIn.model_fields and (value or name == "pids_limit")}
        return to_docker(UpdateIn.model_validate(words), swap_bytes)


def now(view: ContainerView) -> dict[str, Any]:
    """What the form begins with: what the container has, and nothing where it has no limit."""
    has, policy = view.spec.resources, view.spec.restart
    swap = limits.swap_of(view.docker_host_config)
    return {
        "memory": show_bytes(has.memory_bytes) if has.memory_bytes else "",
        "memory_swap": "-1" if swap < 0 else show_bytes(swap) if swap else "",
        "memory_reservation": show_bytes(has.memory_reservation_bytes) if has.memory_reservation_bytes else "",
        "cpus": Decimal(has.nano_cpus) / 10**9 if has.nano_cpus else None,
        "cpu_shares": has.cpu_shares or None,
        "cpuset_cpus": has.cpuset_cpus,
        "cpuset_mems": has.cpuset_mems,
        "cpu_period_us": has.cpu_period_us or None,
        "cpu_quota_us": has.cpu_quota_us or None,
        "pids_limit": has.pids_limit or None,
        "blkio_weight": has.blkio_weight or None,
        "restart_policy": policy.name,
        "restart_max_retries": policy.maximum_retries or None,
    }
