"""Which sources of ADD are elsewhere: an address of HTTP, or a git repository."""

from __future__ import annotations

import re
from typing import Final

_URL: Final = re.compile(r"https?://", re.IGNORECASE)
_GIT: Final = re.compile(r"(?:git|ssh)://|git@[\w.\-]+:|https?://[^#?]*\.git(?:[#?]|\Z)", re.IGNORECASE)


def is_url(source: str) -> bool:
    """``http://…``, ``https://…`` that is no git repository."""
    return bool(_URL.match(source)) and not is_git(source)


def is_git(source: str) -> bool:
    """``git://…``, ``git@host:path``, ``ssh://…``, ``https://….git``, each with ``#branch:folder`` if so wished."""
    return bool(_GIT.match(source))
