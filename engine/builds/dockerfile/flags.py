"""The flags of an instruction: ``--name=value``, each once unless it may be repeated."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, Literal

from engine.builds.dockerfile.words import with_guess

Kind = Literal["text", "texts", "bool"]
TEXT: Final[Kind] = "text"
TEXTS: Final[Kind] = "texts"  # may be repeated
BOOL: Final[Kind] = "bool"


class Flags:
    """What was given. ValueError with moby's sentence for a flag that is unknown, twice there or without its value."""

    def __init__(self, given: Iterable[str], known: Mapping[str, Kind]) -> None:
        self._values: dict[str, list[str]] = {}
        for word in given:
            name, equals, value = word[2:].partition("=")
            kind = known.get(name)
            if kind is None:
                raise ValueError(with_guess(f"unknown flag: --{name}", name, known))
            if name in self._values and kind != TEXTS:
                raise ValueError(f"duplicate flag specified: --{name}")
            if (kind != BOOL and not equals) or (kind == BOOL and equals and not value):
                raise ValueError(f"missing a value on flag: --{name}")
            if kind == BOOL:
                value = value.lower() or "true"
                if value not in ("true", "false"):
                    raise ValueError(f"expecting boolean value for flag --{name}, not: {word.partition('=')[2]}")
            self._values.setdefault(name, []).append(value)

    def text(self, name: str) -> str:
        return self._values.get(name, [""])[0]

    def texts(self, name: str) -> tuple[str, ...]:
        return tuple(self._values.get(name, ()))

    def is_set(self, name: str) -> bool:
        return self.text(name) == "true"

    def choice(self, name: str) -> bool | None:
        """None when it was not given."""
        return self.is_set(name) if name in self._values else None
