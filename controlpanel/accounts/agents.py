"""A browser's User-Agent in a few words, for who looks through a list of sessions. A hint, never a proof: anybody may send anything."""

from __future__ import annotations

import re
from typing import Final

_BROWSERS: Final = (  # the first that is named wins: most claim to be Chrome or Safari as well
    ("Edg", "Edge"),
    ("OPR", "Opera"),
    ("Firefox", "Firefox"),
    ("HeadlessChrome", "Chrome"),
    ("Chrome", "Chrome"),
    ("Version", "Safari"),  # whose own number is the engine's
    ("curl", "curl"),
    ("python-requests", "Python"),
)
_SYSTEMS: Final = (
    ("Android", "Android"),
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Windows", "Windows"),
    ("Mac OS X", "macOS"),
    ("CrOS", "ChromeOS"),
    ("Linux", "Linux"),
)


def in_words(agent: str) -> str:
    """ "Firefox 128, Linux"; what nobody knows, by its own first word."""
    words = []
    for mark, name in _BROWSERS:
        if found := re.search(rf"\b{re.escape(mark)}(?:/(\d+))?", agent):
            words.append(f"{name} {found[1]}" if found[1] else name)
            break
    words += [name for mark, name in _SYSTEMS if mark in agent][:1]
    return ", ".join(words) or agent.split(" ")[0][:40]
