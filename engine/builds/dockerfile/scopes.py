"""ARG: where a name has which value.

    global   ARG before the first FROM: seen by FROM and by later global ARGs
    stage    ARG in a stage, from its line on: --build-arg, or the default, or what the global scope says; passed to RUN.
             A stage built FROM an earlier one begins with that one's. ENV of the same name always wins.

Nobody declares the proxies: given, they are seen and passed to RUN, and leave no trace in history or cache. The platform's names
(TARGETARCH, …) belong to the global scope.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from engine.builds.dockerfile import shell
from engine.builds.dockerfile.model import Arg, DockerfileError

_PROXIES: Final = ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
PROXIES: Final = frozenset((*_PROXIES, *map(str.lower, _PROXIES)))


def automatic_arguments(build_platform: str, target_platform: str, stage: str = "") -> dict[str, str]:
    """BUILD… and TARGET… of two platforms (``linux/arm64/v8``), and the name of the stage that is built."""
    found = {"TARGETSTAGE": stage or "default"}
    for side, platform in (("BUILD", build_platform), ("TARGET", target_platform)):
        system, architecture, variant = (*platform.split("/"), "", "")[:3]
        found |= {
            f"{side}PLATFORM": platform, f"{side}OS": system, f"{side}ARCH": architecture, f"{side}VARIANT": variant,
            f"{side}OSVERSION": "",
        }  # fmt: skip
    return found


class GlobalScope:
    """``given``: of --build-arg; a name without a value (None) counts as not given."""

    def __init__(self, given: Mapping[str, str | None], automatic: Mapping[str, str], escape: str = "\\") -> None:
        self.given = {name: value for name, value in given.items() if value is not None}
        self.escape = escape
        self._asked = set(given)
        self._values = {name: self.given.get(name, value) for name, value in automatic.items()}
        self._predefined = frozenset(automatic) | PROXIES
        self._declared: set[str] = set()

    def declare(self, argument: Arg) -> Arg:
        """An ARG before the first FROM; answers it with its default replaced, as the history shows it. DockerfileError."""
        shown, values = _resolved(argument, self.env(), self.given, {}, self.escape)
        self._declared |= {name for name, _default in argument.pairs}
        self._values |= values
        return shown

    def env(self) -> dict[str, str]:
        """For ``expanded`` of FROM."""
        return {**_proxies(self.given), **self._values}

    def stage(self, parent: StageScope | None = None) -> StageScope:
        """A new stage's; ``parent``: of the stage that it is built from."""
        return StageScope(self, parent.arguments if parent else {})

    def note(self, names: set[str]) -> None:
        """Names that a stage has declared."""
        self._declared |= names

    def unused(self) -> list[str]:
        """Given and never declared, sorted: ``[Warning] One or more build-args [a b] were not consumed``."""
        return sorted(self._asked - self._declared - self._predefined)


class StageScope:
    def __init__(self, outer: GlobalScope, inherited: Mapping[str, str]) -> None:
        self._outer = outer
        self.arguments: dict[str, str] = dict(inherited)

    def declare(self, argument: Arg, config_env: Sequence[str]) -> Arg:
        """An ARG of the stage; answers it with its default replaced, as the history shows it. DockerfileError."""
        outer = self._outer
        shown, values = _resolved(argument, self.env(config_env), outer.given, outer.env(), outer.escape)
        outer.note({name for name, _default in argument.pairs})
        self.arguments |= values
        return shown

    def env(self, config_env: Sequence[str]) -> dict[str, str]:
        """For ``expanded``: the arguments, and above them what ENV says (``NAME=value``, of the stage so far and its base)."""
        return {**_proxies(self._outer.given), **self.arguments, **_mapping(config_env)}

    def for_run(self, config_env: Sequence[str]) -> list[str]:
        """``NAME=value`` that a RUN sees besides ``config_env``, sorted."""
        return self._beside({**_proxies(self._outer.given), **self.arguments}, config_env)

    def for_history(self, config_env: Sequence[str]) -> list[str]:
        """Those of them that count: in the cache's key and as ``|N NAME=value …`` before the command. Proxies only if declared."""
        return self._beside(self.arguments, config_env)

    @staticmethod
    def _beside(values: Mapping[str, str], config_env: Sequence[str]) -> list[str]:
        taken = _mapping(config_env)
        return sorted(f"{name}={value}" for name, value in values.items() if name not in taken)


def _resolved(
    argument: Arg, env: Mapping[str, str], given: Mapping[str, str], outer: Mapping[str, str], escape: str
) -> tuple[Arg, dict[str, str]]:
    shown: list[tuple[str, str | None]] = []
    values: dict[str, str] = {}
    for name, default in argument.pairs:
        value = default
        if default is not None:
            try:
                value = shell.expand(default, env, escape)
            except DockerfileError as error:
                if name not in given:  # a default that is not needed may be wrong
                    raise DockerfileError(error.message, line=argument.first_line) from None
        shown.append((name, value))
        effective = given.get(name, outer.get(name) if value is None else value)
        if effective is not None:
            values[name] = effective
    return replace(argument, pairs=tuple(shown)), values


def _proxies(given: Mapping[str, str]) -> dict[str, str]:
    return {name: given[name] for name in PROXIES if name in given}


def _mapping(config_env: Sequence[str]) -> dict[str, str]:
    return {name: value for name, _equals, value in (item.partition("=") for item in config_env)}
