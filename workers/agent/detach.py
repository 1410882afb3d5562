"""Detach keys: the filter that looks for them in what is typed."""

from __future__ import annotations

from engine.model.keys import DETACH as DEFAULT
from engine.model.keys import parse

__all__ = ["DEFAULT", "KeyFilter", "parse"]


class KeyFilter:
    """Holds back a beginning of the sequence until it is clear whether it goes on."""

    def __init__(self, keys: bytes) -> None:
        self._keys = keys
        self._held = 0  # bytes of the sequence seen so far
        self.found = False

    def feed(self, data: bytes) -> bytes:
        """What goes to the container now. After ``found``, nothing more does."""
        if not self._held and self._keys[:1] not in data:
            return data
        out = bytearray()
        for byte in data:
            if byte == self._keys[self._held]:
                self._held += 1
                if self._held == len(self._keys):
                    self.found = True
                    break
                continue
            out += self._keys[: self._held]
            self._held = int(byte == self._keys[0])
            if not self._held:
                out.append(byte)
        return bytes(out)
