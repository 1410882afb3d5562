"""An attempt, what comes of it, and the table of all."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from tests.attack.ground import Ground


class Who(StrEnum):
    """As whom it is tried."""

    CONTAINER = "root in a container"
    USER = "user of another tenant"
    PEER = "network peer"
    AUTHOR = "author of images and archives"
    WEB = "the panel's user, broken into"
    PERSON = "unix user of the host"


PROMISES: Final = {  # tenancy.md 5.2; docs/security.md has them in our words
    "a": "read, list, name, count or time what another tenant has",
    "b": "run code as the host's root, or outside of the tenant's own ids",
    "c": "use more than the quota",
    "d": "reach the control plane, the host's services or another tenant's network, or lie about an address",
    "e": "lead a privileged process out of the tenant's tree",
    "f": "act without an audit record",
}

Act = Callable[["Ground", bool], str]


class Nothing(str):
    """The evidence of who got nothing, and what he was told."""

    __slots__ = ("why",)

    def __new__(cls, why: str) -> Nothing:
        made = super().__new__(cls)
        made.why = why
        return made


class Impossible(Exception):
    """This machine can't show it, and why: counts as not proved."""


@dataclass(frozen=True)
class Attempt:
    """``act(ground, walled)`` says what it got, as evidence; "" is nothing. With ``walled`` False the wall alone is away."""

    promise: str
    name: str
    who: Who
    what: str
    wall: str
    act: Act
    quick: bool

    def tried(self, ground: Ground, *, walled: bool) -> Outcome:
        began = time.monotonic()
        try:
            got, fault = self.act(ground, walled), ""
        except Impossible as reason:
            return Outcome("", f"impossible here: {reason}", time.monotonic() - began, is_impossible=True)
        except Exception as error:  # one attempt that breaks must not hide the others
            got, fault = "", f"{type(error).__name__}: {error} ({traceback.extract_tb(error.__traceback__)[-1].lineno})"
        return Outcome(got, fault, time.monotonic() - began)


@dataclass(frozen=True)
class Outcome:
    got: str
    fault: str
    seconds: float
    is_impossible: bool = False  # on this machine: nobody's fault, and not proved

    @property
    def has_held(self) -> bool:
        return not self.got and not self.fault

    @property
    def as_attack(self) -> str:
        """Of an attempt with the wall in its place."""
        return f"NOT PROVED: {self.fault}" if self.fault else f"BROKEN: {self.got}" if self.got else "held"

    @property
    def as_control(self) -> str:
        """Of one without it."""
        if self.fault or self.got:
            return f"NOT PROVED: {self.fault}" if self.fault else f"succeeds: {self.got}"
        return f"NOT PROVED: it fails without the wall, too{f' ({self.got.why})' if isinstance(self.got, Nothing) else ''}"


ATTEMPTS: Final[list[Attempt]] = []


def attempt(promise: str, who: Who, wall: str, *, quick: bool = False, name: str = "", what: str = "") -> Callable[[Act], Act]:
    """Enters a function under its own name, what is tried being its docstring. ``quick``: cheap enough for each change (CI)."""

    def enter(act: Act) -> Act:
        found = name or act.__name__.replace("_", "-")
        assert promise in PROMISES and found not in {each.name for each in ATTEMPTS}, found
        words = what or " ".join((act.__doc__ or "").split())
        ATTEMPTS.append(Attempt(promise, found, who, words, wall, act, quick))
        return act

    return enter


def table(rows: list[tuple[Attempt, Outcome, Outcome | None]]) -> str:
    """Markdown: one row for each attempt."""
    lines = ["| promise | attempt | as whom | what was tried | result | control: without the wall |", "|---|---|---|---|---|---|"]
    for each, attack, control in rows:
        shown = f"{each.wall}: {control.as_control}" if control else f"{each.wall}: not tried"
        cells = (each.promise, each.name, each.who.value, each.what, attack.as_attack, shown)
        lines.append("| " + " | ".join(_cell(cell) for cell in cells) + " |")
    return "\n".join(lines)


def listed(promise: str, attempts: Iterable[Attempt]) -> str:
    """The table of one promise, as docs/security.md has it."""
    rows = [
        f"| {each.name} | {each.who.value} | {_cell(each.what, 400)} | {_cell(each.wall, 400)} |"
        for each in attempts
        if each.promise == promise
    ]
    return "\n".join(["| attempt | as whom | what is tried | the wall, which the control takes away |", "|---|---|---|---|", *rows])


def _cell(text: str, most: int = 300) -> str:
    return " ".join(text.replace("|", "\\|").split())[:most]
