"""Names, tags and digests as distribution-spec 1.1.1 spells them. PURE.

acme/shop/web:1.2        repository "acme/shop/web" of tenant acme, tag "1.2"
acme/web@sha256:9f86…    the same by digest
"""

from __future__ import annotations

import re
from typing import Final

NAME_MAX: Final = 255  # characters, as every client has it
DIGITS: Final = {"sha256": 64, "sha512": 128}  # of hex, by algorithm
CANONICAL: Final = "sha256"  # of what a client names by no digest

_PART: Final = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_NAME: Final = re.compile(rf"{_PART}(?:/{_PART})+")  # the tenant, and one part at least
_TAG: Final = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")
_HEX: Final = re.compile(r"[0-9a-f]+")


def is_name(text: str) -> bool:
    return len(text) <= NAME_MAX and _NAME.fullmatch(text) is not None


def is_tag(text: str) -> bool:
    return _TAG.fullmatch(text) is not None


def is_digest(text: str) -> bool:
    algorithm, _colon, digits = text.partition(":")
    return DIGITS.get(algorithm) == len(digits) and _HEX.fullmatch(digits) is not None


def tenant_of(name: str) -> str:
    return name.partition("/")[0]


def fallback_tag(digest: str) -> str:
    """Where clients of registries without a referrers API keep that list (distribution-spec, "Referrers Tag Schema")."""
    return digest.replace(":", "-", 1)[:128]
