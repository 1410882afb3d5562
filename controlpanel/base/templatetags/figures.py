"""Figures as people read them: sizes in IEC units, ages in their largest unit with the exact time on hover."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from django import template
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

register = template.Library()
_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_MINUTE, _HOUR, _DAY = 60, 3600, 86400
AGES: Final = (  # seconds of a unit, and its words; frame.js counts on with the same
    (365 * _DAY, gettext_noop("%(n)d y")),
    (30 * _DAY, gettext_noop("%(n)d mo")),
    (_DAY, gettext_noop("%(n)d d")),
    (_HOUR, gettext_noop("%(n)d h")),
    (_MINUTE, gettext_noop("%(n)d min")),
    (1, gettext_noop("%(n)d s")),
)


@register.filter
def iec(count: int | float) -> str:
    """1536 → "1.5 KiB"; whole numbers stay whole."""
    value = float(count)
    for unit in _UNITS:
        if value < 1024 or unit == _UNITS[-1]:
            break
        value /= 1024
    return f"{value:.0f} {unit}" if value >= 100 or value == int(value) else f"{value:.1f} {unit}"


@register.simple_tag
def age(moment: datetime | None) -> SafeString | str:
    """How long it has lasted: "4 min"."""
    return _time(moment, "%s", "")


@register.simple_tag
def ago(moment: datetime | None) -> SafeString | str:
    """How long ago it was: "4 min ago"."""
    return _time(moment, _("%s ago"), "yes")


@register.simple_tag
def age_words() -> str:
    """For frame.js: "31536000:%(n)d y|…" and the words of ``ago``."""
    return "|".join([*(f"{seconds}:{_(words)}" for seconds, words in AGES), _("%s ago")])


def in_words(seconds: float) -> str:
    """The largest unit alone, never negative: clocks of two machines differ a little."""
    for unit, words in AGES:
        if seconds >= unit:
            return _(words) % {"n": int(seconds // unit)}
    return _(AGES[-1][1]) % {"n": 0}


def _time(moment: datetime | None, pattern: str, is_ago: str) -> SafeString | str:
    if moment is None:
        return "–"
    words = pattern % in_words((timezone.now() - moment).total_seconds())
    stamp = moment.isoformat(timespec="seconds")
    return format_html('<time class="age" datetime="{0}" title="{0}" data-ago="{1}">{2}</time>', stamp, is_ago, words)
