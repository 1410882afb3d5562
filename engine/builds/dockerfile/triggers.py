"""ONBUILD of a base image: instructions that were stored as text, and come before the stage's own."""

from __future__ import annotations

from collections.abc import Sequence

from engine.builds.dockerfile.model import DockerfileError, From, Instruction, Maintainer, Onbuild
from engine.builds.dockerfile.parse import instruction_of, statements_of


def parse_triggers(triggers: Sequence[str]) -> tuple[Instruction, ...]:
    """In their order; lines are counted within each trigger. DockerfileError for one that is no single instruction.

    The escape is a backslash whatever the file says that builds upon it: the trigger was written for another one.
    """
    return tuple(_trigger(text) for text in triggers)


def _trigger(text: str) -> Instruction:
    data = text.encode(errors="replace")
    if not data.strip():
        raise DockerfileError("onbuild trigger should be a single expression", line=0)
    statements, _directives, _warnings = statements_of(data, "ONBUILD trigger")
    if len(statements) != 1:
        raise DockerfileError("onbuild trigger should be a single expression", line=0)
    instruction = instruction_of(statements[0])
    if isinstance(instruction, From | Maintainer | Onbuild):
        raise DockerfileError(f"{instruction.keyword} isn't allowed as an ONBUILD trigger", line=0)
    return instruction
