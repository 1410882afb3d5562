"""The fields that starting a container and changing its limits have in common."""

from __future__ import annotations

from typing import Final

from django import forms
from django.utils.translation import gettext_lazy as _

from controlpanel.containers.form_fields import SizeField, SwapField, said

_POLICIES: Final = [
    ("no", _("no")),
    ("unless-stopped", _("unless-stopped: until somebody stops it")),
    ("always", _("always: also after a reboot when it was stopped")),
    ("on-failure", _("on-failure: when it ends with an error")),
]


class ResourceFields(forms.Form):
    """Their order is the subclass's."""

    memory = said(SizeField, _("Memory limit"), "--memory", "size", like="256m")
    memory_swap = said(
        SwapField, _("Memory and swap"), "--memory-swap", "size", like="512m", hint=_("-1: no limit; empty: twice the memory.")
    )
    memory_reservation = said(SizeField, _("Memory kept for it"), "--memory-reservation", "size", like="128m")
    cpus = said(forms.DecimalField, _("CPU limit"), "--cpus", like="0.5", min_value=0, max_digits=6, decimal_places=2)
    cpuset_cpus = said(forms.CharField, _("Only on CPUs"), "--cpuset-cpus", like="0-3")
    cpuset_mems = said(forms.CharField, _("Only on memory nodes"), "--cpuset-mems", like="0")
    cpu_period_us = said(forms.IntegerField, _("CPU period, µs"), "--cpu-period", like="100000", hint=_("In place of the CPU limit."))
    cpu_quota_us = said(forms.IntegerField, _("CPU time in a period, µs"), "--cpu-quota", like="50000")
    blkio_weight = said(forms.IntegerField, _("Disk weight"), "--blkio-weight", like="500", hint=_("10 to 1000."))
    restart_policy = said(forms.ChoiceField, _("Restart"), "--restart", "restart", choices=_POLICIES)
    restart_max_retries = said(forms.IntegerField, _("Restarts, at most"), "", "", min_value=0, hint=_("Of on-failure; empty: no end."))
