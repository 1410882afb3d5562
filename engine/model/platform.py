"""Platforms as Docker writes them: ``linux/arm64/v8``, or {"os", "architecture", "variant"} as JSON. containerd's platforms package."""

from __future__ import annotations

import json
import platform as machine
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from engine.errors import InvalidArgument, NotFound

_ARCHITECTURES: Final = {
    "x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64", "armv7l": "arm", "armhf": "arm", "i686": "386", "i386": "386",
}  # fmt: skip
_VARIANTS: Final = {"arm64": "v8", "arm": "v7"}  # what a platform without a variant means


@dataclass(frozen=True, slots=True)
class Platform:
    """``architecture`` in Go's word."""

    os: str
    architecture: str
    variant: str = ""

    @classmethod
    def parse(cls, text: str) -> Platform:
        """InvalidArgument for what is none. ``linux`` alone is this host's architecture, an architecture alone is of linux."""
        if text.lstrip().startswith("{"):
            return cls._from_json(text)
        parts = text.lower().split("/")
        if not all(parts) or len(parts) > 3:
            raise InvalidArgument(f'"{text[:100]}": unknown operating system or architecture: invalid argument')
        if len(parts) == 1:
            return cls("linux", host_architecture()) if parts[0] == "linux" else cls("linux", _architecture(parts[0]))
        return cls(parts[0], _architecture(parts[1]), parts[2] if len(parts) == 3 else "")

    @classmethod
    def _from_json(cls, text: str) -> Platform:
        try:
            given = json.loads(text)
        except (ValueError, RecursionError):
            given = None
        if not isinstance(given, dict) or not all(isinstance(given.get(name) or "", str) for name in ("os", "architecture", "variant")):
            raise InvalidArgument("failed to parse platform: invalid JSON")
        if not given.get("os") or not given.get("architecture"):
            raise InvalidArgument("both OS and Architecture must be provided")
        return cls(given["os"].lower(), _architecture(given["architecture"].lower()), (given.get("variant") or "").lower())

    def fits(self, config: Mapping[str, Any]) -> bool:
        """Whether an image config, or the platform of a descriptor, is of this platform."""
        if (config.get("os") or "linux", config.get("architecture")) != (self.os, self.architecture):
            return False
        usual = _VARIANTS.get(self.architecture, "")
        return not self.variant or (config.get("variant") or usual) == self.variant

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


def host_architecture() -> str:
    """GOARCH, as image configs spell it."""
    return _architecture(machine.machine())


def host_platform() -> Platform:
    return Platform("linux", host_architecture())


def check_platform(config: Mapping[str, Any], wanted: str, name: str) -> None:
    """Nothing when ``wanted`` is empty or fits; else NotFound in moby's words."""
    if wanted and not (asked := Platform.parse(wanted)).fits(config):
        raise NotFound(f"image with reference {name} was found but does not provide the specified platform ({asked})")


def _architecture(word: str) -> str:
    return _ARCHITECTURES.get(word, word)
