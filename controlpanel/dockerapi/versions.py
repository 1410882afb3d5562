"""What we say we are, and which dialects we speak."""

from __future__ import annotations

import platform
import re
from typing import Final

from engine.errors import InvalidArgument

API: Final = (1, 51)
API_MIN: Final = (1, 24)
API_TEXT: Final = "1.51"
API_MIN_TEXT: Final = "1.24"
ENGINE: Final = "28.5.2+slipway0.1"  # clients compare the first part with Docker's releases
SLIPWAY: Final = "0.1.0"
ARCHITECTURE: Final = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())

HEADERS: Final = [
    (b"server", f"Docker/{ENGINE} (linux)".encode()),
    (b"api-version", API_TEXT.encode()),
    (b"ostype", b"linux"),
    (b"docker-experimental", b"false"),
]

_PREFIX = re.compile(r"^/v([0-9]+)\.([0-9]+)(?:\.[0-9.]+)?(/.*)$")

Version = tuple[int, int]


def split(path: str) -> tuple[Version, str]:
    """``/v1.41/info`` → ((1, 41), "/info"); a path without version speaks the newest. InvalidArgument when out of range."""
    found = _PREFIX.match(path)
    if not found:
        return API, path
    version = int(found[1][:6]), int(found[2][:6])
    text = f"{version[0]}.{version[1]}"
    if version > API:
        raise InvalidArgument(f"client version {text} is too new. Maximum supported API version is {API_TEXT}")
    if version < API_MIN:
        raise InvalidArgument(
            f"client version {text} is too old. Minimum supported API version is {API_MIN_TEXT}, "
            "please upgrade your client to a newer version"
        )
    return version, found[3]


def is_versioned(path: str) -> bool:
    return _PREFIX.match(path) is not None
