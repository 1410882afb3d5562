"""Detach keys, in Docker's syntax."""

from __future__ import annotations

from typing import Final

from engine.errors import InvalidArgument

DETACH: Final = "ctrl-p,ctrl-q"
KEYS_MAX: Final = 200  # the panel's column
_CONTROL: Final = "@abcdefghijklmnopqrstuvwxyz[\\]^_"  # ctrl-@ is 0, ctrl-a is 1, …


def parse(keys: str) -> bytes:
    """Keys separated by commas, each one character or ``ctrl-`` and one of @ a-z [ \\ ] ^ _."""
    if len(keys) > KEYS_MAX:
        raise InvalidArgument(f"Invalid escape keys ({keys[:40]}…) provided: they have at most {KEYS_MAX} characters")
    codes = bytearray()
    for key in keys.split(","):
        if len(key) == 1 and key.isascii():
            codes += key.encode()
        elif key.startswith("ctrl-") and len(key) == 6 and key[5] in _CONTROL:
            codes.append(_CONTROL.index(key[5]))
        else:
            raise InvalidArgument(f"Invalid escape keys ({keys}) provided")
    return bytes(codes)
