"""Names, tags and digests as distribution-spec 1.1.1 spells them. PURE.

acme/shop/web:1.2        repository "acme/shop/web" of tenant acme, tag "1.2"
acme/web@sha256:9f86…    the same by digest
"""

from __future__ import annotations

import functools
import re
from typing import Final

from engine.errors import InvalidArgument

NAME_MAX: Final = 255  # characters, as every client has it
DIGITS: Final = {"sha256": 64, "sha512": 128}  # of hex, by algorithm
CANONICAL: Final = "sha256"  # of what a client names by no digest

_PART: Final = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_NAME: Final = re.compile(rf"{_PART}(?:/{_PART})+")  # the tenant, and one part at least
_TAG: Final = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")
_PATTERN: Final = re.compile(r"[A-Za-z0-9._*?/-]{1,200}")
_STARS: Final = re.compile(r"\*+")
PATTERN_MAX: Final = 255
_HEX: Final = re.compile(r"[0-9a-f]+")


def is_name(text: str) -> bool:
    return len(text) <= NAME_MAX and _NAME.fullmatch(text) is not None


def is_tag(text: str) -> bool:
    return _TAG.fullmatch(text) is not None


def is_digest(text: str) -> bool:
    algorithm, _colon, digits = text.partition(":")
    return DIGITS.get(algorithm) == len(digits) and _HEX.fullmatch(digits) is not None


def split(reference: str) -> tuple[str, str]:
    """Repository, and tag or digest: of acme/web the tag latest, as docker has it. InvalidArgument for what is none."""
    name, at, digest = reference.partition("@")
    name, _colon, tag = name.partition(":") if not at else (name, "", "")
    found = digest if at else tag or "latest"
    if not is_name(name) or not (is_digest(found) if at else is_tag(found)):
        raise InvalidArgument(f"{reference[:300]!r} is no TENANT/NAME:TAG and no TENANT/NAME@DIGEST")
    return name, found


def matches(pattern: str, name: str) -> bool:
    """``*``: anything within a part, ``?``: one character of one, ``**``: anything, ``a,b``: either. ``team-a/**`` is all of team-a."""
    return any(_compiled(each.strip()).fullmatch(name) is not None for each in pattern.split(","))


@functools.lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    words = {"**": ".*", "*": "[^/]*", "?": "[^/]"}
    return re.compile("".join(words.get(part[:2]) or re.escape(part) for part in re.split(r"(\*\*+|\*|\?)", pattern)))


def check_pattern(pattern: str, what: str) -> None:
    """InvalidArgument for one that can match nothing. With three stars in a pattern at most, matching is quick whatever they are."""
    parts = [each.strip() for each in pattern.split(",")]
    if len(pattern) > PATTERN_MAX or not all(_PATTERN.fullmatch(each) and len(_STARS.findall(each)) <= 3 for each in parts):
        raise InvalidArgument(
            f"invalid pattern of {what} {pattern[:80]!r}: names with * (within a part), ** (anything) and ?, three stars at most, "
            "separated by commas"
        )


def tenant_of(name: str) -> str:
    return name.partition("/")[0]


def fallback_tag(digest: str) -> str:
    """Where clients of registries without a referrers API keep that list (distribution-spec, "Referrers Tag Schema")."""
    return digest.replace(":", "-", 1)[:128]
