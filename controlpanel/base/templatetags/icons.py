"""``{% icon "player-play" %}``: one of Tabler's outline icons, inlined so that it takes the text's colour."""

from __future__ import annotations

import re
from functools import cache

from django import template
from django.contrib.staticfiles import finders
from django.utils.safestring import SafeString, mark_safe

register = template.Library()
_OPENING = re.compile(r"<svg[^>]*>", re.DOTALL)


@cache
def _drawing(name: str) -> str:
    """What is inside the file's <svg>; "" when the icon was not installed. Our own file by a name from a template: safe."""
    if not re.fullmatch(r"[a-z0-9-]+", name):
        raise template.TemplateSyntaxError(f"{name!r} is no icon name")
    path = finders.find(f"vendor/icons/{name}.svg")
    if not path:
        return ""
    with open(path) as file:
        text = file.read()
    return _OPENING.sub("", text[text.index("<svg") :], count=1).replace("</svg>", "").strip()


@register.simple_tag
def icon(name: str) -> SafeString:
    """Decorative: the word beside it is what screen readers say."""
    return mark_safe(
        '<svg class="icon" viewBox="0 0 24 24" fill="none" stroke="currentColor" stroke-width="2" stroke-linecap="round" '
        f'stroke-linejoin="round" aria-hidden="true" focusable="false">{_drawing(name)}</svg>'
    )
